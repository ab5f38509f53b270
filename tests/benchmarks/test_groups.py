"""The groups of ``temporal bench`` at their tiniest: every contender is exact, and what is not is told."""

import itertools

import pytest
import torch

from temporal.benchmarks import list_groups
from temporal.benchmarks._measure import QUICK, measure
from temporal.benchmarks._run import group_module
from temporal.benchmarks.groups import _live, _sounds, _work, frontends, lif, memory, neurons
from temporal.benchmarks.groups._work import TOLERANCE, Work, distances, outputs_of
from temporal.kernels import use
from temporal.neurons import ALIF, LIF, AdLIF, CubaLIF, Recurrent

BYTES = {
    "": (8, 20),
    "bfloat16 ": (4, 10),
    "padded ": (6, 14),
    "membranes ": (12, 28),
    "small ": (8, 20),
    "long ": (8, 20),
}


# The others take most of a minute together and are slow tests.
QUICKEST = ("lif", "neurons")


@pytest.mark.parametrize(
    "group", [pytest.param(name, marks=[] if name in QUICKEST else [pytest.mark.slow]) for name in list_groups()]
)
def test_every_contender_is_exact(group):
    """In this process; the peers that are not installed are the only rows without a time."""
    seen = set()
    for build in group_module(group).cases(quick=True):
        result = measure(build(), pace=QUICK)
        assert {row.status for row in result.rows} <= {"ok", "not installed"}, [row.message for row in result.rows]
        assert any(row.contender == result.baseline and row.status == "ok" for row in result.rows)
        assert (result.name, result.shape) not in seen
        seen.add((result.name, result.shape))
        if group in ("lif", "neurons"):
            kind = result.name.removesuffix("training").removesuffix("inference")
            assert result.bytes == result.items * BYTES[kind]["backward" in result.scope]


def test_the_family_is_complete():
    """All of it beside LIF, in both directions; what is learned has a gradient."""
    for build in neurons.cases(quick=True)[::4]:
        case = build()
        assert case.baseline == "temporal LIF" and case.name in ("inference", "training")
        training = case.name == "training"
        results = {name: call() for name, call in case.contenders.items() if call}
        assert {"ParametricLIF", "CubaLIF", "ALIF", "AdLIF", "AdLIF, Euler"} < {
            n.removeprefix("temporal ") for n in results
        }
        parts = {name.removeprefix("temporal "): len(result) for name, (_, result) in results.items()}
        assert parts["ALIF"] == 1 + training and parts["ParametricLIF"] == 1 + 2 * training
        if training:
            assert parts["LIF, tau and threshold learned"] == 4
        works = [work for work, _ in results.values()]
        assert all(0.05 < work.density < 0.4 for work in works), [work.density for work in works]


# --- the work and its truth ---


def layers():
    learned = LIF(torch.linspace(1.5, 4.0, 5), size=5, trainable=("tau", "v_threshold"))
    kinds = [LIF(), learned, CubaLIF(), ALIF(16.0, 128.0), AdLIF(16.0, 128.0), AdLIF(16.0, 128.0, symplectic=False)]
    return [*kinds, LIF(v_reset=-0.5), Recurrent(LIF(), 5), Recurrent(ALIF(4.0, v_reset=None), 5)]


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_distances_are_those_that_decide(layer):
    x = torch.randn(12, 3, 5) * 2 + 1
    before = x.clone()
    away = distances(layer, x)
    with use("reference"):
        spikes, _ = layer.double()(x.double())
    assert torch.equal(away >= 0, spikes.bool()) and spikes.any() and torch.equal(x, before)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("training", [False, True])
def test_work_tells_wrong_spikes_and_gradients(layer, training):
    work = Work.draw(layer, (9, 3, 5), training, mean=1.0, std=2.0)
    assert distances(layer, work.x).abs().min() >= _work.MARGIN and work.density > 0
    right = work.run(outputs_of(layer))
    assert work.error(right) <= TOLERANCE
    flipped = right[0].clone()
    flipped[4, 1, 2] = 1 - flipped[4, 1, 2]
    assert work.error((flipped, *right[1:])) == 1
    assert work.error((right[0][:, :1], *right[1:])) == float("inf")  # would be broadcast
    assert len(right) == 1 + (1 + len(list(layer.parameters()))) * training
    for place in range(1, len(right)):
        wrong = list(right)
        wrong[place] = right[place] * 1.001
        assert work.error(wrong) == pytest.approx(0.001, rel=0.01)  # of the largest
        wrong[place] = right[place] * float("nan")
        assert not work.error(wrong) <= TOLERANCE
        assert work.error(right[:place] + right[place + 1 :]) == float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_currents_keep_away_from_the_threshold(monkeypatch, dtype):
    """Also where the draw puts membranes next to it."""
    monkeypatch.setattr(_work, "MARGIN", 0.002)
    work = Work.draw(LIF(), (50, 4, 16), False, dtype=dtype)
    assert work.x.dtype == dtype and distances(LIF(), work.x).abs().min() >= 0.002


