"""The cochlea's kernels: the table against the equations, numba against torch, random numbers against their publication."""

import itertools
import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels.cochlea import BACKENDS, PRESETS, Ear, _table, blocks, keys, philox, reference, start
from temporal.kernels.cochlea._circle import circle
from temporal.kernels.cochlea.linear import linear_response, smooth
from temporal.kernels.cochlea.noise import uniforms
from temporal.kernels.cochlea.transfer import LENGTH, Transfer, velocity_response

# Membranes: float32 FFTs and the interpolation between their points, 1e-6 of the peak together. Probabilities: the same, and
# float32 sums over thousands of Euler's steps.
MEMBRANE, PROBABILITY = 2e-6, 5e-6


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPORAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def cpu():
    return BACKENDS.choose(torch.device("cpu"), False)


def recordings(count, samples, seed=0):
    return torch.randn(count, samples, generator=torch.Generator().manual_seed(seed)) * 0.3


def assert_close_to_peak(ours, theirs, tolerance):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_the_table_gives_the_equations():
    table = Transfer.computed(40)
    frequencies = np.concatenate([np.linspace(1, 300, 700), np.linspace(300, 48_000, 3001)[1:]])
    exact = velocity_response(2 * np.pi * frequencies[None], np.linspace(0, LENGTH, 40)[:, None])
    error = np.abs(table(frequencies) - exact).max(1) / np.abs(exact).max(1)
    assert error.max() < 2e-7  # its polynomials' rest
    assert np.array_equal(table(frequencies, 7, 9), table(frequencies)[7:9])


def test_places_have_the_known_best_frequencies():
    table = _table.load(700)
    known = {200: 4480, 300: 2116, 400: 1001, 500: 473, 600: 221, 699: 100}
    for channel, frequency in known.items():
        assert table.best[channel] == pytest.approx(frequency, rel=0.005)  # read off grids of 0.3 % here and 1 Hz there


@pytest.mark.parametrize("samples", [16, 17, 26, 3000, 6001, 7820, 8191])
@pytest.mark.parametrize("channels", [1, 70])
def test_circular_equals_the_reference(samples, channels):
    """Odd and even numbers of samples and of steps, steps with large prime factors and without, part of a block of lanes."""
    ear = Ear(16_000, channels, "lauscher", "travelling_wave")
    wave = recordings(2, samples)
    noise, _ = keys(wave, 3)
    for output, tolerance in (("membrane", MEMBRANE), ("probability", PROBABILITY)):
        ours, theirs = (backend.circular(ear, wave, noise, output) for backend in (cpu(), reference))
        assert_close_to_peak(ours, theirs, tolerance)


@pytest.mark.parametrize("preset, rate", [("lauscher", 16_000), ("article", 48_000)])
def test_linear_equals_the_reference(preset, rate):
    ear = Ear(rate, 70, preset, "travelling_wave")
    cut = blocks(rate)
    samples = recordings(2, cut.size)
    noise, _ = keys(samples[:, : cut.block], 1)
    for output, tolerance in (("membrane", MEMBRANE), ("probability", PROBABILITY)):
        (ours, after), (theirs, expected) = (
            backend.linear(ear, samples, noise, start(ear, 2, samples), 0, output) for backend in (cpu(), reference)
        )
        assert_close_to_peak(ours, theirs, tolerance)
        assert_close_to_peak(after[:, :3], expected[:, :3], PROBABILITY)


@pytest.mark.parametrize("first", [0, 30])
def test_gammatone_equals_the_reference_and_its_impulse_response(first):
    ear = Ear(16_000, 70, "lauscher", "gammatone")
    samples = recordings(2, 1200)
    noise, _ = keys(samples, 1)
    state = start(ear, 2, samples)
    for output, tolerance in (
        ("membrane", 2e-5),
        ("probability", 2e-5),
    ):  # poles in float32 have 6e-8 / (1 - |a|) of error
        (ours, after), (theirs, expected) = (
            backend.gammatone(ear, samples, noise, state, first, output) for backend in (cpu(), reference)
        )
        assert_close_to_peak(ours, theirs, tolerance)
        assert_close_to_peak(after[:, -8:], expected[:, -8:], 1e-4)
        if output == "membrane":
            pole, gain = ear.gammatone
            n = np.arange(1200)
            response = gain[:, None] * ((n + 1) * (n + 2) * (n + 3) / 6 * pole[:, None] ** n).real
            whole = np.stack([[np.convolve(x, h)[1:1200:2] for h in response] for x in samples.double().numpy()])
            assert_close_to_peak(ours.double(), torch.from_numpy(whole), tolerance)


