"""`scaleinv data`: what is there, where, in which state; `scaleinv data fetch NAME`: download it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scaleinv.errors import UserError


@dataclass(frozen=True)
class DataCommand:
    """Show which data sets are there and whether they are as published, or download one.

    `scaleinv data` prints a table: name, state, size, form, where (checksums are computed: about a second).

    `scaleinv data fetch NAME` downloads NAME, verifies its checksum and puts it into the data folder.
    """

    action: Annotated[Literal["list", "fetch"], tyro.conf.Positional] = "list"
    """What to do."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = ""
    """The data set to fetch: mnist, fashion-mnist, cifar10 or cifar100."""

    data_dir: Path | None = None
    """The data folder (default: the environment variable SCALEINV_DATA)."""

    mirror: str | None = None
    """Fetch from this address, which holds the files under their published names, not from the publisher."""

    json: bool = False
    """Print JSON."""

    quiet: bool = False
    """Show no progress."""

    def run(self) -> int:
        """0: done; 1: a data set is damaged."""
        if self.action == "fetch":
            return self._fetch()
        if self.name:
            raise UserError(f"`scaleinv data list` takes no name; to download it: scaleinv data fetch {self.name}")
        from scaleinv.lab.data.source import ENVIRONMENT, resolve
        from scaleinv.lab.data.status import statuses

        rows = statuses(self.data_dir)
        if self.json:
            print(json.dumps([asdict(row) for row in rows], indent=2))
        else:
            table = [(r.name, r.state, f"{r.bytes / 1e6:.1f} MB" if r.bytes else "", r.form, r.where) for r in rows]
            _print_table([("data set", "state", "size", "form", "where"), *table])
            nowhere = resolve(self.data_dir) is None
            details = [row.detail for row in rows if row.detail and not (nowhere and row.state == "missing")]
            if nowhere:
                details.append(f"no data folder: name it with --data-dir or the environment variable {ENVIRONMENT}")
            if details:
                print("\n" + "\n".join(details))
        return 1 if any(row.state == "damaged" for row in rows) else 0

    def _fetch(self) -> int:
        from scaleinv.lab.data.catalog import CATALOG
        from scaleinv.lab.data.fetch import fetch

        if not self.name:
            raise UserError(f"which data set? scaleinv data fetch NAME, NAME one of: {', '.join(CATALOG)}")
        show = None if self.quiet or self.json or not sys.stderr.isatty() else _progress
        where = fetch(self.name, self.data_dir, mirror=self.mirror, progress=show)
        if self.json:
            print(json.dumps({"name": self.name, "state": "intact", "where": str(where)}))
        elif not self.quiet:
            print(f"{self.name} is in {where}, checksums as published")
        return 0


def _progress(file: str, done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    print(
        f"\r{file}  {done / 1e6:.1f} of {total / 1e6:.1f} MB ({done / total:.0%})", end=end, file=sys.stderr, flush=True
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(w) if i == 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
