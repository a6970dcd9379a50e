"""Schedules: how the rate of a run changes over its horizon."""

import math
from collections.abc import Callable

from scaleinv.errors import UserError

#: a rate that is multiplied by more leaves float32 at once
LARGEST_FACTOR = 1e30
#: the share of the base rate after the part x, in [0, 1), of the horizon
Shape = Callable[[float], float]
_SHAPES: dict[str, Shape] = {
    "constant": lambda x: 1.0,
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: (1.0 + math.cos(math.pi * x)) / 2,
}
_FORMS = "constant, cosine, linear, step:FACTOR@PART,PART or stages:PART=FACTOR,PART=FACTOR"


def parse_schedule(text: str) -> Shape:
    """Read a schedule: the share of the base rate as a function of the part of the horizon that is done.

    - ``constant``: 1; ``linear``: 1 - x; ``cosine``: (1 + cos(pi x)) / 2;
    - ``step:F@a,b,...``: F to the power of how many of the parts a, b, ... are behind;
    - ``stages:a=u,b=v,...``: 1, from part a on u, from part b on v, ...: every stage has its own rate.

    Raises :class:`UserError` for anything else, for parts outside (0, 1) or not rising, for factors that are negative
    or not finite.

    >>> [parse_schedule("step:0.1@0.5,0.75")(x) for x in (0.0, 0.5, 0.8)]
    [1.0, 0.1, 0.010000000000000002]
    >>> [parse_schedule("stages:0.5=2,0.75=0")(x) for x in (0.0, 0.5, 0.8)]
    [1.0, 2.0, 0.0]
    """
    kind, _, rest = text.partition(":")
    if text in _SHAPES:
        return _SHAPES[text]
    if kind == "step" and "@" in rest:
        factor_text, _, parts_text = rest.partition("@")
        factor, parts = _number(text, factor_text), _parts(text, parts_text.split(","))
        if factor > LARGEST_FACTOR ** (1 / len(parts)):
            raise UserError(f"schedule {text!r}: {factor:g} to the power of {len(parts)} is above {LARGEST_FACTOR:g}")
        return lambda x: factor ** sum(x >= part for part in parts)
    if kind == "stages" and "=" in rest:
        pairs = [piece.partition("=") for piece in rest.split(",")]
        parts = _parts(text, [part for part, _, _ in pairs])
        factors = [1.0, *(_number(text, factor) for _, _, factor in pairs)]
        return lambda x: factors[sum(x >= part for part in parts)]
    raise UserError(f"schedule {text!r} is not understood; write {_FORMS}, for example step:0.1@0.5,0.75")


def _number(text: str, piece: str) -> float:
    try:
        value = float(piece)
    except ValueError:
        raise UserError(f"schedule {text!r}: {piece!r} is not a number; write {_FORMS}") from None
    if not 0 <= value <= LARGEST_FACTOR:
        raise UserError(f"schedule {text!r}: {piece} is not a number from 0 to {LARGEST_FACTOR:g}")
    return value


def _parts(text: str, pieces: list[str]) -> list[float]:
    parts = [_number(text, piece) for piece in pieces]
    if any(not 0 < part < 1 for part in parts) or parts != sorted(set(parts)):
        raise UserError(f"schedule {text!r}: the parts must rise between 0 and 1, as in step:0.1@0.5,0.75")
    return parts


def rate_share(shape: Shape, step: int, steps: int, warmup: int) -> float:
    """Return the share of the base rate that acts at ``step`` (0-based) of ``steps``; within the warm-up times
    (step + 1) / warmup.

    >>> [rate_share(parse_schedule("constant"), t, 10, 4) for t in (0, 1, 3, 4)]
    [0.25, 0.5, 1.0, 1.0]
    """
    share = shape(step / steps)
    return share * (step + 1) / warmup if step < warmup else share
