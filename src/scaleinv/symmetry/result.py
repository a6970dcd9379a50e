"""Hold what ``find_symmetries`` returns: the groups, the evidence, and how they are written down."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from scaleinv.errors import UserError
from scaleinv.symmetry.claims import remember
from scaleinv.text import count


@dataclass(frozen=True)
class Partial:
    """The scale-invariant part of a fused tensor: slices ``ranges`` (start, end) along dimension ``dim``."""

    name: str
    dim: int
    ranges: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[int, int], ...] = ()  # smallest runs that are scale-invariant by themselves (heads)

    def to_dict(self) -> dict[str, Any]:
        pairs = {"ranges": [list(r) for r in self.ranges], "blocks": [list(b) for b in self.blocks]}
        return {"name": self.name, "dim": self.dim, **pairs}


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
        """Select :attr:`groups`, also those of vectors only (``with_affine``) or with frozen tensors (``frozen``)."""
        result = []
        taken: set[str] = set()
        for tensors in [(name,) for name in self.single] + list(self.joint):
            wanted = (with_affine or not self.is_affine(tensors)) and (frozen or not set(self.frozen) & set(tensors))
            if wanted and not taken & set(tensors):  # each tensor belongs to one group only
                taken |= set(tensors)
                result.append((group_name(tensors), tensors))
        return result

    def parameters(
        self, model: nn.Module, *, with_affine: bool = False, frozen: bool = False
    ) -> dict[str, tuple[nn.Parameter, ...]]:
        """Give the groups of :meth:`select` as parameters of ``model`` (the analysed one, or one built alike)."""
        named = dict(model.named_parameters())
        chosen = self.select(with_affine=with_affine, frozen=frozen)
        for tensor in (tensor for _, tensors in chosen for tensor in tensors):
            if tensor not in named or tuple(named[tensor].shape) != self.shapes[tensor]:
                raise UserError(f"{type(model).__name__} has no parameter {tensor!r} of shape {self.shapes[tensor]}")
        remember(named, self)
        return {name: tuple(named[tensor] for tensor in tensors) for name, tensors in chosen}

    def is_affine(self, tensors: tuple[str, ...]) -> bool:
        """Whether the group holds no matrix: gains, biases (one number per channel)."""
        return all(_vector(self.shapes[name]) for name in tensors)

    def norm(self, tensors: tuple[str, ...]) -> float:
        """rho of a group: the root of the summed squares."""
        return float(sum(self.norms[name] ** 2 for name in tensors) ** 0.5)

    def headline(self) -> str:
        """The answer in one sentence."""
        total = len(self.shapes)
        heavy = [tensors for tensors in self.joint if not self.is_affine(tensors)]
        parts = [f"{len(self.single)} of {total} tensors are scale-invariant alone"]
        if heavy:
            members = {name for tensors in heavy for name in tensors}
            parts[0] += f", {len(members)} more in {count(len(heavy), 'joint group')}"
        if len(self.joint) > len(heavy):
            parts.append(count(len(self.joint) - len(heavy), "affine pair"))
        if self.partial:
            parts.append(f"{count(len(self.partial), 'fused tensor')} in part")
        kind = "rescaling pair" if all(len(r) == 2 for r in self.rescaling) else "rescaling set"
        parts.append(count(len(self.rescaling), kind) if self.rescaling else "no rescaling pairs")
        if self.dead:
            biases = all(_vector(self.shapes[name]) for name in self.dead)
            parts.append(
                count(len(self.dead), "dead bias", "dead biases") if biases else count(len(self.dead), "dead tensor")
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

    def lines(self) -> list[tuple[str, tuple[str, ...], str]]:
        """List (kind, tensors, remark) of every finding, for tables."""
        rows: list[tuple[str, tuple[str, ...], str]] = []
        for kind, groups in (("single", [(name,) for name in self.single]), ("joint", self.joint)):
            rows += [(kind, tensors, "; ".join(self._remarks(tensors))) for tensors in groups]
        for part in self.partial:
            spans = ", ".join(f"{a}:{b}" for a, b in part.ranges)
            rows.append(("partial", (part.name,), f"scale-invariant in dim {part.dim}: {spans}"))
        rows += [("rescaling", (rescaling_name(pair),), "") for pair in self.rescaling]
        if self.dead:
            rows.append(("dead", self.dead, "weight decay on dead tensors does nothing to the function"))
        if self.fixed:
            rows.append(("fixed", self.fixed, "have a scale of their own"))
        return rows

    def _remarks(self, tensors: tuple[str, ...]) -> list[str]:
        frozen = [name in self.frozen for name in tensors]
        remarks = []
        if any(frozen):
            remarks.append("frozen" if all(frozen) else "frozen in part: not free in training")
        if self.is_affine(tensors):
            remarks.append("affine pair of a norm" if len(tensors) == 2 else "gains and biases")
        if tensors[0] in self.row and len(tensors) == 1:
            dim = self.row_dim.get(tensors[0], 0)
            remarks.append("each row by itself" if dim == 0 else f"each slice of dim {dim} by itself")
        return remarks

    def _texts(self) -> list[tuple[str, str, str]]:
        return [(kind, (" + " if kind == "joint" else ", ").join(what), why) for kind, what, why in self.lines()]

    def __str__(self) -> str:
        return "\n".join(
            [self.headline(), *(f"  {kind:<9} {what}  {why}".rstrip() for kind, what, why in self._texts())]
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr>{''.join(f'<td style=text-align:left>{html.escape(cell)}</td>' for cell in line)}</tr>"
            for line in self._texts()
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
    return len(shape) <= 1 or math.prod(shape) == shape[0]
