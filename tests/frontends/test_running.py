"""RunningNormalize and UtteranceNormalize against plain loops, and lengths handed through a Chain and a Model."""

import math

import pytest
import torch

import temporal
from temporal.frontends import Chain, Log, MelSpectrogram, RunningNormalize, UtteranceNormalize
from temporal.layers import SumSoftmax


@pytest.mark.parametrize("prior", [None, (2.0, 3.0)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_running_is_the_recursion(prior, offset):
    x, s, eps = torch.randn(2, 4, 150, dtype=torch.float64) + offset, -math.expm1(-1 / 20), 1e-3
    layer = RunningNormalize(20) if prior is None else RunningNormalize(20, mean=prior[0], std=prior[1])
    mean = torch.zeros(2, 4).double() if prior is None else torch.full((2, 4), prior[0]).double()
    var = torch.zeros(2, 4).double() if prior is None else torch.full((2, 4), prior[1] ** 2).double()
    for t in range(150):
        a = s if prior else s / (1 - (1 - s) ** (t + 1))
        d = x[..., t] - mean
        mean, var = mean + a * d, (1 - a) * (var + a * d**2)
        expected = (x[..., t] - mean) / (var + eps**2).sqrt()
        torch.testing.assert_close(layer.double()(x)[..., t], expected, rtol=1e-6, atol=1e-6)


def test_without_a_prior_it_begins_with_plain_averages():
    x = torch.randn(3, 6, dtype=torch.float64)
    out = RunningNormalize(1e7, eps=1e-9).double()(x)
    assert out[:, 0].eq(0).all()
    expected = (x[:, 5] - x.mean(1)) / x.std(1, correction=0)
    torch.testing.assert_close(out[:, 5], expected, rtol=1e-5, atol=1e-5)


def test_utterance_respects_lengths_and_neighbours():
    frames, lengths = torch.randn(4, 5, 30) * 3 + 100, torch.tensor([30, 1, 0, 17])
    frames[3, :, 17:] = float("nan")
    out = UtteranceNormalize()(frames, lengths=lengths)
    assert out.isfinite().all()
    for i, n in enumerate(lengths.tolist()):
        part = frames[i : i + 1, :, :n].double()
        if n > 1:
            expected = (part - part.mean(-1, keepdim=True)) / part.std(-1, correction=0, keepdim=True)
            torch.testing.assert_close(out[i, :, :n].double(), expected[0], rtol=1e-4, atol=1e-4)
            assert torch.equal(UtteranceNormalize()(frames[i : i + 1, :, :n]), out[i : i + 1, :, :n]) or n < 30
        assert out[i, :, n:].eq(0).all()


@pytest.mark.parametrize("layer", [UtteranceNormalize(), RunningNormalize(10)])
def test_a_bin_that_does_not_change_is_zero_with_finite_gradients(layer):
    frames = torch.full((2, 3, 8), 0.1, requires_grad=True)
    out = layer(frames)
    assert out.abs().max() <= 1e-4
    out.sum().backward()
    assert frames.grad.isfinite().all()
    assert layer(torch.zeros(2, 3, 0)).shape == (2, 3, 0)


@pytest.mark.parametrize("make", [UtteranceNormalize, lambda **o: RunningNormalize(5, **o)])
def test_gradcheck_with_what_learns(make):
    layer = make(size=3, trainable=("gain", "offset")).double()
    x = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(layer, x)
    assert [name for name, _ in layer.named_parameters()] == ["gain", "offset"]
    run = lambda gain, offset: torch.func.functional_call(layer, {"gain": gain, "offset": offset}, (x.detach(),))  # noqa: E731
    torch.autograd.gradcheck(run, (layer.gain, layer.offset))


def test_lengths_reach_a_stage_in_its_own_frames():
    mel = MelSpectrogram(16000, n_fft=256, hop_length=80, n_mels=10)
    chain = Chain(Chain(mel, Log()), UtteranceNormalize())
    wave, lengths = torch.randn(2, 2000), torch.tensor([2000, 900])
    wave[1, 900:] = 0
    out = chain(wave, lengths=lengths)
    alone = chain(wave[1:, :900])
    frames = mel.frames(900)
    torch.testing.assert_close(out[1:, :, :frames], alone, rtol=1e-3, atol=1e-3)
    model = temporal.Model(chain, torch.nn.Linear(10, 3), SumSoftmax())
    torch.testing.assert_close(model(wave, lengths)[1:], model(wave[1:, :900]), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r"stage 1 \(Dropout\) has no .frames, so lengths do not reach stage 2"):
        Chain(mel, torch.nn.Dropout(), UtteranceNormalize())(wave, lengths=lengths)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: UtteranceNormalize().stream(torch.zeros(2, 3)), "use RunningNormalize"),
        (lambda: UtteranceNormalize()(torch.zeros(2, 3, 4), torch.tensor([1])), r"lengths came as \[1\]"),
        (lambda: UtteranceNormalize()(torch.zeros(1, 3, 4), torch.tensor([5])), "lengths reach 5, but there are 4 frames"),
        (lambda: UtteranceNormalize(trainable=("gain",)), "give size"),
        (lambda: UtteranceNormalize(size=4)(torch.zeros(3, 4)), "have 3 bins, not size=4"),
        (lambda: RunningNormalize(0), "time_constant=0 frames must be greater than 0"),
        (lambda: RunningNormalize(5, mean=1.0), "give mean and std"),
        (lambda: RunningNormalize(5, mean=0.0, std=0.0), "std has a smallest value of 0"),
        (lambda: RunningNormalize(5, mean=torch.zeros(2), std=1.0)(torch.zeros(3, 4)), "have 3 bins, but the prior 2"),
        (lambda: RunningNormalize(5).flush(None), "flush needs the state"),
    ],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
