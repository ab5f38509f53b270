"""Normalisation with constants that were learned from training data once."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ._arguments import read_frames
from ._stage import Framewise

__all__ = ["Normalize"]

# Below this part of its mean a bin's deviation is float32's rounding: a bin that never changes.
_CONSTANT = 1e-7


class Normalize(Framewise):
    """Frames with a mean of 0 and a deviation of 1 in each bin, by constants from training data.

    y[b, t] = (x[b, t] - mean[b]) / std[b]

    The constants are buffers, so they are stored with the weights, and an unfitted layer loads them. A bin that is
    constant in the training data (deviation below 1e-7 of its mean) keeps its scale: std is 1 there.

    Args:
        mean, std: a number or [bins] each, std > 0; give both, or none and call `.fit`.
    Shape:
        frames: [..., bins, frames].  Returns the same shape.
    Raises:
        RuntimeError: called before the constants are known.
        ValueError: another number of bins than the constants have; std that is not positive; values not finite.
    Example:
        >>> import torch, temporal
        >>> frames = torch.randn(8, 40, 100) * 3 + 5
        >>> normalize = temporal.frontends.Normalize().fit(frames)
        >>> out = normalize(frames)
        >>> bool(out.mean().abs() < 1e-4), bool((out.std() - 1).abs() < 1e-3)
        (True, True)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Tensor | None = None, std: float | Tensor | None = None) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError("Normalize: give mean and std, or neither of them and call .fit(frames)")
        nothing = torch.zeros(0)  # an unfitted layer has the same names in its state dict
        self.register_buffer("mean", nothing if mean is None else _per_bin("mean", mean))
        self.register_buffer("std", nothing.clone() if std is None else _per_bin("std", std))
        if self.mean.shape != self.std.shape:
            raise ValueError(f"Normalize: mean has {len(self.mean)} bins, std has {len(self.std)}; give as many")
        if not bool((self.std > 0).all()):
            raise ValueError(f"Normalize: std has a smallest value of {float(self.std.min()):g}; it must be positive")

    def extra_repr(self) -> str:
        return f"bins={len(self.mean)}" if self.fitted else "unfitted"

    @property
    def fitted(self) -> bool:
        """Whether the constants are known."""
        return self.mean.numel() > 0

    @torch.no_grad()
    def fit(
        self,
        frames: Tensor | Iterable[Tensor | Sequence[Tensor]],
        lengths: Tensor | None = None,
    ) -> "Normalize":
        """Take the constants from frames: all of them at once, or batch by batch from an iterable.

        Each call starts anew and sums in float64. The deviation is that of the population (divided by the count).

        Args:
            frames: [..., bins, frames], or an iterable of such, or of pairs (frames, lengths), read once.
            lengths: valid frames of each item, integers of shape [...]; what lies beyond is not looked at.
        Returns:
            The layer itself.
        Raises:
            ValueError: no valid frame; a value that is not finite; batches with different numbers of bins; a length
                greater than the number of frames.
        """
        total = None
        for batch, valid in _batches(frames, lengths):
            total = _merge(total, _moments(batch, valid))
        if total is None or not bool(total[0] > 0):
            raise ValueError("Normalize: fit was given no valid frame")
        count, mean, squares = total
        std = (squares / count).sqrt()
        if not bool(torch.isfinite(std).all()):
            bins = (~torch.isfinite(std)).nonzero().flatten().tolist()
            raise ValueError(f"Normalize: fit met values that are not finite, in bins {bins}")
        constant = std <= torch.clamp(_CONSTANT * mean.abs(), min=torch.finfo(torch.float32).tiny)
        std = torch.where(constant, 1.0, std)
        self.mean, self.std = mean.to(self.mean), std.to(self.std)
        return self

    def forward(self, frames: Tensor) -> Tensor:
        """[..., bins, frames] -> the same shape."""
        frames = self._read(frames)
        mean, std = self.mean, self.std
        bins = mean.shape[0]
        if bins == 0:
            raise RuntimeError("Normalize: mean and std are not known yet; call .fit(frames), give them, or load them")
        if bins not in (1, frames.shape[-2]):
            raise ValueError(f"Normalize: frames {list(frames.shape)} have {frames.shape[-2]} bins, not {bins}")
        return (frames - mean.to(frames.dtype)[:, None]) / std.to(frames.dtype)[:, None]

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if not self.fitted:  # take over the number of bins
            for name in ("mean", "std"):
                if prefix + name in state_dict:
                    setattr(self, name, getattr(self, name).new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _per_bin(name: str, value: float | Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
    if value.dim() > 1:
        raise ValueError(f"Normalize: {name} came as {list(value.shape)}; give a number or [bins]")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"Normalize: {name} has values that are not finite")
    return value.reshape(-1)


def _batches(
    frames: Tensor | Iterable[Tensor | Sequence[Tensor]], lengths: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(frames, Tensor):
        yield frames, lengths
        return
    if lengths is not None:
        raise ValueError("Normalize: with an iterable, give lengths in pairs (frames, lengths)")
    for item in frames:
        if isinstance(item, Tensor):
            yield item, None
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            yield item[0], item[1]
        else:
            parts = f" of {len(item)} parts" if isinstance(item, (tuple, list)) else ""
            raise TypeError(
                f"Normalize: fit met a {type(item).__name__}{parts} among its batches; give frames or (frames, lengths)"
            )


def _moments(frames: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Number of valid frames, mean [bins], and sum of squared deviations [bins], in float64."""
    frames = read_frames("Normalize", frames).double()
    if lengths is None:
        mask = torch.ones((*frames.shape[:-2], 1, frames.shape[-1]), dtype=torch.bool, device=frames.device)
    else:
        lengths = torch.as_tensor(lengths, device=frames.device)
        if lengths.shape != frames.shape[:-2] or lengths.is_floating_point():
            raise ValueError(
                f"Normalize: lengths came as {list(lengths.shape)} of {lengths.dtype}; give integers of shape "
                f"{list(frames.shape[:-2])}"
            )
        if bool((lengths > frames.shape[-1]).any()):
            raise ValueError(
                f"Normalize: lengths reach {int(lengths.max())}, but there are {frames.shape[-1]} frames; give "
                "lengths in frames, not samples"
            )
        mask = torch.arange(frames.shape[-1], device=frames.device) < lengths[..., None, None]
    others = [axis for axis in range(frames.dim()) if axis != frames.dim() - 2]
    count = mask.sum().double()
    mean = torch.where(mask, frames, 0.0).sum(others) / count.clamp_min(1)
    squares = torch.where(mask, frames - mean[:, None], 0.0).square().sum(others)
    return count, mean, squares


def _merge(a: tuple[Tensor, Tensor, Tensor] | None, b: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Moments of two sets of frames together (Chan, Golub and LeVeque 1979)."""
    if a is None:
        return b
    if a[1].shape != b[1].shape:
        raise ValueError(f"Normalize: fit was given batches with {len(a[1])} and with {len(b[1])} bins")
    count = a[0] + b[0]
    apart = b[1] - a[1]
    share = b[0] / count.clamp_min(1)
    return count, a[1] + apart * share, a[2] + b[2] + apart.square() * a[0] * share
