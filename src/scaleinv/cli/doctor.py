"""``scaleinv doctor``: which weights of a model have no scale."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import Json
from scaleinv.errors import UserError

_FORM = "write 8,3,32,32 for numbers, int:2,16:50257 for integers below 50257, bool:2,16 for a mask"
#: shape, and below which number: None for real numbers, 0 for truth values
_NAMED = re.compile(r"^(?!int:|bool:)([A-Za-z_]\w*):")
_DIMENSIONS = 64  #: of a tensor
Described = tuple[tuple[int, ...], int | None]


@dataclass(frozen=True)
class DoctorCommand:
    """Find which weights of a model have no scale, alone or together, and which trade their scales.

    Works for any torch model; no names or layer types are assumed.

    Example: scaleinv doctor mypackage.nets:make_net --input 12,3,32,32

    Exit status 0: groups printed and as expected. 1: groups differ from --expect. 3: the answer is undecided.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PACKAGE.MODULE:FACTORY")]
    """A function without arguments that gives the model, a Module class or a Module; FILE.py:FACTORY works too."""
    input: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="SHAPE")] = ()
    """An input's shape: 8,3,32,32 (normal numbers), int:2,16:50257 (integers below 50257) or bool:2,16 (a mask). Repeat
    for several inputs; NAME=SHAPE passes one by name."""
    output: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    """Which of the model's results count, by name or place; repeat for several. Without it: the loss and the logits
    where a result has such names, else all."""
    lr: float | None = None
    """Learning rate: show the effective learning rate of every group, lr/norm^2, or lr/norm for Adam and its kin."""
    optimizer: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE.py:FUNCTION")] = None
    """Say what this optimizer does tensor by tensor, and which parameter groups would suit: one of torch.optim's, such
    as adamw, over all parameters, with --lr and --weight-decay, or a function of yours that takes the model."""
    weight_decay: float | None = None
    """Weight decay of --optimizer, and of the groups that are proposed (default: the optimizer's own)."""
    json: Json = False
    html: Path | None = None
    """Also write the table as a page of HTML."""
    expect: Path | None = None
    """A JSON file saved before with --json; exit status 1 if the groups differ from it."""
    device: Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N")] = "cpu"
    """Where the model is looked at: cpu, auto (a GPU if there is one), cuda or cuda:1."""
    seed: int = 0
    """Seed of the inputs, the perturbation and the cotangents."""

    def check(self) -> None:
        """Refuse a learning rate that is not positive, and inputs that are not described well."""
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UserError(f"--lr {self.lr} is not a positive number; give the one you train with, or leave it out")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise UserError(f"--weight-decay {self.weight_decay} is not a number of at least 0")
        if self.weight_decay is not None and self.optimizer is None:
            raise UserError("--weight-decay belongs to an optimizer; add --optimizer adamw, or leave it out")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed} is not a whole number from 0 to 2^63 - 1")
        parse_inputs(self.input)


def parse_inputs(texts: Sequence[str]) -> dict[str, Described]:
    """Read (shape, high) of each input by its name, or by its place where none has a name; high: None for real numbers.

    ``8,3,32,32``: standard normal numbers of that shape. ``int:2,16:50257``: whole numbers from 0 to 50256.
    ``bool:2,16``: truth values (high 0). With ``NAME=`` or ``NAME:`` in front of every one the model gets them by name.

    >>> parse_inputs(["8,3", "int:2,16:100"])
    {'0': ((8, 3), None), '1': ((2, 16), 100)}
    >>> parse_inputs(["x=8,3", "mask:bool:8,3"])
    {'x': ((8, 3), None), 'mask': ((8, 3), 0)}
    """
    if not texts:
        raise UserError("give at least one --input, for example --input 12,3,32,32 or --input int:2,16:50257")
    pairs = [_NAMED.sub(r"\1=", text).rpartition("=") for text in texts]
    if len({bool(equals) for _, equals, _ in pairs}) > 1:
        raise UserError("some inputs have a name and some have none; name all of them or none")
    return {
        name if equals else str(place): _described(rest if equals else text)
        for place, (text, (name, equals, rest)) in enumerate(zip(texts, pairs))
    }


def _described(text: str) -> Described:
    parts = text.split(":")
    whole, truth = parts[0] == "int", parts[0] == "bool"
    if len(parts) != (3 if whole else 2 if truth else 1):
        raise UserError(f"input {text!r} is not understood; {_FORM}")
    try:
        shape = tuple(int(n) for n in parts[1 if whole or truth else 0].split(","))
        high = int(parts[2]) if whole else 0 if truth else None
    except ValueError:
        raise UserError(f"input {text!r} is not understood; {_FORM}") from None
    if any(n < 1 for n in shape) or (whole and high is not None and high < 1):
        raise UserError(f"input {text!r} has a size that is not positive; {_FORM}")
    if len(shape) > _DIMENSIONS:
        raise UserError(f"input {text!r} has {len(shape)} dimensions; at most {_DIMENSIONS} are possible")
    if math.prod(shape) > 2**31:
        raise UserError(f"input {text!r} has {math.prod(shape):.3g} numbers; a small batch is enough")
    if high is not None and high >= 2**63:
        raise UserError(f"input {text!r}: integers end at 2^63 - 1; {_FORM}")
    return shape, high