@pytest.mark.parametrize("preset, rate", [("lauscher", 16_000), ("lauscher", 11_025), ("article", 48_000)])
def test_spikes_equal_the_reference(preset, rate):
    """From the same membranes (a gammatone's, which have no FFT) all draws but those on a rounding's edge are the same."""
    ear = Ear(rate, 64, preset, "gammatone")
    samples = recordings(2, 4000, seed=5) * torch.tensor([[5.0], [30.0]])  # the second drives the cells to their limits
    noise, _ = keys(samples, 9)
    (ours, after), (theirs, _) = (
        backend.gammatone(ear, samples, noise, start(ear, 2, samples), 0, "spikes") for backend in (cpu(), reference)
    )
    assert theirs[0].sum() > 50 and theirs[1].sum() > 50
    assert (ours != theirs).sum() <= 0.01 * theirs.sum()
    events, _ = cpu().gammatone(ear, samples, noise, start(ear, 2, samples), 0, "events")
    for dense, (steps, channels) in zip(ours, events, strict=True):
        assert torch.equal(dense.T.nonzero(), torch.stack((steps, channels), 1).long())
    last = after[:, reference.RING : reference.RING + ear.refractory].sum(1)
    assert (after[:, reference.AVAILABLE] + last == 40).all()


def test_a_fibre_counts_as_binomial():
    """Means and variances of the inversion at even numbers, against n p and n p (1 - p)."""
    numbers = (torch.arange(1 << 14) + 0.5) / (1 << 14)
    for trials, p in itertools.product((0.0, 1.0, 7.0, 40.0), (0.0, 0.003, 0.2, 0.5, 0.51, 0.9, 1.0, 1.6)):
        count = reference.binomial(torch.full_like(numbers, trials), torch.full_like(numbers, p), numbers).double()
        p = min(p, 1.0)
        assert count.mean().item() == pytest.approx(trials * p, abs=2e-3)
        assert count.var(unbiased=False).item() == pytest.approx(trials * p * (1 - p), rel=0.02, abs=2e-3)


def test_releases_of_the_compiled_loop_are_binomial():
    """Through the state: after one step of silence, 40 - available fibres have released."""
    ear = Ear(48_000, 700, "article", "gammatone")
    silence = torch.zeros(60, 2)
    state = start(ear, 60, silence)
    state[:, 1] = torch.linspace(0, 0.4, 700)  # transmitter in the cleft: probabilities of 0 to 0.64 in the next step
    p = cpu().gammatone(ear, silence, torch.arange(60)[:, None], state, 0, "probability")[0][0, :, 0].double()
    _, after = cpu().gammatone(ear, silence, torch.arange(60)[:, None] * 7919, state, 0, "spikes")
    released = (40 - after[:, reference.AVAILABLE]).double()
    for low in range(0, 700, 100):
        part, expected = released[:, low : low + 100], p[low : low + 100]
        deviation = (60 * 40 * (expected * (1 - expected)).sum()).sqrt()
        assert (part.sum() - 60 * 40 * expected.sum()).abs() < 4 * deviation


def test_random_numbers_are_philoxs():
    """The known answers that Salmon et al. publish with their code (kat_vectors, philox4x32 10)."""
    ones = torch.tensor([-1])
    for key, counter, expected in (
        (torch.tensor([0]), torch.tensor([0]), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ones, ones, None),
    ):
        words = philox(key, counter, counter, counter)
        assert all(((word >= 0) & (word < 1)).all() for word in words)
        if expected:
            assert [word.item() for word in words] == [(value >> 8) * 2.0**-24 for value in expected]
    many = torch.cat([uniforms(torch.tensor([5, 6]), group, 700).flatten() for group in range(60)]).double()
    assert abs(many.mean() - 0.5) < 4 * (1 / 12 / len(many)) ** 0.5
    counts = torch.histc(many, 64, 0, 1)
    assert ((counts - len(many) / 64) ** 2 / (len(many) / 64)).sum() < 63 + 4 * (2 * 63) ** 0.5


