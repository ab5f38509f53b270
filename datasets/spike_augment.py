"""Augmentations of spikes in steps, time first: masks, shifts, jitter, loss, and blends of two recordings of a class.

Drawn as those of ``temporal.datasets.augment`` are, from one generator per recording (``generators_for``), so that what
happens to a recording depends on (seed, epoch, its index) alone. Spikes are counts [T, B, channels], zero beyond lengths.
"""

from collections.abc import Sequence

import torch

from .augment import BandMask, TimeMask, check_generators
from .spikes import SHD, collate_spikes

__all__ = ["Blend", "ChannelMask", "ChannelShift", "SpikeDrop", "SpikeJitter", "StepMask", "StepShift"]

Draws = Sequence[torch.Generator]


class StepMask:
    """Silence spans of neighbouring steps, in all channels.

    width uniform in 0 .. min(max_steps, max_share * length), first step uniform in 0 .. length - width

    Args:
        max_steps: largest width, in steps, >= 0.
        masks: how many, >= 0, drawn one by one; they may overlap.
        max_share: largest share of a recording that one mask silences, 0 .. 1.
    Shape:
        spikes: [T, B, channels]. lengths: [B] in steps. Returns [T, B, channels], a new tensor.
    Raises:
        ValueError: an argument out of its range, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> masked = StepMask(4)(torch.ones(30, 1, 5), torch.tensor([30]), generators_for(0, 3, [10]))
        >>> bool(masked.sum() >= 26 * 5)
        True
    """

    def __init__(self, max_steps: int, masks: int = 1, *, max_share: float = 0.2):
        _check("StepMask", max_steps=max_steps, masks=masks)
        if not 0 <= max_share <= 1:
            raise ValueError(f"StepMask: max_share={max_share} must be from 0 to 1")
        self._mask = TimeMask(max_steps, masks, max_share=max_share, fill=0.0)

    def __call__(self, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws) -> torch.Tensor:
        _check_batch("StepMask", spikes, lengths, generators)
        return self._mask(spikes.permute(1, 2, 0), lengths, generators).permute(2, 0, 1).contiguous()


class ChannelMask:
    """Silence bands of neighbouring channels, in all steps.

    width uniform in 0 .. max_channels, first channel uniform in 0 .. channels - width

    Args:
        max_channels: largest width, >= 0; at most the number of channels.
        masks: how many, >= 0, drawn one by one; they may overlap.
    Shape:
        spikes: [T, B, channels]. lengths: [B] in steps. Returns [T, B, channels], a new tensor.
    Raises:
        ValueError: an argument out of its range, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> masked = ChannelMask(10)(torch.ones(3, 1, 140), torch.tensor([3]), generators_for(0, 3, [10]))
        >>> bool((masked[0] == masked[2]).all() and masked[0].sum() >= 130)
        True
    """

    def __init__(self, max_channels: int, masks: int = 1):
        _check("ChannelMask", max_channels=max_channels, masks=masks)
        self._mask = BandMask(max_channels, masks, fill=0.0)

    def __call__(self, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws) -> torch.Tensor:
        _check_batch("ChannelMask", spikes, lengths, generators)
        return self._mask(spikes.permute(1, 2, 0), lengths, generators).permute(2, 0, 1).contiguous()


