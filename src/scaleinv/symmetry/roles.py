"""Say of every tensor what weight decay on it would do, from its symmetries alone: no names, no layer types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scaleinv.symmetry.result import Symmetries

Kind = Literal["scale-invariant", "own scale", "gains and biases", "dead", "undecided"]

#: names shown of a long list
_SHOWN = 3


@dataclass(frozen=True)
class Role:
    """What a tensor is to an optimizer.

    - ``kind``: which group it goes to. ``scale-invariant``: decay sets its ELR and nothing else; ``own scale``:
      matrices whose decay changes the function; ``gains and biases``: vectors of either sort, unless a joint group with
      a matrix holds them; ``dead``: the output does not depend on it, or no gradient reaches it; ``undecided``: the
      doctor does not say.
    - ``decay``: whether :func:`~scaleinv.param_groups` decays it by default.
    - ``reason``: why, in a sentence.
    - ``together``: the joint group it belongs to, itself included; empty outside of one.
    """

    kind: Kind
    decay: bool
    reason: str
    together: tuple[str, ...] = ()


def roles(found: Symmetries) -> dict[str, Role]:
    """Give every tensor of the model its role, in the order of ``found.shapes``."""
    joint = {name: tensors for tensors in found.joint for name in tensors}
    parts = {part.name for part in found.partial}
    pairs: dict[str, Mapping[str, int]] = {}
    fused = {piece.name: str(trade) for trade in found.sliced if not trade.dead for piece, _ in trade.exponents}
    for pair in [*found.weighted, *sorted(found.rescaling, key=len)]:
        for name in pair:
            pairs.setdefault(name, pair)
    result = {}
    for name in found.shapes:
        vector = found.is_affine((name,))
        if found.verdict != "clear":
            result[name] = Role(
                "undecided", not vector, "the doctor's answer is undecided: matrices decay, vectors not"
            )
        elif name in found.unreached:
            result[name] = Role("dead", False, f"no gradient reaches it: {found.unreached[name]}")
        elif name in found.dead:
            result[name] = Role("dead", False, "the output does not depend on it: decay is all that would move it")
        elif name in found.single:
            result[name] = _single(vector)
        elif name in joint:
            result[name] = _joint(found, joint[name])
        elif vector:
            result[name] = Role(
                "gains and biases", False, _vector_reason(found, name, pairs.get(name), fused.get(name))
            )
        else:
            result[name] = Role(
                "own scale", True, _matrix_reason(name, pairs.get(name), name in parts, fused.get(name))
            )
    return result


def _single(vector: bool) -> Role:
    if vector:
        why = "gain in front of a normalization: scale-invariant, so decay would only set its ELR"
        return Role("gains and biases", False, why)
    return Role("scale-invariant", True, "decay leaves the function alone and sets the ELR")


def _joint(found: Symmetries, tensors: tuple[str, ...]) -> Role:
    """Give one reason to all tensors of a joint group, so that they stand in one row of a table."""
    if found.is_affine(tensors):
        what = "gain and bias of one norm" if len(tensors) == 2 else f"{len(tensors)} gains and biases of one stream"
        why = f"{what}, scale-invariant together: decay on all of them would only set their ELR"
        return Role("gains and biases", False, why, tensors)
    what = f"one of {len(tensors)} that are scale-invariant together ({listed(tensors)})"
    why = f"{what}: decay on all of them sets their ELR; on some, it turns the group"
    return Role("scale-invariant", True, why, tensors)


def _vector_reason(found: Symmetries, name: str, pair: Mapping[str, int] | None, trade: str | None) -> str:
    if pair is None and trade is not None:
        return f"slices trade their scales ({trade}): decay acts on their products"
    if pair is None:
        return "a scale of its own: decay pulls it to 0 and changes the function"
    with_it, against = _sides(name, pair)
    matrices = [other for other in against if not found.is_affine((other,))]
    if matrices:
        return f"input side of {listed(matrices)}: what decay takes from the matrix this gain can give back"
    if against:
        return f"trades its scale with {listed(against)}, so decay on one is decay on the product of both"
    return f"free together with {listed(with_it)}, by unequal powers: decay on it changes the function"


def _matrix_reason(name: str, pair: Mapping[str, int] | None, part: bool, trade: str | None) -> str:
    if part:
        return "fused: decay sets the ELR of its scale-invariant part and regularises the rest"
    if pair is None and trade is not None:
        return f"slices trade their scales ({trade}): decay acts on their products and balances the two sides"
    if pair is None:
        return "a scale of its own: decay regularises the function"
    with_it, against = _sides(name, pair)
    if against:
        return f"trades its scale with {listed(against)}: decay acts on the product and balances the two sides"
    return f"free together with {listed(with_it)}, by unequal powers: decay on it changes the function"


def _sides(name: str, pair: Mapping[str, int]) -> tuple[list[str], list[str]]:
    up = pair[name] > 0
    return (
        [other for other, n in pair.items() if (n > 0) == up and other != name],
        [other for other, n in pair.items() if (n > 0) != up],
    )


def listed(names: Sequence[str]) -> str:
    """Write names with commas, the first few of many.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
