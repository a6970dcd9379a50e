"""What the landscape section says first: the answer of each part in a sentence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scaleinv.text import capital, count, elr_digits, elr_text, number, percent, show

#: curvature beyond which gradient descent leaves a minimum, in units of 1/ELR
_EDGE = 2.0
#: barriers of the train error smaller than this are taken for none
_FLAT = 0.005


def landscape_answers(rate_name: str, content: Mapping[str, Any]) -> list[str]:
    """Answer each part that was measured in a sentence: which minimum is flattest, are neighbours connected, ...

    >>> (said,) = landscape_answers("ELR", {"paths": [{"barriers": {"train_error": {"height": 0.2}}}]})
    >>> said.partition(":")[0]
    'Neighbouring runs lie in different regions'
    """
    parts = (
        _curvature(rate_name, content.get("sharpness") or []),
        _connected(content.get("paths") or []),
        _convex(content.get("averages") or []),
    )
    return [said for said in parts if said]


def _curvature(rate_name: str, measured: Sequence[Mapping[str, Any]]) -> str:
    """Say where the loss is flattest and sharpest, by the top eigenvalue, and which runs are beyond the edge."""
    known = [(number(one.get("lambda_1")), number(one["key"]["rates"][0]), one) for one in measured]
    known = [entry for entry in known if math.isfinite(entry[0])]
    if not known:
        return ""
    digits = elr_digits(rate for _, rate, _ in known)
    flat, sharp = min(known, key=lambda entry: entry[0]), max(known, key=lambda entry: entry[0])
    if len(known) == 1:
        said = f"the largest curvature at {rate_name} {elr_text(flat[1], digits)} is {show(flat[0])}"
    else:
        said = (
            f"the flattest end is that of {rate_name} {elr_text(flat[1], digits)} (largest curvature {show(flat[0])}), "
        )
        said += f"the sharpest that of {elr_text(sharp[1], digits)} ({show(sharp[0])})"
    beyond = sum(number(one.get("stability")) > _EDGE for _, _, one in known)
    edge = f"{beyond} of {count(len(known), 'run')} beyond the edge of stability, ELR times curvature above {_EDGE:g}"
    return capital(f"{said}; {edge}.")


def _connected(measured: Sequence[Mapping[str, Any]]) -> str:
    """Say whether neighbouring runs lie in one region: whether the train error rises on the way."""
    heights = [number(one["barriers"]["train_error"]["height"]) for one in measured]
    heights = [height for height in heights if math.isfinite(height)]
    if not heights:
        return ""
    high = [height for height in heights if height > _FLAT]
    pairs = count(len(heights), "pair")
    if not high:
        return f"Neighbouring runs lie in one region: no barrier of train error above {percent(_FLAT)} between {pairs}."
    whole = "different regions" if len(high) == len(heights) else "one region in part"
    said = (
        f"the straight path between {len(high)} of {pairs} crosses a barrier, up to {percent(max(high))} of train error"
    )
    return f"Neighbouring runs lie in {whole}: {said}."


def _convex(measured: Sequence[Mapping[str, Any]]) -> str:
    """Say in how many runs the loss at the mean of the iterates is below their own mean loss."""
    excess = [number(one["excess"]["train"]) for one in measured if "excess" in one]
    known = [value for value in excess if math.isfinite(value)]
    if not known:
        return ""
    below = sum(value <= 0 for value in known)
    return f"In {below} of {count(len(known), 'run')} the mean of the iterates has a lower train loss than they have."
