"""Say where a run was made: versions, git revision, command, machine; stored beside the config, not in its identity."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import torch

from scaleinv._version import __version__


def git_revision(folder: Path) -> str | None:
    """Find the commit of the git work tree ``folder`` lies in, with ``+`` if it has changes; None outside of one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        head = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() or None


def environment(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Gather what config.json says of the environment."""
    return {
        "scaleinv": __version__,
        "git": git_revision(Path(__file__).parent),
        "argv": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "threads": threads,
        "device": device,
    }
