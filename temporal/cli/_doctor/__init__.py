"""What ``temporal doctor`` finds out. No part needs another, and none needs torch to say that torch is missing."""

from ._finding import Finding, Section, guarded

__all__ = ["Finding", "Section", "examine"]


def examine(check: bool = True) -> list[Section]:
    """Look at everything.

    Args:
        check: also compute with a few operators, and time them beside the machine's limit: some ten seconds.
    """
    from . import _caches, _check, _kernels, _machine, _packages, _sound

    parts = [
        ("packages", _packages.needed),
        ("extras", _packages.extras),
        ("kernels", _kernels.backends),
        ("threads", _machine.threads),
        ("memory and disk", _machine.memory),
        ("caches", _caches.caches),
        ("sound", _sound.sound),
    ]
    if check:
        parts.append(("ten-second check", _check.check))
    return [guarded(name, find) for name, find in parts]