def test_each_neuron_meets_its_own_truth():
    case = neurons.cases(quick=True)[0]()
    (own, result), (other, _) = case.contenders["temporal ALIF"](), case.contenders["temporal LIF"]()
    assert case.check((own, result)) <= case.tolerance < case.check((other, result))


def test_membranes_are_checked():
    _, (spikes, membranes) = (case := neurons.cases(quick=True)[3]()).contenders["temporal functional.lif, membranes"]()
    work, _ = case.contenders["temporal functional.lif, membranes"]()
    assert work.error((spikes, membranes)) <= TOLERANCE < work.error((spikes, membranes + 0.001))


# --- the deep network ---


def test_the_deep_networks_rounding_decides_nothing():
    work = memory._Work(150, 3, 8)
    assert torch.equal(work._fired(torch.float32), work._fired(torch.float64))
    assert all(fired.any() for fired in work._fired(torch.float32))
    draws = itertools.count()
    fired = memory._Work._fired

    def unsure(self, dtype):
        """The second sample differs at first."""
        result = fired(self, dtype)
        if dtype == torch.float32 and next(draws) == 0:
            self.first = self.x.clone()
            result[1, 3, 1, 2] ^= True
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory._Work, "_fired", unsure)
        work = memory._Work(150, 3, 8)
    assert [torch.equal(a, b) for a, b in zip(work.x.unbind(1), work.first.unbind(1), strict=True)] == [
        True,
        False,
        True,
    ]


def test_truncated_gradients_have_a_truth_of_their_own():
    case = memory.cases(quick=True)[0]()
    assert case.memory
    truncate, result = case.contenders[f"temporal truncate={memory.TRUNCATE}"]()
    assert truncate == memory.TRUNCATE and case.check((truncate, result)) <= TOLERANCE < case.check((None, result))
    _, whole = case.contenders['temporal memory="recompute"']()
    assert len(whole) == 1 + 2 * memory.LAYERS  # all weights and biases
    for place in range(1, len(whole)):
        wrong = list(whole)
        wrong[place] = wrong[place] * 1.001
        assert case.check((None, whole)) <= TOLERANCE < case.check((None, wrong))


# --- small calls ---


def test_small_calls_stand_beside_the_reference():
    builders = [
        build for build in lif.cases(quick=False) if build.keywords.get("line") != "long " and build.args[1] == 1
    ]
    small = [build() for build in builders]
    assert [(case.name, case.sweep) for case in small] == [
        (f"small {kind}", ("steps T", at)) for kind in ("inference", "training") for at in (1, 2, 4, 8)
    ]
    assert {case.baseline for case in small} == {lif.REFERENCE}


# --- front ends ---


@pytest.mark.parametrize("gamma", [0.0, 20.0])
def test_the_direct_sum_is_librosas_where_librosa_does_not_decimate(gamma):
    """An odd hop keeps it at the full rate. Its filters are single precision, and its FFTs cut the longest."""
    librosa = pytest.importorskip("librosa")
    bank = _sounds.Bank(16_000, fmin=110.0, bins=36, hop=255, gamma=gamma)
    wave = _sounds.voices(1, 12_000, bank.rate)
    theirs = librosa.vqt(
        wave[0].double().numpy(), sr=bank.rate, hop_length=bank.hop, fmin=bank.fmin, n_bins=bank.bins, gamma=gamma,
        sparsity=0,
    )  # fmt: skip
    assert _sounds.off(theirs, _sounds.direct_constant_q(bank, wave)[0]) < 5e-4


def test_gradients_of_the_waveform_are_of_a_weighted_sum():
    wave = torch.randn(1, 600, requires_grad=True)
    frames = wave.unfold(-1, 100, 100).transpose(-1, -2)
    weight = torch.linspace(0.5, 1.5, 6) * torch.linspace(1.5, 0.5, 100)[:, None]
    torch.testing.assert_close(_sounds.gradient(frames, wave), weight.t().reshape(1, 600))


def test_a_stream_that_grows_or_errs_is_told():
    live = _live.live(16_000, n_fft=512, hop=160, bands=10, chunks=12)
    ours = live["temporal"]
    assert ours().error() < 1e-5
    grown = itertools.count()
    assert _live.Live(ours.chunks, ours.start, ours.truth, lambda push: next(grown)).error() == float("inf")
    assert _live.Live(ours.chunks, ours.start, ours.truth + 1, None).error() > 0.05


def test_the_shapes_of_the_comparison_are_those_that_are_told():
    """nnAudio's own: a tenth of 1,770 clips of 80,000 samples."""
    shapes = [build.args[0] for build in frontends.cases(quick=False) if isinstance(build.args[0], _sounds.Shape)]
    assert set(shapes) == {frontends.MUSIC, frontends.WORDS}
    assert frontends.MAPS // frontends.MAPS_PART == 3 * 59
