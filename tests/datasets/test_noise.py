import math

import pytest
import torch

from temporal.datasets import Noise, generators_for


def decibels(wave):
    return 20 * wave.square().mean(1).sqrt().log10()


def test_the_ratio_lies_in_its_range_and_varies():
    x = torch.sin(torch.arange(4000) * 0.3) * torch.logspace(-3, 0, 300)[:, None]  # levels over 60 dB
    noise = Noise(10.0)(x, torch.full((300,), 4000), generators_for(0, 0, range(300))) - x
    ratio = decibels(x) - decibels(noise)
    assert ratio.min() >= 10 - 0.05 and ratio.max() <= 60.5  # float32: the softest noise is rounded beside its signal
    assert abs(float(ratio.mean()) - 35) < 3  # uniform over 50 dB: standard error 0.8 dB


def test_silence_becomes_noise_alone():
    level = decibels(Noise(10.0)(torch.zeros(300, 4000), torch.full((300,), 4000), generators_for(0, 0, range(300))))
    assert level.max() <= -40 + 1e-3 and level.min() >= -90 - 1e-3


def test_colours_run_from_white_to_brown():
    wave = Noise(10.0)(torch.zeros(200, 8192), torch.full((200,), 8192), generators_for(0, 0, range(200)))
    power = torch.fft.rfft(wave).abs().square()
    slope = -(power[:, 2048:4096].mean(1) / power[:, 64:128].mean(1)).log2() / math.log2(32)  # five octaves
    assert -0.2 < slope.min() < 0.2 and 1.8 < slope.max() < 2.2


def test_it_is_added_within_the_recording_alone():
    x, lengths = torch.rand(3, 500) + 0.1, torch.tensor([500, 200, 1])
    y = Noise(5.0)(x, lengths, generators_for(1, 0, range(3)))
    for b, n in enumerate(lengths.tolist()):
        assert (y[b, :n] != x[b, :n]).all() and not y[b, n:].any()


def test_a_draw_depends_on_the_recording_alone():
    both = Noise(5.0)(torch.zeros(2, 300), torch.tensor([300, 300]), generators_for(1, 0, [4, 5]))
    one = Noise(5.0)(torch.zeros(1, 300), torch.tensor([300]), generators_for(1, 0, [5]))
    torch.testing.assert_close(one[0], both[1])


def test_bad_arguments():
    for bad in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite"):
            Noise(bad)
    with pytest.raises(ValueError, match="one each"):
        Noise(10.0)(torch.zeros(2, 5), torch.tensor([5, 5]), generators_for(0, 0, [0]))
    assert Noise(10.0)(torch.zeros(2, 0), torch.tensor([0, 0]), generators_for(0, 0, [0, 1])).shape == (2, 0)
