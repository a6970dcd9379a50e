"""``scaleinv doctor``: which weights of a model have no scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.inputs import parse_inputs
from scaleinv.cli.parse import parser
from scaleinv.errors import UserError


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class DoctorCommand:
    """Tell which weights of a model have no scale, alone or together, and which trade their scales.

    Any torch model, no names or layer types assumed. Example: scaleinv doctor mypackage.nets:make_net --input
    12,3,32,32
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PACKAGE.MODULE:FACTORY")]
    """A function without arguments that gives the model, a Module class or a Module; FILE.py:FACTORY works too."""
    input: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="SHAPE")] = ()
    """An input's shape: 8,3,32,32 (normal numbers) or int:2,16:50257 (integers below 50257). Repeat for several inputs;
    NAME=SHAPE passes it by name."""
    lr: float | None = None
    """Learning rate: show the effective learning rate lr/norm^2 of every group."""
    json: bool = False
    """Print one JSON object on stdout and nothing else."""
    html: Path | None = None
    """Also write the table as a page of HTML."""
    expect: Path | None = None
    """A JSON file saved before: exit code 1 if the groups differ."""
    seed: int = 0
    """Seed of the inputs, the perturbation and the cotangents."""

    def check(self) -> None:
        """The numbers and the descriptions of the inputs."""
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(
                f"--lr {self.lr} is not a positive number; give the learning rate you train with, or leave it out"
            )
        parse_inputs(self.input)


parse = parser(DoctorCommand)
