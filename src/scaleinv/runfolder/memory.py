"""How much memory is free, and a line for what needs more; no torch."""

import sys
from contextlib import suppress
from pathlib import Path

from scaleinv.errors import UserError

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Count the bytes this process may still have: of the machine, its container and its limit; None where unknown."""
    found = [*_of_machine(), *_of_container(), *_of_limit()]
    return max(0, min(found)) if found else None


def _of_machine() -> list[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return [1024 * int(line.split()[1])]
    return []


def _of_container() -> list[int]:
    """Of cgroups, version 2 and version 1: what is allowed less what is used and cannot be given back."""
    for most, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: there is no limit
            free = int((_CGROUP / most).read_text()) - int((_CGROUP / used).read_text())
            rows = dict(line.split() for line in (_CGROUP / stat).read_text().splitlines())
            return [free + int(rows.get("inactive_file", 0))]
    return []


def _of_limit() -> list[int]:
    if sys.platform == "win32":
        return []
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return []
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return [most - pages * resource.getpagesize()]
    return [most]


def require(size: int, what: str, remedy: str) -> None:
    """Raise UserError where ``what`` needs more than is free: ``needs 34 GB, 5 GB are free; <remedy>``.

    >>> require(10**18, "a batch", "take a smaller one")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    scaleinv.errors.UserError: a batch needs 1,000,000,000 GB, ... GB are free; take a smaller one
    """
    free = free_memory()
    if free is not None and size > free:
        raise UserError(f"{what} needs {_gigabytes(size)}, {_gigabytes(free)} are free; {remedy}")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 9.5e9 else f"{size / 1e9:.1f} GB"
