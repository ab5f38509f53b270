import pytest
import torch
from torch import nn

import temporal
from temporal.layers import LastStep, MaxOverTime, MeanOverTime, SumSoftmax

READOUTS = [SumSoftmax, LastStep, MaxOverTime, MeanOverTime]


class Frames(nn.Module):
    """A front end for tests: overlapping frames of 4 samples every 2, centred, zero padded; two bins."""

    hop_length, latency, sample_rate, center, pad_mode = 2, 2, 8000, True, "constant"

    def frames(self, samples):
        return samples // 2 + 1

    def forward(self, wave):
        framed = nn.functional.pad(wave, (2, 2)).unfold(-1, 4, 2)
        return torch.stack(
            [framed.mean(-1) + 1, framed.abs().amax(-1)], -2
        )  # "+ 1": silence is not zero, as after a log


class Sum(nn.Module):
    """Running sum over time: whatever is left beyond a recording's end would show."""

    def forward(self, x, state=None):
        y = x.cumsum(0) + (0 if state is None else state)
        return y, y[-1]


def model(readout=LastStep, **options):
    return temporal.Model(Frames(), Sum(), readout(), **options)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("tail", [0, 3])
def test_a_recording_is_decided_alike_alone_and_in_company(readout, tail):
    net = model(readout, tail=tail)
    lengths = torch.tensor([11, 4, 7, 1])
    alone = [net(torch.randn(1, n, generator=torch.Generator().manual_seed(n))) for n in lengths.tolist()]
    batch = torch.full((4, 15), 7.0)  # 7: garbage in the padding
    for b, n in enumerate(lengths.tolist()):
        batch[b, :n] = torch.randn(1, n, generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(net(batch, lengths), torch.cat(alone), rtol=0, atol=1e-6)


def test_the_tail_is_zero_steps():
    wave = torch.randn(2, 10)
    steps = temporal.to_steps(Frames()(wave))
    longer = torch.cat([steps, torch.zeros(5, 2, 2)])
    expected = SumSoftmax()(Sum()(longer)[0])[0]
    torch.testing.assert_close(model(SumSoftmax, tail=5)(wave), expected)


def test_without_a_front_end_lengths_are_steps():
    net = temporal.Model(None, Sum(), LastStep())
    x = torch.ones(6, 2, 3)
    assert net(x, torch.tensor([6, 2])).tolist() == [[6.0] * 3, [2.0] * 3]


@pytest.mark.parametrize("readout", READOUTS)
def test_a_readout_streams(readout):
    read, y = readout(), torch.randn(9, 2, 4)
    whole, _ = read(y)
    state = None
    for a, b in [(0, 0), (0, 1), (1, 1), (1, 5), (5, 9)]:
        logits, state = read(y[a:b], state)
        torch.testing.assert_close(logits, read(y[:b])[0])
    torch.testing.assert_close(logits, whole)


@pytest.mark.parametrize("readout", READOUTS)
def test_a_readout_ignores_padding_and_has_a_finite_gradient(readout):
    y = torch.randn(9, 3, 4, requires_grad=True)
    lengths = torch.tensor([9, 3, 1])
    logits, _ = readout()(y, lengths=lengths)
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(logits[b : b + 1], readout()(y[:n, b : b + 1])[0])
    (grad,) = torch.autograd.grad(logits.sum(), y)
    assert torch.isfinite(grad).all()
    assert all(grad[n:, b].abs().max() == 0 for b, n in [(1, 3), (2, 1)])


def test_bad_waves():
    net = model()
    with pytest.raises(ValueError, match=r"wave\[None\]"):
        net(torch.zeros(10))
    with pytest.raises(TypeError, match="32768"):
        net(torch.zeros(1, 10, dtype=torch.int16))
    wave = torch.zeros(3, 10)
    wave[1, 4] = torch.nan
    with pytest.raises(ValueError, match=r"\[1\]"):
        net(wave)
    with pytest.raises(ValueError, match="0 to 10"):
        net(torch.zeros(1, 10), torch.tensor([11]))
    with pytest.raises(ValueError, match=r"\[1\] is right"):
        net(torch.zeros(1, 10), torch.tensor([3, 4]))
    with pytest.raises(TypeError, match="integers"):
        net(torch.zeros(1, 10), torch.tensor([3.0]))


def test_reflection_with_unequal_lengths_is_refused():
    net = model()
    net.frontend.pad_mode = "reflect"
    net(torch.zeros(2, 10), torch.tensor([10, 10]))
    with pytest.raises(ValueError, match="constant"):
        net(torch.zeros(2, 10), torch.tensor([10, 9]))


def test_the_sample_rate_is_the_front_ends():
    assert model().sample_rate == 8000
    with pytest.raises(ValueError, match="8000 Hz"):
        model(sample_rate=16000)
    with pytest.raises(ValueError, match="tail=-1"):
        model(tail=-1)


def test_a_front_end_that_asks_for_lengths_is_told_them():
    class Loudness(nn.Module):
        """What depends on the whole recording must not see the padding."""

        sample_rate = 8000

        def frames(self, samples):
            return samples // 4

        def forward(self, wave, lengths=None):
            level = wave.square().sum(1, keepdim=True) / lengths.unsqueeze(1)
            return (wave / level)[:, None, ::4]

    model = temporal.Model(Loudness(), temporal.Sequential(nn.Linear(1, 3)), SumSoftmax())
    wave = torch.rand(2, 80)
    both = model(wave, torch.tensor([80, 40]))
    alone = model(wave[1:, :40], torch.tensor([40]))
    torch.testing.assert_close(both[1:], alone)  # one sum over steps, of other lengths
