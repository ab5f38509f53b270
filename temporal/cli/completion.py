"""``temporal completion``."""

from __future__ import annotations

import sys
from typing import Literal

from ._app import Flag, app, command


@command
def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: Flag = False) -> None:
    """Print what lets a shell complete commands, options, recipes and files when you press Tab.

    Examples:
        source <(temporal completion bash)
        temporal completion zsh --install
        temporal completion fish > ~/.config/fish/completions/temporal.fish

    Args:
        shell: which.
        install: write it where the shell looks for it, and a line into the shell's own start-up file where it needs one.
    """
    if not install:
        print(app.generate_completion(shell=shell))
        return
    file = app.install_completion(shell=shell)
    print(f"written: {file}; a new shell completes `temporal`", file=sys.stderr)
