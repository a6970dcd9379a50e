"""What a claim's check and a figure's numbers are given: the scale, and runs that are found or trained."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scaleinv.lab.launch.base import Watcher
from scaleinv.lab.launch.choose import LOCAL, Choice
from scaleinv.runfolder.read import Run, load_run
from scaleinv.studies.obtain import Request, obtain_many


@dataclass(frozen=True)
class Context:
    """What checks and figures work with: the scale, and the folder in which runs are kept and found again."""

    scale: str = "toy"
    root: Path = Path("runs/reproduce")
    workers: int = 1  # runs at a time
    watch: Watcher | None = None  # told what the runs report
    launch: Choice = LOCAL  # where runs run
    device: str = "cpu"  # on which networks train there
    seed_offset: int = 0  # added to every seed: other draws of the same trainings
    used: dict[str, None] = field(
        default_factory=dict, compare=False
    )  # identities of the runs asked for, in their order

    def folders(self, requests: Sequence[Request]) -> list[Path]:
        """Return the folders of the requested runs, in their order; train those that are not in ``root`` yet."""
        moved = [replace(request, seed=self.seed(request.seed)) for request in requests]
        at: dict[str, Any] = {"launch": self.launch, "watch": self.watch, "device": self.device}
        folders = obtain_many(self.root, moved, workers=self.workers, **at)
        self.used.update(dict.fromkeys(folder.name for folder in folders))
        return folders

    def seed(self, seed: int) -> int:
        """Return the seed that stands for ``seed`` in this context, for a check that trains without a run folder.

        >>> Context(seed_offset=1000).seed(2)
        1002
        """
        return seed + self.seed_offset

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        """Read the requested runs, in their order; train those that are not in ``root`` yet."""
        return [load_run(folder) for folder in self.folders(requests)]
