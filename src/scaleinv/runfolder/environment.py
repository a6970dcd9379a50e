"""Say where a run was made: versions, git revision, command, machine; stored beside the config, not in its identity."""

import functools
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from scaleinv._version import __version__


@functools.cache
def git_revision(folder: Path) -> str | None:
    """Find the commit of the git work tree ``folder`` lies in, with ``+`` if it has changes; None outside of one.

    A process asks once: it goes on with the code that it has loaded.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        head = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() or None


def hardware(device: str = "cpu") -> dict[str, str]:
    """Say what decides the last bits of sums: the instructions of the CPU that torch uses, its BLAS, the device."""
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    found = {"cpu": str(torch.backends.cpu.get_cpu_capability()), "blas": blas[1] if blas else "unknown"}
    if device.startswith("cuda") and torch.cuda.is_available():
        found["device_name"] = torch.cuda.get_device_name(torch.device(device.partition(",")[0]))
    return found


def other_hardware(recorded: Mapping[str, Any], device: str = "cpu") -> str:
    """Say what is other here than where a run was made, ``cpu AVX2 there, AVX512 here``; empty where nothing is."""
    differ = [
        (name, recorded[name], here) for name, here in hardware(device).items() if recorded.get(name, here) != here
    ]
    return "; ".join(f"{name} {there} there, {here} here" for name, there, here in differ)


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
        **hardware(device),
    }
