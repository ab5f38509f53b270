"""Normalize: constants per bin, fitted, given or loaded."""

import numpy as np
import pytest
import torch

from temporal.frontends import Chain, Log, MelSpectrogram, Normalize


def frames_of(seed=0, shape=(7, 5, 30)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * torch.arange(1.0, 6.0)[:, None] + torch.arange(5.0)[:, None] * 100


def pooled(frames, lengths):
    return np.concatenate([f[:, :n].double().numpy() for f, n in zip(frames, lengths, strict=True)], 1)


def test_fit_takes_mean_and_population_deviation_of_each_bin():
    frames = frames_of()
    normalize = Normalize().fit(frames)
    values = pooled(frames, [30] * 7)
    # stored in float32: half a unit in the last place, 6e-8
    np.testing.assert_allclose(normalize.mean.numpy(), values.mean(1), rtol=1e-7)
    np.testing.assert_allclose(normalize.std.numpy(), values.std(1), rtol=1e-7)
    expected = (frames - normalize.mean[:, None]) / normalize.std[:, None]
    assert torch.equal(normalize(frames), expected)


def test_fit_does_not_look_beyond_lengths():
    frames, lengths = frames_of(), torch.tensor([30, 1, 0, 7, 29, 12, 5])
    values = pooled(frames, lengths)
    for i, n in enumerate(lengths):
        frames[i, :, n:] = float("nan")
    normalize = Normalize().fit(frames, lengths)
    np.testing.assert_allclose(normalize.mean.numpy(), values.mean(1), rtol=1e-7)
    np.testing.assert_allclose(normalize.std.numpy(), values.std(1), rtol=1e-7)


@pytest.mark.parametrize("pair", [tuple, list])
def test_fit_batch_by_batch_equals_all_at_once(pair):
    frames, lengths = frames_of(), torch.tensor([30, 1, 0, 7, 29, 12, 5])
    whole = Normalize().double().fit(frames, lengths)
    parts = Normalize().double()
    batches = (pair((frames[i : i + 2], lengths[i : i + 2])) for i in range(0, 7, 2))
    assert parts.fit(batches) is parts
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(parts.std, whole.std, rtol=1e-13, atol=1e-13)
    plain = Normalize().double().fit(list(frames_of()))
    torch.testing.assert_close(plain.std, Normalize().double().fit(frames_of()).std, rtol=1e-13, atol=1e-13)


def test_fit_starts_anew():
    assert torch.equal(Normalize().fit(frames_of(1)).fit(frames_of(2)).mean, Normalize().fit(frames_of(2)).mean)


def test_a_large_mean_does_not_cost_the_deviation_its_digits():
    frames = (frames_of().double() - torch.arange(5.0)[:, None] * 100) * 1e-2 + 1e4
    std = Normalize().double().fit(iter(frames.split(3))).std
    np.testing.assert_allclose(std.numpy(), frames.transpose(0, 1).flatten(1).numpy().std(1), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -13.8155, 1e30])
def test_a_constant_bin_keeps_its_scale(value):
    frames = frames_of()
    frames[:, 3] = value
    normalize = Normalize().fit(frames)
    assert normalize.std[3] == 1
    assert (normalize.std[[0, 1, 2, 4]] > 0.9).all()
    assert (normalize(frames)[:, 3].abs() <= abs(value) * 1e-7).all()


def test_unfitted_it_raises_until_it_is_loaded():
    chain = Chain(MelSpectrogram(16000, n_fft=512, n_mels=5), Log(), Normalize())
    for call in (chain, chain.stream):
        with pytest.raises(RuntimeError, match=r"Normalize: mean and std are not known yet; call \.fit"):
            call(torch.zeros(4000))
    fitted = Chain(MelSpectrogram(16000, n_fft=512, n_mels=5), Log(), Normalize().fit(frames_of()))
    assert list(chain.state_dict()) == list(fitted.state_dict()) == ["2.mean", "2.std"]
    chain.load_state_dict(fitted.state_dict())
    wave = torch.randn(2, 4000)
    assert torch.equal(chain(wave), fitted(wave))
    fitted[2].mean.zero_()
    assert chain[2].mean.abs().sum() > 0  # loaded, not shared


