"""Augmentations: what they may do to a recording, that neighbours and padding have no say, and that draws repeat."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.datasets import BandMask, TimeMask, TimeShift, generators_for

PROPERTY = settings(derandomize=True, deadline=None)


def waves(lengths, width=None):
    """Recordings of numbers from 1 on, zeros behind."""
    wave = torch.zeros(len(lengths), width or max(lengths))
    for row, n in zip(wave, lengths, strict=True):
        row[:n] = torch.arange(1.0, n + 1)
    return wave, torch.tensor(lengths)


def moved_by_hand(samples, shift, width, keep):
    moved = [0.0] * width
    for t in range(width):
        if 0 <= t - shift < samples and (t < samples or not keep):
            moved[t] = float(t - shift + 1)
    return moved


@PROPERTY
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.integers(0, 12),
    st.integers(0, 12),
    st.booleans(),
    st.integers(0, 9),
    st.integers(0, 3),
)
def test_time_shift_is_a_shift(lengths, later, earlier, keep, seed, epoch):
    wave, counts = waves(lengths)
    before = wave.clone()
    shifted, kept = TimeShift(later, earlier, keep_length=keep)(
        wave, counts, generators_for(seed, epoch, range(len(lengths)))
    )
    assert torch.equal(wave, before)
    assert shifted.shape == (len(lengths), max(lengths) + (0 if keep else later))
    for row, samples, length in zip(shifted.tolist(), lengths, kept.tolist(), strict=True):
        shifts = range(max(-earlier, 1 - samples), (min(later, samples - 1) if keep else later) + 1)
        fits = [s for s in shifts if row == moved_by_hand(samples, s, len(row), keep)]
        assert fits and length == samples if keep else length - samples in fits


def test_time_shift_reaches_every_shift_evenly():
    wave, lengths = waves([20] * 3000)
    _, kept = TimeShift(2, 1)(wave, lengths, generators_for(0, 0, range(3000)))
    counts = torch.bincount(kept - 19, minlength=4)
    # 750 each, standard deviation 24: five of them.
    assert counts.sum() == 3000 and counts.numel() == 4 and (counts - 750).abs().max() < 120


def test_what_lies_beyond_the_length_is_never_drawn_in():
    wave, lengths = torch.full((50, 10), 7.0), torch.full((50,), 4)
    for keep in (False, True):
        shifted, kept = TimeShift(3, keep_length=keep)(wave, lengths, generators_for(0, 0, range(50)))
        assert ((shifted != 0).sum(1) <= 4).all()
        assert not shifted[torch.arange(shifted.shape[1]) >= kept[:, None]].any()


@pytest.mark.parametrize("make", [lambda: BandMask(9, 2), lambda: TimeMask(9, 2, max_share=0.5)])
def test_masks_do_not_depend_on_neighbours_and_padding(make):
    torch.manual_seed(1)
    frames, lengths, indices = torch.randn(5, 16, 30), torch.tensor([30, 1, 12, 7, 25]), [4, 0, 9, 2, 7]
    together = make()(frames, lengths, generators_for(1, 2, indices))
    for n, (length, index) in enumerate(zip(lengths.tolist(), indices, strict=True)):
        alone = make()(frames[n : n + 1, :, :length], None, generators_for(1, 2, [index]))
        # The mean is a float32 sum over another number of elements: rounding, not exactly equal.
        torch.testing.assert_close(together[n, :, :length], alone[0], rtol=0, atol=1e-6)
        assert torch.equal(together[n, :, length:], frames[n, :, length:])


def covered_runs(line):
    """Lengths of the runs of True."""
    runs, run = [], 0
    for value in [*line.tolist(), False]:
        if value:
            run += 1
        elif run:
            runs.append(run)
            run = 0
    return runs


@PROPERTY
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 25), st.integers(0, 3), st.integers(0, 5))
def test_band_masks_cover_whole_bands(bins, steps, width, masks, seed):
    covered = (
        BandMask(width, masks, fill=5.0)(torch.zeros(4, bins, steps), None, generators_for(seed, 0, range(4))) == 5
    )
    assert torch.equal(covered, covered[:, :, :1].expand_as(covered))
    for sample in covered:
        runs = covered_runs(sample[:, 0])
        assert len(runs) <= masks and sum(runs) <= masks * min(width, bins)


@PROPERTY
@given(
    st.lists(st.integers(1, 40), min_size=4, max_size=4),
    st.integers(0, 25),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_time_masks_cover_whole_spans_of_valid_frames(lengths, width, masks, share):
    lengths = torch.tensor(lengths)
    mask = TimeMask(width, masks, max_share=share, fill=5.0)
    covered = mask(torch.zeros(4, 3, 40), lengths, generators_for(0, 0, range(4))) == 5
    assert torch.equal(covered, covered[:, :1].expand_as(covered))
    for sample, length in zip(covered[:, 0], lengths.tolist(), strict=True):
        runs = covered_runs(sample)
        assert len(runs) <= masks and sum(runs) <= masks * min(width, int(share * length))
        assert not sample[length:].any()


def test_masks_reach_every_width_and_place():
    frames = torch.zeros(4000, 6, 5)
    bands = BandMask(2, fill=1.0)(frames, None, generators_for(0, 0, range(4000)))[:, :, 0]
    # Widths 0, 1, 2 with 1333 each (standard deviation 30); the first and last bin are covered as often as each other.
    assert (torch.bincount(bands.sum(1).long()) - 1333).abs().max() < 150
    assert abs(bands[:, 0].sum() - bands[:, 5].sum()) < 150 and bands.sum(0).min() > 300
    times = TimeMask(5, max_share=1.0, fill=1.0)(frames, None, generators_for(0, 0, range(4000)))[:, 0]
    assert torch.bincount(times.sum(1).long()).numel() == 6 and times.sum(0).min() > 1000


@pytest.mark.parametrize("mask", [BandMask(16), TimeMask(30, max_share=1.0)])
def test_the_mean_is_that_of_the_valid_frames(mask):
    torch.manual_seed(2)
    frames, lengths = torch.randn(20, 16, 30) + 3, torch.arange(11, 31)
    masked = mask(frames, lengths, generators_for(0, 0, range(20)))
    changed = masked != frames
    assert changed.any()
    for n, length in enumerate(lengths.tolist()):
        mean = frames[n, :, :length].mean()
        assert torch.allclose(masked[n][changed[n]], mean, rtol=0, atol=1e-5)  # float32 sums of 500 numbers near 3


def test_draws_differ_between_epochs_and_repeat_within():
    frames = torch.randn(8, 40, 50)
    for make in (lambda: BandMask(20), lambda: TimeMask(25, max_share=0.5)):
        first, again = (make()(frames, None, generators_for(0, 0, range(8))) for _ in range(2))
        other = make()(frames, None, generators_for(0, 1, range(8)))
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_one_list_of_generators_serves_several():
    frames = torch.zeros(200, 12, 12)
    generators = generators_for(0, 0, range(200))
    band = BandMask(6, fill=1.0)(frames, None, generators)[:, :, 0].argmax(1).float()
    time = TimeMask(6, max_share=1.0, fill=1.0)(frames, None, generators)[:, 0].argmax(1).float()
    # Places drawn one after the other have nothing to do with each other: |r| of 200 pairs is under 0.25.
    assert torch.corrcoef(torch.stack([band, time]))[0, 1].abs() < 0.25


def test_batches_of_nothing():
    assert BandMask(3)(torch.zeros(0, 4, 5), None, []).shape == (0, 4, 5)
    assert TimeMask(3)(torch.zeros(2, 4, 0), None, generators_for(0, 0, [1, 2])).shape == (2, 4, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeShift(-1), "TimeShift: later=-1, earlier=None must be at least 0 samples"),
        (lambda: BandMask(-1), "BandMask: max_bins=-1 must be at least 0"),
        (lambda: TimeMask(1, -2), "TimeMask: masks=-2 must be at least 0"),
        (lambda: TimeMask(1, max_share=1.5), "TimeMask: max_share=1.5 must be from 0 to 1"),
        (lambda: BandMask(1, fill="zero"), "BandMask: fill='zero' must be a number or 'mean'"),
        (
            lambda: BandMask(1)(torch.zeros(2, 3, 4), None, generators_for(0, 0, [1])),
            "BandMask: 1 generators for a batch of 2",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)
