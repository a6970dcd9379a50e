"""Names of launchers and the form of their arguments; no torch, for the command line."""

import difflib
from collections.abc import Mapping
from typing import Any

from scaleinv.errors import UserError

LAUNCHERS = ("processes", "slurm", "ray")
#: arguments whose values are names that a site has given, and may well hold "gpu"
_NAMES = ("partition", "qos", "account", "address", "nodelist", "exclude")


def check_launcher(name: str, arguments: str = "") -> None:
    """Refuse a name that is neither a launcher's nor that of a factory, and arguments that are no pairs.

    >>> check_launcher("slurn")
    Traceback (most recent call last):
    ...
    scaleinv.errors.UserError: unknown launcher 'slurn' (did you mean slurm?); choose one of: processes, slurm, ray, \
or give PACKAGE.MODULE:FACTORY
    """
    if name not in LAUNCHERS and ":" not in name:
        near = difflib.get_close_matches(name, LAUNCHERS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        choices = ", ".join(LAUNCHERS)
        raise UserError(f"unknown launcher {name!r}{hint}; choose one of: {choices}, or give PACKAGE.MODULE:FACTORY")
    if parse_arguments(arguments) and name == "processes":
        raise UserError(f"--launcher-args {arguments}: the launcher processes takes none; it has --workers")


def parse_arguments(text: str) -> dict[str, Any]:
    """Read ``a=1,b=x`` into arguments: whole numbers, numbers, or texts.

    >>> parse_arguments("partition=gpu,time=240,gpus=0.25")
    {'partition': 'gpu', 'time': 240, 'gpus': 0.25}
    """
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equal, value = part.partition("=")
        if not equal or not name.strip().replace("-", "_").isidentifier():
            raise UserError(f"--launcher-args {part}: give name=value pairs, as in partition=gpu,time=240")
        found[name.strip().replace("-", "_")] = _value(value.strip())
    return found


def device_elsewhere(device: str, launcher: str, arguments: Mapping[str, Any]) -> str:
    """Choose the device of runs that an engine's nodes train: what ``auto`` is there, ``arguments`` say.

    >>> device_elsewhere("auto", "slurm", {"gpus_per_node": 1}), device_elsewhere("auto", "ray", {"cpus": 2})
    ('cuda', 'cpu')
    """
    if device != "auto" or launcher not in ("slurm", "ray"):
        return device
    asked = {f"{name}={value}" for name, value in arguments.items() if name not in _NAMES}
    return "cuda" if any("gpu" in one and not one.endswith("=0") for one in asked) else "cpu"


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
