"""``scaleinv completion SHELL``: a script that completes commands, flags and their choices."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

SHELLS = ("bash", "zsh")


@dataclass(frozen=True)
class CompletionCommand:
    """Print a script for bash or zsh that completes the commands, their flags and the choices of a flag.

    bash: put eval "$(scaleinv completion bash)" into ~/.bashrc. zsh: put eval "$(scaleinv completion zsh)" into
    ~/.zshrc, after compinit.
    """

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """Which shell."""