class StepShift:
    """Move each recording earlier or later by a random whole number of steps, filled with silence.

    y[t] = x[t - s], 0 where x has no step;  s uniform in -earlier .. later

    What moves before the beginning is cut, but one step stays; what moves later makes the recording longer, unless
    ``keep_length`` cuts that too (for recordings of one length).

    Args:
        later: largest shift to later, in steps, >= 0.
        earlier: largest shift to earlier, in steps, >= 0; None: as ``later``.
        keep_length: cut or fill at the end so that lengths stay as they were.
    Shape:
        spikes: [T, B, channels]. lengths: [B] in steps, each >= 1.
        Returns (spikes [T + later, B, channels], lengths [B]), or [T, B, channels] with keep_length.
    Raises:
        ValueError: a negative shift, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> spikes, lengths = StepShift(2, 0)(torch.ones(4, 3, 5), torch.tensor([4, 4, 4]), generators_for(0, 0, [0, 1, 2]))
        >>> spikes.shape, bool((spikes.sum((0, 2)) == 20).all())
        (torch.Size([6, 3, 5]), True)
    """

    def __init__(self, later: int, earlier: int | None = None, *, keep_length: bool = False):
        self.later, self.earlier, self.keep_length = later, later if earlier is None else earlier, keep_length
        _check("StepShift", later=self.later, earlier=self.earlier)

    def __call__(
        self, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _check_batch("StepShift", spikes, lengths, generators)
        shift = _whole(generators, self.earlier + self.later + 1).to(lengths.device) - self.earlier
        shift = torch.maximum(shift, 1 - lengths)
        if self.keep_length:
            shift = torch.minimum(shift, lengths - 1)
        kept = lengths if self.keep_length else lengths + shift
        return _moved(spikes, lengths, shift, kept, 0 if self.keep_length else self.later), kept


class ChannelShift:
    """Move each recording up or down by a random number of channels, as another size of the voice would.

    y[c] = x[c - s], 0 where x has no channel;  s uniform in -channels .. channels

    Args:
        channels: largest shift, >= 0; Nowotny et al. 2025 take 40 of 700 units.
    Shape:
        spikes: [T, B, channels]. lengths: [B] in steps. Returns [T, B, channels], a new tensor.
    Raises:
        ValueError: a negative shift, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> spikes = torch.eye(9)[None, 4].expand(5, 2, 9)
        >>> moved = ChannelShift(3)(spikes, torch.tensor([5, 5]), generators_for(0, 0, [0, 1]))
        >>> bool((moved.sum(2) == 1).all())
        True
    """

    def __init__(self, channels: int):
        _check("ChannelShift", channels=channels)
        self.channels = channels

    def __call__(self, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws) -> torch.Tensor:
        _check_batch("ChannelShift", spikes, lengths, generators)
        shift = (_whole(generators, 2 * self.channels + 1) - self.channels).to(spikes.device)
        source = torch.arange(spikes.shape[2], device=spikes.device) - shift[:, None]
        inside = (source >= 0) & (source < spikes.shape[2])
        picked = spikes.gather(2, source.clamp(0, max(0, spikes.shape[2] - 1)).expand_as(spikes))
        return picked.masked_fill(~inside, 0)


class SpikeJitter:
    """Move every single spike by a random amount, in time and over the channels.

    (t, c) -> (t + round(steps * a), c + round(channels * b)),  a and b standard normal

    Spikes that leave the recording are lost.

    Args:
        steps: standard deviation in time, in steps, >= 0.
        channels: standard deviation over the channels, >= 0.
    Shape:
        spikes: [T, B, channels] counts. lengths: [B] in steps. Returns [T, B, channels], a new tensor.
    Raises:
        ValueError: a negative argument, counts that are no whole numbers, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> moved = SpikeJitter(0.5)(torch.full((50, 1, 3), 2.0), torch.tensor([50]), generators_for(0, 0, [7]))
        >>> bool(270 < moved.sum() <= 300 and moved.std() > 0.1)
        True
    """

    def __init__(self, steps: float, channels: float = 0.0):
        _check("SpikeJitter", steps=steps, channels=channels)
        self.steps, self.channels = float(steps), float(channels)

    def __call__(self, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws) -> torch.Tensor:
        _check_batch("SpikeJitter", spikes, lengths, generators)
        moved = torch.zeros_like(spikes)
        scale = torch.tensor([self.steps, self.channels])
        for b, (length, generator) in enumerate(zip(lengths.tolist(), generators, strict=True)):
            places, counts = _single("SpikeJitter", spikes[:length, b].cpu())
            places = places.repeat_interleave(counts, dim=0)
            places += (torch.randn(places.shape, generator=generator) * scale).round().long()
            inside = ((places >= 0) & (places < torch.tensor([length, spikes.shape[2]]))).all(1)
            steps, channels = places[inside].to(spikes.device).unbind(1)
            one = torch.ones(len(steps), dtype=spikes.dtype, device=spikes.device)
            moved[:, b].index_put_((steps, channels), one, accumulate=True)
        return moved


class SpikeDrop:
    """Lose every single spike with some probability.

    y ~ binomial(x, 1 - share)

    Args:
        share: probability that a spike is lost, 0 .. 1.
    Shape:
        spikes: [T, B, channels] counts. lengths: [B] in steps. Returns [T, B, channels], a new tensor.
    Raises:
        ValueError: a share out of its range, counts that are no whole numbers, or not one generator per recording.

    Example:
        >>> from temporal.datasets import generators_for
        >>> kept = SpikeDrop(0.25)(torch.full((50, 1, 40), 2.0), torch.tensor([50]), generators_for(0, 0, [7]))
        >>> bool(2900 < kept.sum() < 3100)
        True
    """

    def __init__(self, share: float):
        if not 0 <= share <= 1:
            raise ValueError(f"SpikeDrop: share={share} must be from 0 to 1")
        self.share = float(share)

    def __call__(self, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws) -> torch.Tensor:
        _check_batch("SpikeDrop", spikes, lengths, generators)
        kept = torch.zeros_like(spikes)
        for b, (length, generator) in enumerate(zip(lengths.tolist(), generators, strict=True)):
            kept[:length, b] = _thinned("SpikeDrop", spikes[:length, b].cpu(), 1 - self.share, generator).to(spikes)
        return kept


class Blend:
    """Blend each recording with another one of its class: a random half of the spikes of each, one moved onto the other.

    y = thin(x, 1/2) + thin(move(x', s), 1/2),  s = round(mean time of x - mean time of x')

    The other recording comes from the whole data set, drawn from (seed, epoch, index) too, so that the batch has no say;
    it is read from the file when it is needed. A recording without another of its kind, or without spikes, stays as it is.

    Args:
        data: what the batches come from; its training part.
        share: of the recordings are blended, 0 .. 1.
        same_speaker: blend voices with themselves only.
        keep_length: cut what lies beyond the recording's own length, instead of making it longer.
    Shape:
        spikes: [T, B, channels]. lengths: [B] in steps. indices: [B], the recordings' positions in ``data``.
        Returns (spikes [T' >= T, B, channels], lengths [B]).
    Raises:
        ValueError: a share out of its range, counts that are no whole numbers, or not one generator per recording.
    References:
        After the blends of Nowotny, Turner and Knight 2025, "Loss shaping enhances exact gradient learning with Eventprop
        in spiking neural networks".

    Example: ``spikes, lengths = Blend(data)(batch.spikes, batch.lengths, batch.indices, draws)``
    """

    def __init__(self, data: SHD, share: float = 0.5, *, same_speaker: bool = True, keep_length: bool = False):
        if not 0 <= share <= 1:
            raise ValueError(f"Blend: share={share} must be from 0 to 1")
        self.data, self.share, self.keep_length = data, share, keep_length
        speakers = data.speakers if same_speaker else [""] * len(data)
        self._kind = list(zip(data.targets, speakers, strict=True))
        self._alike: dict[tuple[int, str], list[int]] = {}
        for at, kind in enumerate(self._kind):
            self._alike.setdefault(kind, []).append(at)

    def __call__(
        self, spikes: torch.Tensor, lengths: torch.Tensor, indices: torch.Tensor, generators: Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _check_batch("Blend", spikes, lengths, generators)
        others = [self._other(int(at), generator) for at, generator in zip(indices.tolist(), generators, strict=True)]
        blended = [b for b, other in enumerate(others) if other is not None]
        if not blended:
            return spikes.clone(), lengths
        partners = collate_spikes(self.data.__getitems__([others[b] for b in blended]))  # type: ignore[misc]
        x, new = spikes.cpu(), lengths.tolist()
        rows = {}
        for b, partner, size in zip(blended, partners.spikes.unbind(1), partners.lengths.tolist(), strict=True):
            rows[b] = self._blended(x[: new[b], b], partner[:size], generators[b])
            new[b] = len(rows[b])
        out = x.new_zeros(max(len(x), *new), *x.shape[1:])
        out[: len(x)] = x
        for b, row in rows.items():
            out[:, b] = 0
            out[: len(row), b] = row
        return out.to(spikes.device), torch.tensor(new, device=lengths.device)

    def _other(self, at: int, generator: torch.Generator) -> int | None:
        chance, which = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        alike = self._alike[self._kind[at]]
        if chance >= self.share or len(alike) < 2:
            return None
        place = int(which * (len(alike) - 1))
        return alike[place] if alike[place] < at else alike[place + 1]  # any but itself

    def _blended(self, x: torch.Tensor, other: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if not x.any() or not other.any():
            return x
        shift = round(_middle(x) - _middle(other))
        length = len(x) if self.keep_length else max(len(x), len(other) + shift)
        out = x.new_zeros(length, x.shape[1])
        out[: len(x)] = _thinned("Blend", x, 0.5, generator)
        first, last = max(0, shift), min(length, len(other) + shift)
        out[first:last] += _thinned("Blend", other, 0.5, generator)[first - shift : last - shift]
        return out


def _middle(x: torch.Tensor) -> float:
    """Mean time of the spikes [steps, channels], in steps."""
    per_step = x.double().sum(1)
    return float((per_step * torch.arange(len(x))).sum() / per_step.sum())


def _moved(
    spikes: torch.Tensor, lengths: torch.Tensor, shift: torch.Tensor, kept: torch.Tensor, more: int
) -> torch.Tensor:
    """Each recording [length] moved by its shift, cut to the kept length."""
    steps, batch = spikes.shape[:2]
    at = torch.arange(steps + more, device=spikes.device)[:, None]
    source = at - shift.to(spikes.device)
    inside = (source >= 0) & (source < lengths.to(spikes.device)) & (at < kept.to(spikes.device))
    picked = spikes[source.clamp(0, max(0, steps - 1)), torch.arange(batch, device=spikes.device)]
    return picked.masked_fill(~inside[..., None], 0)


def _whole(generators: Draws, count: int) -> torch.Tensor:
    """[B] whole numbers, uniform in 0 .. count - 1."""
    return torch.tensor([int(torch.randint(count, (), generator=g)) for g in generators], dtype=torch.int64)


def _single(owner: str, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where spikes are [n, 2] in [steps, channels], and how many [n]."""
    places = counts.nonzero()
    found = counts[places[:, 0], places[:, 1]]
    _check_counts(owner, found)
    return places, found.long()


def _thinned(owner: str, counts: torch.Tensor, keep: float, generator: torch.Generator) -> torch.Tensor:
    _check_counts(owner, counts)
    return torch.binomial(counts.float(), torch.full_like(counts, keep, dtype=torch.float32), generator).to(counts)


def _check_counts(owner: str, counts: torch.Tensor) -> None:
    if not bool(((counts >= 0) & (counts == counts.round())).all()):
        raise ValueError(f"{owner}: spikes must be counts, whole numbers of at least 0; give it what was binned")


def _check_batch(owner: str, spikes: torch.Tensor, lengths: torch.Tensor, generators: Draws) -> None:
    if spikes.dim() != 3 or lengths.shape != spikes.shape[1:2]:
        raise ValueError(f"{owner}: spikes {tuple(spikes.shape)} and lengths {tuple(lengths.shape)} must be "
                         "[T, B, channels] and [B]")  # fmt: skip
    check_generators(owner, spikes[0] if len(spikes) else lengths, generators)


def _check(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{owner}: {name}={value} must be at least 0")
