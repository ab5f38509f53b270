"""Background noise: the ratio that was asked for, within the recording, and draws that repeat."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.datasets import BackgroundNoise, generators_for


def decibels(wave):
    return 20 * wave.square().mean(-1).sqrt().log10()


def noises():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(900, generator=generator) * 0.3, torch.randn(5000, generator=generator)]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=5), st.floats(-20, 40), st.integers(0, 3))
def test_the_ratio_is_the_one_asked_for(lengths, ratio, epoch):
    wave = torch.zeros(len(lengths), max(lengths))
    for row, length in zip(wave, lengths, strict=True):
        row[:length] = torch.sin(torch.arange(length) * 0.7 + 0.3) * 0.5
    mix = BackgroundNoise(noises(), ratio, share=1.0)
    noisy = mix(wave, torch.tensor(lengths), generators_for(0, epoch, range(len(lengths))))
    for row, before, length in zip(noisy, wave, lengths, strict=True):
        added = (row - before).double()[:length]
        # What is read off is a difference of float32 numbers: at 40 dB a hundredth of them is left, to 1e-5.
        torch.testing.assert_close(decibels(before[:length].double()) - decibels(added), torch.tensor(ratio).double(),
                                   rtol=0, atol=0.01)  # fmt: skip
        assert not row[length:].any()


def test_ratios_are_spread_and_some_stay_clean():
    wave = torch.sin(torch.arange(1000) * 0.7).repeat(2000, 1)
    noisy = BackgroundNoise(noises(), (0.0, 20.0), share=0.8)(
        wave, torch.full((2000,), 1000), generators_for(0, 0, range(2000))
    )
    clean = (noisy == wave).all(1)
    ratio = (decibels(wave) - decibels(noisy - wave))[~clean]
    assert abs(clean.float().mean() - 0.2) < 0.05  # five standard deviations
    assert ratio.min() >= -0.01 and ratio.max() <= 20.01 and abs(ratio.mean() - 10) < 0.75


def test_silence_becomes_noise_at_its_level_and_silent_noise_adds_nothing():
    zeros, lengths, draws = torch.zeros(20, 500), torch.full((20,), 500), generators_for(0, 0, range(20))
    noisy = BackgroundNoise(noises(), 10.0, share=1.0)(zeros, lengths, draws)
    torch.testing.assert_close(decibels(noisy), torch.full((20,), -40.0), rtol=0, atol=1e-3)
    ones = torch.ones(20, 500)
    quiet = BackgroundNoise([torch.zeros(100)], 10.0, share=1.0)(ones, lengths, generators_for(0, 0, range(20)))
    assert torch.equal(quiet, ones)


def test_a_draw_depends_on_the_recording_alone():
    wave, lengths = torch.rand(4, 300), torch.tensor([300, 10, 200, 299])
    mix = BackgroundNoise(noises(), (0.0, 10.0), share=0.5)
    together = mix(wave, lengths, generators_for(3, 1, [9, 2, 5, 7]))
    for n, index in enumerate((9, 2, 5, 7)):
        alone = mix(wave[n : n + 1], lengths[n : n + 1], generators_for(3, 1, [index]))
        assert torch.equal(alone[0], together[n])
    assert not any(row[n:].any() for row, n in zip(together, lengths.tolist(), strict=True))
    assert not torch.equal(together, mix(wave, lengths, generators_for(3, 2, [9, 2, 5, 7])))


@pytest.mark.parametrize("ratio", [-50.0, 50.0])
def test_what_is_drawn_next_does_not_depend_on_the_share(ratio):
    after = []
    for share in (0.0, 1.0):
        draws = generators_for(0, 0, range(3))
        BackgroundNoise(noises(), ratio, share)(torch.ones(3, 50), torch.tensor([50, 0, 20]), draws)
        after.append([torch.rand(1, generator=g).item() for g in draws])
    assert after[0] == after[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "noises must be one recording"),
        (([torch.zeros(0)],), "none of them empty"),
        (([torch.zeros(2, 3)],), "noises must be"),
        (([torch.ones(3)], (20.0, 0.0)), "must be finite, the lowest first"),
        (([torch.ones(3)], float("nan")), "must be finite"),
        (([torch.ones(3)], 3.0, 1.5), "share=1.5 must be from 0 to 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"BackgroundNoise: .*{message}"):
        BackgroundNoise(*arguments)