def test_loading_another_number_of_bins_into_a_fitted_layer_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        Normalize(torch.zeros(3), torch.ones(3)).load_state_dict(Normalize().fit(frames_of()).state_dict())


def test_numbers_hold_for_every_bin():
    frames = frames_of()
    assert torch.equal(Normalize(2.0, 4.0)(frames), (frames - 2) / 4)


def test_dtypes():
    normalize = Normalize().fit(frames_of())
    assert normalize(frames_of().double()).dtype == torch.float64
    assert normalize(frames_of().bfloat16()).dtype == torch.float32
    assert normalize.double()(frames_of()).dtype == torch.float32


def test_gradcheck():
    normalize = Normalize().double().fit(frames_of())
    torch.autograd.gradcheck(normalize, torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"mean": 1.0}, ValueError, "give mean and std, or neither"),
        ({"std": 1.0}, ValueError, "give mean and std, or neither"),
        ({"mean": torch.zeros(3), "std": torch.ones(2)}, ValueError, "mean has 3 bins, std has 2"),
        ({"mean": 0.0, "std": 0.0}, ValueError, "std has a smallest value of 0; it must be positive"),
        (
            {"mean": torch.zeros(2), "std": torch.tensor([1.0, -1])},
            ValueError,
            "std has a smallest value of -1; it must be positive",
        ),
        ({"mean": float("nan"), "std": 1.0}, ValueError, "mean has values that are not finite"),
        ({"mean": torch.zeros(2, 2), "std": torch.ones(2, 2)}, ValueError, r"mean came as \[2, 2\]"),
    ],
)
def test_bad_constants(arguments, error, message):
    with pytest.raises(error, match=f"Normalize: {message}"):
        Normalize(**arguments)


@pytest.mark.parametrize(
    "frames, lengths, message",
    [
        ([], None, "no valid frame"),
        (torch.zeros(2, 5, 0), None, "no valid frame"),
        (torch.zeros(2, 5, 3), torch.tensor([0, 0]), "no valid frame"),
        (torch.zeros(2, 5, 3), torch.tensor([3, 480]), "lengths reach 480, but there are 3 frames"),
        (torch.zeros(2, 5, 3), torch.tensor([3]), r"lengths came as \[1\]"),
        (torch.zeros(2, 5, 3), torch.tensor([3.0, 3.0]), "give integers"),
        ([torch.zeros(5, 3), torch.zeros(4, 3)], None, "batches with 5 and with 4 bins"),
        ([torch.zeros(5, 3)], torch.tensor([3]), r"in pairs \(frames, lengths\)"),
        (torch.tensor([[1.0, 2.0], [1.0, float("nan")]]), None, r"not finite, in bins \[1\]"),
        (torch.zeros(3), None, r"give \[\.\.\., bins, frames\]"),
    ],
)
def test_bad_frames_to_fit(frames, lengths, message):
    normalize = Normalize()
    with pytest.raises(ValueError, match=message):
        normalize.fit(frames, lengths)
    assert not normalize.fitted


@pytest.mark.parametrize("item", [(torch.zeros(5, 3), 1, 2), np.zeros((5, 3))])
def test_batches_of_another_kind(item):
    with pytest.raises(TypeError, match=r"Normalize: fit met a (tuple of 3 parts|ndarray) .*; give frames or"):
        Normalize().fit([item])


def test_another_number_of_bins():
    with pytest.raises(ValueError, match=r"Normalize: frames \[7, 5, 30\] have 5 bins, not 3"):
        Normalize(torch.zeros(3), torch.ones(3))(frames_of())
