"""`scaleinv data`: what is there, where, in which state; `scaleinv data fetch NAME`: download it."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from scaleinv.cli.parse import DataDir, Json, Quiet
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
    data_dir: DataDir = None
    mirror: str | None = None
    """Fetch from this address, which holds the files under their published names, not from the publisher."""
    json: Json = False
    quiet: Quiet = False

    def check(self) -> None:
        """A name is given where one is needed, and only there."""
        if self.action == "list" and self.name:
            raise UserError(f"`scaleinv data list` takes no name; to download it: scaleinv data fetch {self.name}")
        if self.action == "fetch" and not self.name:
            raise UserError(
                "which data set? scaleinv data fetch NAME, NAME one of: mnist, fashion-mnist, cifar10, cifar100"
            )
