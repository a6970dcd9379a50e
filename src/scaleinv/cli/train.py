"""``scaleinv train``: one run in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.lab.config import Settings


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class TrainCommand(Settings):
    """Train one network, on the sphere (--elr) or in the whole space (--lr), and record its metrics.

    DIR is the run's folder. The same command again goes on where it stopped; a run that has ended is only shown.
    """

    out: Path
    """Folder of the run."""
    elr: float | None = None
    """Effective learning rate: train on the sphere."""
    lr: float | None = None
    """Learning rate: train in the whole space."""
    start: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[@EPOCH]")] = None
    """Go on from the weights another run ended with, or kept after EPOCH (--keep-every), with a fresh optimizer."""
    seed: int | None = None
    """Seed of initialisation, head, batch order and augmentation (default: 0; with --from that of the run)."""
    threads: int | None = None
    """Threads of torch (default: all cores; on digits 1, its steps are too small to share); part of the identity."""
    json: bool = False
    """Print the result as JSON on stdout."""
    quiet: bool = False
    """Show no progress."""

    def run(self) -> int:
        """0: the run has ended (a diverged one too)."""
        from scaleinv.cli.tables import print_run
        from scaleinv.lab.config import check_settings
        from scaleinv.lab.resolve import load_data, resolve
        from scaleinv.lab.start import find_start
        from scaleinv.lab.train import record_verdict, run
        from scaleinv.runfolder.environment import cores
        from scaleinv.runfolder.files import json_text
        from scaleinv.runfolder.lineage import origin_of, short_names
        from scaleinv.studies.progress import ProgressView
        from scaleinv.studies.regime_map import run_row, verdict_of

        check_settings(self)
        dataset = load_data(self)
        threads = self.threads if self.threads is not None else 1 if self.data == "digits" else cores()
        start = None if self.start is None else find_start(self.start)
        seed = self.seed if self.seed is not None else 0 if start is None else start.config.seed
        checksum = None if start is None else start.checksum
        config = resolve(self, dataset, elr=self.elr, lr=self.lr, seed=seed, threads=threads, start=checksum)
        if start is not None:
            start.check_fits(config)
        starts = short_names([] if start is None else filter(None, [origin_of(start.lineage())]))
        with ProgressView(total=1, quiet=self.quiet, starts=starts) as view:
            result = run(config, dataset, self.out, start=start, watch=lambda event: view.event(config, event))
        folder, verdict = verdict_of(self.out)
        record_verdict(self.out, verdict.regime, verdict.evidence)
        row = run_row(folder, verdict)
        if self.json:
            print(json_text({**row, "folder": str(self.out), "timing": result["timing"]}))
        else:
            print_run(folder, row, result)
        return 0
