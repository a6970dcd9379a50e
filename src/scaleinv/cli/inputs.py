"""The doctor's --input: descriptions of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scaleinv.errors import UserError

_FORM = "write 8,3,32,32 for numbers, int:2,16:50257 for integers below 50257"


def parse_inputs(texts: Sequence[str]) -> dict[str, tuple[tuple[int, ...], int | None]]:
    """(shape, high) of each input by its name, or by its place where none has a name; high: None for real numbers.

    ``8,3,32,32``: standard normal numbers of that shape. ``int:2,16:50257``: whole numbers from 0 to 50256. With
    ``NAME=`` in front of every one the model gets them by name.

    >>> parse_inputs(["8,3", "int:2,16:100"])
    {'0': ((8, 3), None), '1': ((2, 16), 100)}
    """
    if not texts:
        raise UserError("give at least one --input, for example --input 12,3,32,32 or --input int:2,16:50257")
    pairs = [text.rpartition("=") for text in texts]
    if len({bool(equals) for _, equals, _ in pairs}) > 1:
        raise UserError("some inputs have a name and some have none; name all of them or none")
    return {
        name if equals else str(place): _described(rest if equals else text)
        for place, (text, (name, equals, rest)) in enumerate(zip(texts, pairs))
    }


def _described(text: str) -> tuple[tuple[int, ...], int | None]:
    parts = text.split(":")
    whole = parts[0] == "int"
    if len(parts) != (3 if whole else 1):
        raise UserError(f"input {text!r} is not understood; {_FORM}")
    try:
        shape = tuple(int(n) for n in parts[1 if whole else 0].split(","))
        high = int(parts[2]) if whole else None
    except ValueError:
        raise UserError(f"input {text!r} is not understood; {_FORM}") from None
    if any(n < 1 for n in shape) or (high is not None and high < 1):
        raise UserError(f"input {text!r} has a size that is not positive; {_FORM}")
    if math.prod(shape) > 2**31:
        raise UserError(f"input {text!r} has {math.prod(shape)} numbers; a small batch is enough")
    return shape, high
