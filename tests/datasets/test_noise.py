import math

import pytest
import torch

from temporal.datasets import Noise, generators_for


def test_levels_lie_in_their_range_and_vary():
    wave = Noise(-20.0)(torch.zeros(300, 4000), torch.full((300,), 4000), generators_for(0, 0, range(300)))
    level = 20 * wave.square().mean(1).sqrt().log10()
    assert level.max() <= -20 + 1e-3 and level.min() >= -70 - 1e-3
    assert abs(float(level.mean()) + 45) < 3  # uniform over 50 dB: standard error 0.8 dB


def test_colours_run_from_white_to_brown():
    wave = Noise(-20.0)(torch.zeros(200, 8192), torch.full((200,), 8192), generators_for(0, 0, range(200)))
    power = torch.fft.rfft(wave).abs().square()
    slope = -(power[:, 2048:4096].mean(1) / power[:, 64:128].mean(1)).log2() / math.log2(32)  # five octaves
    assert -0.2 < slope.min() < 0.2 and 1.8 < slope.max() < 2.2


def test_it_is_added_within_the_recording_alone():
    x, lengths = torch.rand(3, 500), torch.tensor([500, 200, 1])
    y = Noise(-30.0)(x, lengths, generators_for(1, 0, range(3)))
    quiet = Noise(-30.0)(torch.zeros_like(x), lengths, generators_for(1, 0, range(3)))
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[b, :n], x[b, :n] + quiet[b, :n], rtol=0, atol=1e-6)
        assert not y[b, n:].any()


def test_a_draw_depends_on_the_recording_alone():
    both = Noise(-30.0)(torch.zeros(2, 300), torch.tensor([300, 300]), generators_for(1, 0, [4, 5]))
    one = Noise(-30.0)(torch.zeros(1, 300), torch.tensor([300]), generators_for(1, 0, [5]))
    torch.testing.assert_close(one[0], both[1])


def test_bad_arguments():
    for bad in (0.0, 3.0, float("nan")):
        with pytest.raises(ValueError, match="below 0 dB"):
            Noise(bad)
    with pytest.raises(ValueError, match="one each"):
        Noise(-20.0)(torch.zeros(2, 5), torch.tensor([5, 5]), generators_for(0, 0, [0]))
    assert Noise(-20.0)(torch.zeros(2, 0), torch.tensor([0, 0]), generators_for(0, 0, [0, 1])).shape == (2, 0)
