"""Grids of positive numbers as text: ``a:b:n`` or a comma list. Needs no torch."""

from __future__ import annotations

import math

from scaleinv.errors import UserError


def parse_grid(text: str, name: str = "elr") -> list[float]:
    """``a:b:n`` is n values from a to b, log-spaced, ends exact; otherwise a comma list, in its order, without repeats.

    Raises :class:`UserError` for anything but finite positive numbers, for n < 2 and for a = b.

    >>> parse_grid("1e-3:1e-1:3")
    [0.001, 0.01, 0.1]
    >>> parse_grid("0.5, 2")
    [0.5, 2.0]
    """
    pieces = [piece.strip() for piece in text.split(":")]
    if len(pieces) == 1:
        values = [_number(piece.strip(), text, name) for piece in text.split(",") if piece.strip()]
        if not values:
            raise UserError(f"{name} {text!r} holds no number; write a:b:n (n log-spaced values) or a comma list")
        return list(dict.fromkeys(values))
    if len(pieces) != 3:
        raise UserError(f"{name} {text!r} is not understood; write a:b:n (n log-spaced values from a to b) or a comma list")
    low, high = _number(pieces[0], text, name), _number(pieces[1], text, name)
    try:
        count = int(pieces[2])
    except ValueError:
        raise UserError(f"{name} {text!r}: {pieces[2]!r} is not a whole number of values") from None
    if count < 2:
        raise UserError(f"{name} {text!r} asks for {count} value(s); a grid needs at least 2")
    if low == high:
        raise UserError(f"{name} {text!r} starts and ends at {low:g}; a grid needs two different ends")
    step = (math.log10(high) - math.log10(low)) / (count - 1)
    # six significant digits: what is printed is what ran
    inner = [float(f"{10 ** (math.log10(low) + step * k):.6g}") for k in range(1, count - 1)]
    return [low, *inner, high]


def _number(piece: str, text: str, name: str) -> float:
    try:
        value = float(piece)
    except ValueError:
        raise UserError(f"{name} {text!r}: {piece!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} {text!r}: {piece} is not a positive finite number")
    return value
