"""Shorter intervals for every Python that finds this folder in its path; see ``tests/often.py``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

VALUES = {
    "scaleinv.lab.train": {"CHECKPOINT_SECONDS": 0.02, "CHECKPOINT_SHARE": math.inf},
    "scaleinv.lab.launch.polled": {"POLL": 0.2, "ASK": 1.0},
}


class Changed(MetaPathFinder):
    """Finds the modules of :data:`VALUES` as usual, and changes these values once they have been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in VALUES else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                vars(module).update(VALUES[fullname])

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Changed())
