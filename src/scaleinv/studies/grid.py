"""Read grids of positive numbers: ``a:b:n`` or a comma list. Needs no torch."""

import math

from scaleinv.errors import UserError
from scaleinv.lab.config import LARGEST_RATE

MOST = 10_000  #: values of a range


def parse_grid(text: str, name: str = "elr", *, zero: bool = False) -> list[float]:
    """Read a comma list of numbers and ranges; ``a:b:n`` is n values from a to b, log-spaced, ends exact.

    Values keep their order, repeats are dropped. Raises :class:`UserError` for anything but finite positive numbers
    (``zero``: 0 in the list is fine), for empty entries but one after a last comma, for n < 2 and for a = b.

    >>> parse_grid("1e-3:1e-1:3")
    [0.001, 0.01, 0.1]
    >>> parse_grid("0.5, 2, 10:1000:3")
    [0.5, 2.0, 10.0, 100.0, 1000.0]
    """
    pieces = [piece.strip() for piece in text.split(",")]
    if not any(pieces):
        raise UserError(f"{name} {text!r} holds no number; write a:b:n (n log-spaced values) or a comma list")
    if len(pieces) > 1 and not pieces[-1]:
        pieces.pop()
    if not all(pieces):
        raise UserError(f"{name} {text!r} has an empty entry; write a number between the commas, or one comma less")
    return list(dict.fromkeys(value for piece in pieces for value in _piece(piece, name, zero)))


def _is_zero(piece: str) -> bool:
    try:
        return float(piece) == 0.0
    except ValueError:
        return False


def _piece(text: str, name: str, zero: bool) -> list[float]:
    ends = [end.strip() for end in text.split(":")]
    if len(ends) == 1:
        return (
            [0.0]
            if zero and _is_zero(text)
            else [_number(text, text, name, "0 or a positive number" if zero else "a positive finite number")]
        )
    if len(ends) != 3:
        raise UserError(f"{name} {text!r} is not understood; write a:b:n (n log-spaced values) or a comma list")
    for end, does in ((ends[0], "begin"), (ends[1], "end")):
        if _is_zero(end):
            apart = "; list 0 apart, as in 0,1e-3:1e-1:3" if zero else ""
            raise UserError(f"{name} {text!r}: a log range cannot {does} at {end}{apart}")
    low, high = _number(ends[0], text, name), _number(ends[1], text, name)
    try:
        count = int(ends[2])
    except ValueError:
        raise UserError(f"{name} {text!r}: {ends[2]!r} is not a whole number of values") from None
    if count < 2:
        raise UserError(f"{name} {text!r} asks for {count} value(s); a range needs at least 2")
    if count > MOST:
        raise UserError(f"{name} {text!r} asks for {count} values, more than {MOST}; is that meant?")
    if low == high:
        raise UserError(f"{name} {text!r} starts and ends at {low:g}; a range needs two different ends")
    step = (math.log10(high) - math.log10(low)) / (count - 1)
    # six significant digits: what is printed is what ran
    inner = [float(f"{10 ** (math.log10(low) + step * k):.6g}") for k in range(1, count - 1)]
    values = [low, *inner, high]
    if len(set(values)) < count:
        raise UserError(f"{name} {text!r}: {count} values between these ends agree in six digits; choose fewer")
    return values


def _number(piece: str, text: str, name: str, wanted: str = "a positive finite number") -> float:
    try:
        value = float(piece)
    except ValueError:
        raise UserError(f"{name} {text!r}: {piece!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} {text!r}: {piece} is not {wanted}")
    if value > LARGEST_RATE:
        raise UserError(f"{name} {text!r}: {piece} is beyond float32 weights; choose at most {LARGEST_RATE:g}")
    return value
