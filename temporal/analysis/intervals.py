"""How far an accuracy can be trusted."""

from __future__ import annotations

import math

__all__ = ["wilson_interval"]

_NORMAL = 1.959963984540054  # of the normal distribution, 95 % lie within so many standard deviations


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share that was found in a sample, by Wilson's score.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = correct / n, n = total, z = 1.96

    It holds for small samples and for shares of 0 and 1, too. It is about recordings drawn at random: another set of
    speakers differs by more.

    Args:
        correct: how many were right, 0 .. total.
        total: of how many, > 0.
    Returns:
        Both ends, 0..1.
    Raises:
        ValueError: numbers out of these ranges.
    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Matches
        ``scipy.stats.binomtest(correct, total).proportion_ci(method="wilson")``.

    Example:
        >>> from temporal.analysis import wilson_interval
        >>> low, high = wilson_interval(241, 250)
        >>> f"{100 * low:.1f} to {100 * high:.1f} %"
        '93.3 to 98.1 %'
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"wilson_interval: {correct} of {total}; a part of at least one is right")
    share, z = correct / total, _NORMAL
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
