"""Augmentations of spikes: what each may do, that neighbours and padding have no say, and that draws repeat."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.datasets import (
    SHD,
    Blend,
    ChannelMask,
    ChannelShift,
    SpikeDrop,
    SpikeJitter,
    StepMask,
    StepShift,
    collate_spikes,
    generators_for,
)

PROPERTY = settings(derandomize=True, deadline=None)
PLAIN = {
    "StepMask": lambda: StepMask(9, 2, max_share=0.5),
    "ChannelMask": lambda: ChannelMask(5, 2),
    "StepShift": lambda: StepShift(4, 3),
    "StepShift, kept": lambda: StepShift(4, keep_length=True),
    "ChannelShift": lambda: ChannelShift(4),
    "SpikeJitter": lambda: SpikeJitter(1.5, 0.8),
    "SpikeDrop": lambda: SpikeDrop(0.3),
}


def batch(lengths, channels=12, seed=0):
    """Counts from 0 to 3, zero beyond lengths."""
    draw = torch.Generator().manual_seed(seed)
    spikes = torch.randint(-2, 4, (max(lengths), len(lengths), channels), generator=draw).clamp(min=0).float()
    lengths = torch.tensor(lengths)
    return spikes * (torch.arange(len(spikes))[:, None] < lengths)[..., None], lengths


def apply(augment, spikes, lengths, draws):
    out = augment(spikes, lengths, draws)
    return out if isinstance(out, tuple) else (out, lengths)


@pytest.mark.parametrize("name", PLAIN)
@PROPERTY
@given(st.lists(st.integers(1, 25), min_size=1, max_size=5), st.integers(0, 3), st.integers(0, 3))
def test_each_recording_by_itself(name, lengths, seed, epoch):
    """In a batch, with padding, as alone; the input stays; counts stay counts; nothing lies beyond the length."""
    spikes, counts = batch(lengths)
    before = spikes.clone()
    indices = [7 * n for n in range(len(lengths))]
    augment = PLAIN[name]()
    out, new = apply(augment, spikes, counts, generators_for(seed, epoch, indices))
    assert torch.equal(spikes, before) and out.shape[1:] == spikes.shape[1:] and len(out) >= len(spikes)
    assert (new >= 1).all() and (new <= len(out)).all() and torch.equal(out, out.round()) and (out >= 0).all()
    for n, length in enumerate(lengths):
        alone, one = apply(augment, spikes[:length, n : n + 1], counts[n : n + 1],
                           generators_for(seed, epoch, [indices[n]]))  # fmt: skip
        assert one[0] == new[n] and torch.equal(alone[: one[0], 0], out[: new[n], n])
        assert not out[new[n] :, n].any()
    again, _ = apply(augment, spikes, counts, generators_for(seed, epoch, indices))
    assert torch.equal(again, out)


@pytest.mark.parametrize("name", PLAIN)
def test_draws_differ_between_epochs(name):
    spikes, lengths = batch([25] * 6)
    one, two = (apply(PLAIN[name](), spikes, lengths, generators_for(0, epoch, range(6)))[0] for epoch in (0, 1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("name", PLAIN)
def test_nothing(name):
    out, lengths = apply(PLAIN[name](), torch.zeros(5, 0, 4), torch.zeros(0, dtype=torch.int64), [])
    assert out.shape[1:] == (0, 4) and lengths.shape == (0,)
    silent, _ = apply(PLAIN[name](), torch.zeros(5, 2, 4), torch.tensor([5, 1]), generators_for(0, 0, [0, 1]))
    assert not silent.any()


@pytest.mark.parametrize("name", PLAIN)
def test_other_dtypes_keep_them(name):
    spikes, lengths = batch([9, 4])
    for dtype in (torch.float64, torch.bfloat16, torch.uint8):
        out, _ = apply(PLAIN[name](), spikes.to(dtype), lengths, generators_for(0, 0, [0, 1]))
        truth, _ = apply(PLAIN[name](), spikes, lengths, generators_for(0, 0, [0, 1]))
        assert out.dtype == dtype and torch.equal(out.float(), truth)


def test_masks_cover_whole_steps_and_channels():
    ones, lengths = torch.ones(20, 200, 30), torch.full((200,), 20)
    steps = StepMask(4)(ones, lengths, generators_for(0, 0, range(200)))[..., 0]
    assert torch.equal(StepMask(4)(ones, lengths, generators_for(0, 0, range(200))), steps[..., None].expand_as(ones))
    assert (20 - steps.sum(0)).unique().tolist() == [0, 1, 2, 3, 4]
    channels = ChannelMask(5)(ones, lengths, generators_for(0, 0, range(200)))[0]
    assert (30 - channels.sum(1)).unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_shifts_are_shifts_of_every_size():
    spikes, lengths = batch([15] * 400)
    out, new = StepShift(2, 1)(spikes, lengths, generators_for(0, 0, range(400)))
    shift = new - 15
    assert shift.unique().tolist() == [-1, 0, 1, 2]
    for n, s in enumerate(shift.tolist()):
        truth = torch.zeros(17, 12)
        truth[max(s, 0) : 15 + s] = spikes[max(-s, 0) :, n]
        assert torch.equal(out[:, n], truth)
    moved = ChannelShift(2)(spikes, lengths, generators_for(0, 0, range(400)))
    found = set()
    for n in range(400):
        fits = [s for s in range(-2, 3) if torch.equal(moved[:, n], roll(spikes[:, n], s))]
        assert len(fits) == 1
        found.add(fits[0])
    assert found == {-2, -1, 0, 1, 2}


def roll(x, s):
    moved = torch.zeros_like(x)
    moved[:, max(s, 0) : x.shape[1] + min(s, 0)] = x[:, max(-s, 0) : x.shape[1] + min(-s, 0)]
    return moved


def test_a_kept_length_cuts_at_the_end():
    spikes, lengths = batch([6, 3])
    for seed in range(20):
        out, new = StepShift(9, keep_length=True)(spikes, lengths, generators_for(seed, 0, [0, 1]))
        assert torch.equal(new, lengths) and out.shape == spikes.shape


def test_jitter_moves_as_far_as_it_says():
    spikes = torch.zeros(101, 50, 81)
    spikes[50, :, 40] = 40
    lengths = torch.full((50,), 101)
    out = SpikeJitter(3.0, 2.0)(spikes, lengths, generators_for(0, 0, range(50)))
    assert out.sum() == 2000
    for axis, middle, deviation in ((0, 50, 3.0), (2, 40, 2.0)):
        profile = out.sum([a for a in range(3) if a != axis])
        at = torch.arange(len(profile)) - middle
        mean, power = (profile * at).sum() / 2000, (profile * at**2).sum() / 2000
        # Rounding adds 1/12 to the variance; 2000 spikes: standard errors of 2 %.
        assert abs(mean) < 0.3 and abs(power.sqrt() - (deviation**2 + 1 / 12) ** 0.5) < 0.25
    assert torch.equal(SpikeJitter(0.0)(spikes, lengths, generators_for(0, 0, range(50))), spikes)


def test_what_jitter_moves_out_is_lost():
    spikes = torch.zeros(4, 1, 2)
    spikes[:2] = 1000
    out = SpikeJitter(1.0)(spikes, torch.tensor([2]), generators_for(0, 0, [0]))
    assert 0 < out.sum() < spikes.sum() and not out[2:].any()


def test_drop_keeps_its_share():
    spikes = torch.full((50, 1, 50), 3.0)
    for share in (0.0, 0.1, 0.5, 1.0):
        out = SpikeDrop(share)(spikes, torch.tensor([50]), generators_for(0, 0, [0]))
        assert abs(out.sum() / 7500 - (1 - share)) < 0.03 and (out <= 3).all()


# --- blends ---


@pytest.fixture
def data(shd):
    return SHD(shd, "train", validation=0)


def test_blends_come_from_two_of_a_kind(data):
    """Every spike is one of the recording's, or one of a partner's that was moved by whole steps."""
    whole = collate_spikes([data[n] for n in range(len(data))])
    draws = generators_for(0, 0, range(40))
    out, lengths = Blend(data, share=1.0)(whole.spikes, whole.lengths, whole.indices, draws)
    assert len(out) >= len(whole.spikes) and torch.equal(out, out.round())
    assert (lengths >= whole.lengths).all()
    for n in range(40):
        assert not out[lengths[n] :, n].any()
        alike = [m for m in range(40) if m != n and data.targets[m] == data.targets[n]
                 and data.speakers[m] == data.speakers[n]]  # fmt: skip
        assert alike
        assert any(fits(out[: lengths[n], n], data[n].spikes, data[m].spikes) for m in alike)
        # Half of the spikes of each, and their middle where it was: within a step of rounding and chance.
        assert 0 < out[:, n].sum() < data[n].spikes.sum() + max(data[m].spikes.sum() for m in alike)


def fits(blend, x, other):
    for shift in range(-len(other), len(x) + 1):
        room = torch.zeros(max(len(blend), len(x), len(other) + shift), x.shape[1])
        room[: len(x)] += x
        first = max(0, shift)
        room[first : len(other) + shift] += other[first - shift :]
        if (blend <= room[: len(blend)]).all():
            return True
    return False


def test_blends_keep_the_middle():
    x, other = torch.zeros(40, 3), torch.zeros(20, 3)
    x[18:23] = 100
    other[2:7] = 100
    out = Blend.__new__(Blend)
    out.keep_length = False
    y = out._blended(x, other, torch.Generator().manual_seed(0))
    assert not y[:18].any() and not y[23:].any() and abs(y.sum() / x.sum() - 1) < 0.05 and len(y) == 40
    later = out._blended(other, x, torch.Generator().manual_seed(0))
    assert not later[:2].any() and later[2:7].all() and len(later) == 24
    out.keep_length = True
    assert len(out._blended(other, x, torch.Generator().manual_seed(0))) == 20


def test_a_blend_depends_on_the_recording_alone(data):
    blend = Blend(data, share=0.5, same_speaker=False)
    together = collate_spikes([data[n] for n in (5, 0, 31, 12)])
    out, lengths = blend(together.spikes, together.lengths, together.indices, generators_for(1, 2, together.indices))
    for n, at in enumerate((5, 0, 31, 12)):
        one = collate_spikes([data[at]])
        alone, length = blend(one.spikes, one.lengths, one.indices, generators_for(1, 2, one.indices))
        assert length[0] == lengths[n] and torch.equal(alone[: length[0], 0], out[: lengths[n], n])
    unchanged, _ = Blend(data, share=0.0)(
        together.spikes, together.lengths, together.indices, generators_for(1, 2, together.indices)
    )
    assert torch.equal(unchanged, together.spikes)


def test_a_recording_without_another_of_its_kind_stays(tmp_path, put, spikes):
    data = SHD(put(tmp_path / "a.h5", spikes(4)), "all")
    whole = collate_spikes([data[n] for n in range(4)])
    out, lengths = Blend(data, share=1.0)(whole.spikes, whole.lengths, whole.indices, generators_for(0, 0, range(4)))
    assert torch.equal(out, whole.spikes) and torch.equal(lengths, whole.lengths)


def test_partners_are_never_the_recording_itself(data):
    blend = Blend(data, share=1.0, same_speaker=False)
    found = {at: {blend._other(at, g) for g in generators_for(0, 0, range(300))} for at in (0, 4, 36)}
    for at, others in found.items():
        assert others == {n for n in range(40) if data.targets[n] == data.targets[at]} - {at}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepMask(-1), "StepMask: max_steps=-1 must be at least 0"),
        (lambda: StepMask(1, max_share=2.0), "StepMask: max_share=2.0 must be from 0 to 1"),
        (lambda: ChannelMask(1, -1), "ChannelMask: masks=-1 must be at least 0"),
        (lambda: StepShift(1, -1), "StepShift: earlier=-1 must be at least 0"),
        (lambda: ChannelShift(-2), "ChannelShift: channels=-2 must be at least 0"),
        (lambda: SpikeJitter(float("nan")), "SpikeJitter: steps=nan must be at least 0"),
        (lambda: SpikeDrop(1.1), "SpikeDrop: share=1.1 must be from 0 to 1"),
        (lambda: SpikeDrop(0.1)(torch.zeros(2, 3), torch.tensor([2]), []), "must be [T, B, channels] and [B]"),
        (lambda: SpikeDrop(0.1)(torch.zeros(2, 3, 4), torch.tensor([2] * 3), []), "0 generators for a batch of 3"),
        (
            lambda: SpikeDrop(0.1)(torch.full((2, 1, 4), 0.5), torch.tensor([2]), generators_for(0, 0, [0])),
            "SpikeDrop: spikes must be counts",
        ),
        (
            lambda: SpikeJitter(0.1)(torch.full((2, 1, 4), -1.0), torch.tensor([2]), generators_for(0, 0, [0])),
            "SpikeJitter: spikes must be counts",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


def test_blend_wants_a_share(data):
    with pytest.raises(ValueError, match="Blend: share=2 must be from 0 to 1"):
        Blend(data, share=2)
