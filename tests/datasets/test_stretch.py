import pytest
import torch

from temporal.datasets import Gain, Stretch, generators_for


def ramp(batch, bins, frames):
    """x[k, t] = 10 k + t: bilinear interpolation of it is exact."""
    return (10 * torch.arange(float(bins))[:, None] + torch.arange(float(frames))).expand(batch, bins, frames).clone()


def test_frames_are_those_of_the_stretched_recording():
    x, lengths = ramp(5, 8, 40), torch.tensor([40, 40, 33, 20, 1])
    draws = [torch.rand(2, generator=g) * 2 - 1 for g in generators_for(1, 2, range(5))]
    y, new = Stretch(0.3, 0.1)(x, lengths, generators_for(1, 2, range(5)))
    for b, (a, c) in enumerate(draws):
        speed, pitch = 1.3 ** float(a), 1.1 ** float(c)
        n = int(lengths[b])
        assert int(new[b]) == max(1, round(n / speed))
        time = (torch.arange(float(new[b])) * speed).clamp(max=n - 1)
        bins = (torch.arange(8.0) * pitch).clamp(max=7)
        # float32 positions in -1..1 over 40 frames: 1e-5 of a frame
        torch.testing.assert_close(y[b, :, : new[b]], 10 * bins[:, None] + time, rtol=0, atol=1e-3)
        assert y[b, :, new[b] :].abs().sum() == 0


def test_what_lies_beyond_a_recording_does_not_enter():
    x, lengths = torch.rand(2, 8, 30), torch.tensor([30, 12])
    dirty = x.clone()
    dirty[1, :, 12:] = 1e6
    clean, new = Stretch(0.5, 0.1)(x, lengths, generators_for(0, 0, range(2)))
    other, _ = Stretch(0.5, 0.1)(dirty, lengths, generators_for(0, 0, range(2)))
    torch.testing.assert_close(other[1, :, : new[1]], clean[1, :, : new[1]], rtol=1e-5, atol=1e-5)


def test_nothing_to_change_changes_nothing():
    x, lengths = torch.rand(3, 8, 30), torch.tensor([30, 30, 30])
    y, new = Stretch(0, 0)(x, lengths, generators_for(0, 0, range(3)))
    assert torch.equal(new, lengths)
    torch.testing.assert_close(y, x, rtol=1e-5, atol=1e-5)
    assert torch.equal(Gain(0)(x[:, 0], generators_for(0, 0, range(3))), x[:, 0])


def test_gain_stays_in_its_range_and_differs_between_recordings():
    factors = Gain(6)(torch.ones(200, 1), generators_for(0, 0, range(200)))[:, 0]
    assert factors.min() >= 10 ** (-6 / 20) and factors.max() <= 10 ** (6 / 20)
    assert factors.unique().numel() > 190
    again = Gain(6)(torch.ones(3, 1), generators_for(0, 0, [7, 8, 9]))[:, 0]
    assert torch.equal(again, factors[7:10]), "a draw depends on the recording alone"


def test_bad_arguments():
    for bad in (lambda: Stretch(-0.1), lambda: Stretch(0.1, -1), lambda: Stretch(float("nan")), lambda: Gain(-1)):
        with pytest.raises(ValueError, match="at least 0"):
            bad()
    with pytest.raises(ValueError, match="one each"):
        Stretch(0.1)(torch.rand(2, 3, 4), torch.tensor([4, 4]), generators_for(0, 0, [1]))
    with pytest.raises(ValueError, match="one each"):
        Gain(1)(torch.rand(2, 3), generators_for(0, 0, [1]))
