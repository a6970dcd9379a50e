"""What ``find_symmetries`` returns: the groups, the evidence, and how they are written down."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from scaleinv.errors import UserError


@dataclass(frozen=True)
class Partial:
    """The scale-invariant part of a fused tensor: slices ``ranges`` (start, end) along dimension ``dim``."""

    name: str
    dim: int
    ranges: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[int, int], ...] = ()  # smallest runs that are scale-invariant by themselves (heads)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dim": self.dim,
            "ranges": [list(r) for r in self.ranges],
            "blocks": [list(b) for b in self.blocks],
        }


@dataclass(frozen=True)
class Symmetries:
    """Every rescaling symmetry of a model's parameters. Names as in ``named_parameters()``, in the order of use.

    single: tensors w with f(c w) = f(w) for every c > 0.  row: those of them of which each row is so by itself.
    joint: minimal sets that are scale-invariant only together.  partial: scale-invariant parts of fused tensors.
    rescaling: minimal symmetries of mixed sign, {name: exponent}.  dead: tensors the output does not depend on.
    fixed: tensors in no symmetry.  evidence: the numbers behind it.  defect: per group, what eps does to it.
    """

    single: tuple[str, ...]
    row: tuple[str, ...]
    joint: tuple[tuple[str, ...], ...]
    partial: tuple[Partial, ...]
    rescaling: tuple[Mapping[str, int], ...]
    dead: tuple[str, ...]
    fixed: tuple[str, ...]
    evidence: Mapping[str, Any] = field(repr=False)
    defect: Mapping[str, Mapping[str, float | None]] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    norms: Mapping[str, float] = field(repr=False)  # Frobenius norm of each tensor as given
    frozen: tuple[str, ...] = field(default=(), repr=False)
    row_dim: Mapping[str, int] = field(default_factory=dict, repr=False)  # which dimension counts the rows of ``row``

    # -- groups --------------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> str:
        """``clear`` or ``undecided``."""
        return str(self.evidence["verdict"])

    @property
    def groups(self) -> list[tuple[str, tuple[str, ...]]]:
        """(name, tensors) of every single and joint group with a weight matrix in it: what rho is measured on.

        Groups of vectors only (the weight and bias of an affine norm), dead and wholly or partly frozen ones are left
        out.
        """
        return self.select()

    def select(self, *, with_affine: bool = False, frozen: bool = False) -> list[tuple[str, tuple[str, ...]]]:
        """:attr:`groups`, also those of vectors only (``with_affine``) and those with frozen tensors (``frozen``)."""
        result = []
        taken: set[str] = set()
        for tensors in [(name,) for name in self.single] + list(self.joint):
            if not with_affine and self.is_affine(tensors):
                continue
            if not frozen and any(name in self.frozen for name in tensors):
                continue
            if taken & set(tensors):
                continue  # each tensor belongs to one group only
            taken |= set(tensors)
            result.append((group_name(tensors), tensors))
        return result

    def parameters(
        self, model: nn.Module, *, with_affine: bool = False, frozen: bool = False
    ) -> dict[str, tuple[nn.Parameter, ...]]:
        """The groups of :meth:`select` as parameters of ``model`` (the analysed one, or one built alike)."""
        named = dict(model.named_parameters())
        chosen = self.select(with_affine=with_affine, frozen=frozen)
        for _, tensors in chosen:
            for tensor in tensors:
                if tensor not in named or tuple(named[tensor].shape) != self.shapes[tensor]:
                    raise UserError(
                        f"{type(model).__name__} has no parameter {tensor!r} of shape {self.shapes[tensor]}"
                    )
        return {name: tuple(named[tensor] for tensor in tensors) for name, tensors in chosen}

    def is_affine(self, tensors: tuple[str, ...]) -> bool:
        """Whether the group holds no matrix: gains, biases (one number per channel)."""
        return all(_vector(self.shapes[name]) for name in tensors)

    def norm(self, tensors: tuple[str, ...]) -> float:
        """rho of a group: the root of the summed squares."""
        return float(sum(self.norms[name] ** 2 for name in tensors) ** 0.5)

    # -- writing down --------------------------------------------------------------------------------------------

    def headline(self) -> str:
        """The answer in one sentence."""
        total = len(self.shapes)
        alone = f"{len(self.single)} of {total} tensors are scale-invariant alone"
        heavy = [tensors for tensors in self.joint if not self.is_affine(tensors)]
        if heavy:
            members = {name for tensors in heavy for name in tensors}
            alone += f", {len(members)} more in {_count(len(heavy), 'joint group')}"
        parts = [alone]
        if len(self.joint) > len(heavy):
            parts.append(_count(len(self.joint) - len(heavy), "affine pair"))
        if self.partial:
            parts.append(f"{_count(len(self.partial), 'fused tensor')} in part")
        pairs = _count(
            len(self.rescaling), "rescaling " + ("pair" if all(len(r) == 2 for r in self.rescaling) else "set")
        )
        parts.append(pairs if self.rescaling else "no rescaling pairs")
        kinds = "bias" if self.dead and all(_vector(self.shapes[n]) for n in self.dead) else "tensor"
        if self.dead:
            parts.append(
                f"{len(self.dead)} dead {kinds}" + ("" if len(self.dead) == 1 else "es" if kinds == "bias" else "s")
            )
        sentence = "; ".join(parts)
        if not (self.single or self.joint or self.partial or self.rescaling or self.dead):
            sentence = f"none of the {total} tensors has a rescaling symmetry"
        return sentence if self.verdict == "clear" else f"undecided: {self.evidence['reason']} ({sentence})"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers: what ``scaleinv doctor --json`` prints."""
        return {
            "single": list(self.single),
            "row": list(self.row),
            "joint": [list(tensors) for tensors in self.joint],
            "rescaling": [dict(r) for r in self.rescaling],
            "dead": list(self.dead),
            "fixed": list(self.fixed),
            "partial": [p.to_dict() for p in self.partial],
            "evidence": dict(self.evidence),
            "defect": {name: dict(values) for name, values in self.defect.items()},
        }

    def lines(self) -> list[tuple[str, str, str]]:
        """(kind, tensors, remark) of every finding, for tables."""
        rows: list[tuple[str, str, str]] = []
        for name in self.single:
            remark = "each row by itself" if name in self.row else ""
            rows.append(("single", name, remark))
        for tensors in self.joint:
            rows.append(("joint", " + ".join(tensors), "affine pair" if self.is_affine(tensors) else ""))
        for part in self.partial:
            spans = ", ".join(f"{a}:{b}" for a, b in part.ranges)
            rows.append(("partial", part.name, f"dim {part.dim}, {spans}"))
        for pair in self.rescaling:
            rows.append(("rescaling", rescaling_name(pair), ""))
        if self.dead:
            rows.append(("dead", ", ".join(self.dead), "weight decay on them does nothing to the function"))
        if self.fixed:
            rows.append(("fixed", ", ".join(self.fixed), "have a scale of their own"))
        return rows

    def __str__(self) -> str:
        return "\n".join(
            [self.headline(), *(f"  {kind:<9} {what}  {why}".rstrip() for kind, what, why in self.lines())]
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr>{''.join(f'<td style=text-align:left>{html.escape(cell)}</td>' for cell in line)}</tr>"
            for line in self.lines()
        )
        head = "<tr><th>kind</th><th>tensors</th><th>remark</th></tr>"
        return f"<p>{html.escape(self.headline())}</p><table>{head}{cells}</table>"


def group_name(tensors: tuple[str, ...]) -> str:
    """The name of a group: those of its tensors joined by ``+``."""
    return "+".join(tensors)


def rescaling_name(pair: Mapping[str, int]) -> str:
    """The exponents in words: ``a^+1, b^-1``."""
    return ", ".join(f"{name}^{exponent:+d}" for name, exponent in pair.items())


def _vector(shape: tuple[int, ...]) -> bool:
    count = 1
    for n in shape:
        count *= n
    return len(shape) <= 1 or count == shape[0]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