@settings(derandomize=True, deadline=None, max_examples=30)
@given(cut=st.integers(0, 6), seed=st.integers(-(2**70), 2**70))
def test_keys_depend_on_what_came_before_alone(cut, seed):
    wave = recordings(3, 64 * 6 + 20)
    whole, _ = keys(wave, seed)
    assert whole.shape == (3, 7)
    first, heard = keys(wave[:, : 64 * cut], seed)
    rest, _ = keys(wave[:, 64 * cut :], seed, heard)
    assert torch.equal(torch.cat((first[:, :-1], rest), 1), whole)
    assert torch.equal(keys(wave[1:2], seed)[0], whole[1:2])
    assert torch.equal(keys(torch.nn.functional.pad(wave, (0, 300)), seed)[0][:, :7], whole)
    assert len(set(whole[:, 1:].flatten().tolist())) == 18
    assert not (keys(wave, seed + 1)[0] == whole).any()
    changed = wave.clone()
    changed[0, 100] += 1e-6
    assert torch.equal(
        keys(changed, seed)[0] != whole, torch.arange(7).ge(2) & torch.tensor([[True], [False], [False]])
    )


def test_threads_and_neighbours_change_no_bit():
    ear = Ear(16_000, 200, "lauscher", "travelling_wave")
    wave = recordings(3, 5000)
    noise, _ = keys(wave, 0)
    alone = None
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found = [cpu().circular(ear, wave, noise, output) for output in ("membrane", "probability", "spikes")]
            single = [
                cpu().circular(ear, wave[1:2], noise[1:2], output) for output in ("membrane", "probability", "spikes")
            ]
            assert all(torch.equal(whole[1:2], one) for whole, one in zip(found, single, strict=True))
            assert alone is None or all(map(torch.equal, found, alone))
            alone = found
    finally:
        torch.set_num_threads(threads)


def test_responses_are_cut_where_they_are_small():
    """Energy outside of what overlap-save keeps, place by place."""
    for rate in (16_000, 48_000):
        ear, cut = Ear(rate, 36, "lauscher", "travelling_wave"), blocks(rate)
        assert cut.behind + cut.block + cut.ahead <= cut.size and cut.behind % 2 == cut.size % 4 == 0
        length = 2 * rate
        exact = np.fft.irfft(ear.transfer(np.linspace(1, rate // 2, length // 2 + 1)), n=length)
        ours = np.fft.irfft(linear_response(ear)[0] + 1j * linear_response(ear)[1], n=cut.size)
        kept = np.zeros_like(exact)
        kept[:, : cut.behind + 1], kept[:, -cut.ahead :] = ours[:, : cut.behind + 1], ours[:, -cut.ahead :]
        lost = np.sqrt(((exact - kept) ** 2).sum(1) / (exact**2).sum(1))
        # Root mean square; the places at the base ring on at the Nyquist frequency, where their band ends sharply.
        assert lost[ear.transfer.best < 0.4 * rate].max() < 5e-4 and lost.max() < 0.03


@pytest.mark.parametrize("steps", [1, 2, 9, 101, 3911, 8001, 24_001])
def test_friendly_lengths(steps):
    plan = circle(steps)
    factors = plan.size
    for prime in (2, 3, 5):
        while factors % prime == 0:
            factors //= prime
    assert factors == 1 and plan.size >= steps and plan.base.min() >= 0
    assert smooth(steps) == next(n for n in range(steps, 2 * steps + 1) if _is_smooth(n))


def _is_smooth(n):
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1


def test_presets_are_stable_at_their_lowest_rate():
    for cell in PRESETS.values():
        assert (cell.l + cell.r) * 2 / cell.lowest_rate < 1.7


class TestTable:
    """The file of transfer functions between processes."""

    def test_kept_and_read(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path))
        made = _table.load.__wrapped__(5)
        assert [file.name for file in (tmp_path / "cochlea").iterdir()] == [_table.table_file(5).name]
        monkeypatch.setattr(Transfer, "computed", None)  # not called again
        again = _table.load.__wrapped__(5)
        assert all(np.array_equal(getattr(made, name), getattr(again, name)) for name in vars(made))

    @pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: data[:-1] + b"x", lambda data: b""])
    def test_a_broken_file_is_replaced(self, damage, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path))
        _table.load.__wrapped__(3)
        file = _table.table_file(3)
        whole = file.read_bytes()
        file.write_bytes(damage(whole))
        _table.load.__wrapped__(3)
        assert file.read_bytes() == whole

    def test_a_folder_that_cannot_be_written(self, tmp_path, monkeypatch, caplog):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path / "file"))
        assert _table.load.__wrapped__(2).best.shape == (2,)
        assert "is not kept" in caplog.text

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_processes_at_once(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path))
        with multiprocessing.get_context("fork").Pool(4) as pool:
            sums = pool.map(_load_sum, [4] * 8)
        assert len(set(sums)) == 1
        assert [file.name for file in (tmp_path / "cochlea").iterdir()] == [_table.table_file(4).name]


def _load_sum(channels):
    return float(_table.load.__wrapped__(channels).amplitude.sum())
