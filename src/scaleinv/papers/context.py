"""What a claim's check and a figure's numbers are given: the scale, and runs that are found or trained."""

from collections.abc import Sequence
from dataclasses import dataclass
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

    def folders(self, requests: Sequence[Request]) -> list[Path]:
        """Return the folders of the requested runs, in their order; train those that are not in ``root`` yet."""
        at: dict[str, Any] = {"launch": self.launch, "watch": self.watch, "device": self.device}
        return obtain_many(self.root, requests, workers=self.workers, **at)

    def runs(self, requests: Sequence[Request]) -> list[Run]:
        """Read the requested runs, in their order; train those that are not in ``root`` yet."""
        return [load_run(folder) for folder in self.folders(requests)]
