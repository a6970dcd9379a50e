"""Flags that name a problem of one's own; ``train`` and ``sweep`` share them."""

from dataclasses import dataclass
from pathlib import Path

from scaleinv.cli.parse import Device, named_values


@dataclass(frozen=True, kw_only=True)
class OwnFlags:
    """What names a problem of one's own, and where it trains."""

    problem: str | None = None
    """A Problem of your own, in place of --model, --data and --loss: FILE.py:NAME, an object or what makes it."""
    model_args: str = ""
    """Arguments of your own --model or --problem: NAME=VALUE,NAME=VALUE."""
    device: Device = "auto"
    config: Path | None = None
    """A TOML file with any of these flags; flags that are typed win."""

    def arguments(self) -> dict[str, object]:
        """Read --model-args."""
        return named_values(self.model_args, "--model-args")
