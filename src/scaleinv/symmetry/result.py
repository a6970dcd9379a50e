"""Hold what ``find_symmetries`` returns: the groups, the evidence, and how they are written down."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from scaleinv.errors import UserError
from scaleinv.symmetry.claims import remember
from scaleinv.text import count, esc


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
class Slice:
    """A part of a tensor: ranges (start, end) along dimension ``dim``; dim None: the whole tensor."""

    name: str
    dim: int | None = None
    ranges: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        if self.dim is None:
            return self.name
        spans = ",".join(f"{a}:{b}" for a, b in self.ranges[:4]) + (",..." if len(self.ranges) > 4 else "")
        return f"{self.name}[{':, ' * self.dim}{spans}]"


@dataclass(frozen=True)
class Sliced:
    """A rescaling between slices of fused tensors: multiplying each by c^exponent changes no output.

    blocks: pairs of sub-slices that trade by themselves (heads), how many; 0: only as a whole.
    dead: a slice that the output does not depend on (exponents then holds it alone).
    """

    exponents: tuple[tuple[Slice, int], ...]
    blocks: int = 0
    dead: bool = False

    def __str__(self) -> str:
        if self.dead:
            return str(self.exponents[0][0])
        return ", ".join(f"{part}^{exponent:+d}" for part, exponent in self.exponents)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers."""
        parts = [
            {"name": s.name, "dim": s.dim, "ranges": [list(r) for r in s.ranges], "exponent": e}
            for s, e in self.exponents
        ]
        return {"parts": parts, "blocks": self.blocks, "dead": self.dead}


class ParameterGroups(dict[str, tuple[nn.Parameter, ...]]):
    """Hold groups of parameters by name, and what is known of their slices.

    row_dim: of the groups whose slices are scale-invariant one by one, the dimension that counts these slices (0: rows,
    1: columns); a group that is not in it is scale-invariant only as a whole.
    """

    def __init__(
        self, groups: Mapping[str, tuple[nn.Parameter, ...]], row_dim: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(groups)
        self.row_dim = dict(row_dim or {})


@dataclass(frozen=True)
class Symmetries:
    """Every rescaling symmetry of a model's parameters. Names as in ``named_parameters()``, in the order of use.

    single: tensors w with f(c w) = f(w) for every c > 0.  row: those of them of which each slice is so by itself;
    ``row_dim`` tells along which dimension (0: rows, 1: columns).
    joint: minimal sets that are scale-invariant only together.  weighted: such sets with unequal exponents.
    partial: scale-invariant parts of fused tensors.  blocks: of single tensors, runs of slices (heads, groups) that
    are so by themselves.  rescaling: minimal symmetries of mixed sign, {name: exponent}.  sliced: the same between
    slices of fused tensors.  dead: tensors the output does not depend on.  unreached: those without a gradient, and
    why.  fixed: tensors in no symmetry.  evidence: the numbers behind it.  defect: per group, what eps does to it.
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
    weighted: tuple[Mapping[str, int], ...] = ()  # scale-invariant sets with unequal exponents, all positive
    sliced: tuple[Sliced, ...] = ()  # rescalings between slices of fused tensors
    blocks: tuple[Partial, ...] = ()  # of single tensors: runs of slices that are scale-invariant by themselves
    unreached: Mapping[str, str] = field(default_factory=dict)  # tensors that no gradient reaches -> why
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

    def parameters(self, model: nn.Module, *, with_affine: bool = False, frozen: bool = False) -> ParameterGroups:
        """Give the groups of :meth:`select` as parameters of ``model`` (the analysed one, or one built alike)."""
        named = dict(model.named_parameters())
        chosen = self.select(with_affine=with_affine, frozen=frozen)
        for tensor in (tensor for _, tensors in chosen for tensor in tensors):
            if tensor not in named or tuple(named[tensor].shape) != self.shapes[tensor]:
                raise UserError(f"{type(model).__name__} has no parameter {tensor!r} of shape {self.shapes[tensor]}")
        remember(named, self)
        groups = {name: tuple(named[tensor] for tensor in tensors) for name, tensors in chosen}
        return ParameterGroups(groups, {name: dim for name, dim in self.row_dim.items() if name in groups})

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
        if self.weighted:
            parts.append(
                count(
                    len(self.weighted),
                    "scale-invariant set with unequal exponents",
                    "scale-invariant sets with unequal exponents",
                )
            )
        if self.partial:
            parts.append(f"{count(len(self.partial), 'fused tensor')} in part")
        kind = "rescaling pair" if all(len(r) == 2 for r in self.rescaling) else "rescaling set"
        parts.append(count(len(self.rescaling), kind) if self.rescaling else "no rescaling pairs")
        trades = [s for s in self.sliced if not s.dead]
        if trades:
            parts.append(count(len(trades), "rescaling of slices", "rescalings of slices"))
        if self.dead:
            biases = all(_vector(self.shapes[name]) for name in self.dead)
            parts.append(
                count(len(self.dead), "dead bias", "dead biases") if biases else count(len(self.dead), "dead tensor")
            )
        if self.unreached:
            parts.append(f"no gradient reaches {count(len(self.unreached), 'tensor')}")
        sentence = "; ".join(parts)
        found = self.single or self.joint or self.weighted or self.partial or self.rescaling or self.dead or self.sliced
        if not found:
            sentence = "; ".join([f"none of the {total} tensors has a rescaling symmetry", *parts[2:]])
        return sentence if self.verdict == "clear" else f"undecided: {self.evidence['reason']} ({sentence})"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers: what ``scaleinv doctor --json`` prints."""
        return {
            "single": list(self.single),
            "row": list(self.row),
            "row_dim": dict(self.row_dim),
            "joint": [list(tensors) for tensors in self.joint],
            "rescaling": [dict(r) for r in self.rescaling],
            "dead": list(self.dead),
            "fixed": list(self.fixed),
            "weighted": [dict(r) for r in self.weighted],
            "partial": [p.to_dict() for p in self.partial],
            "blocks": [p.to_dict() for p in self.blocks],
            "sliced": [s.to_dict() for s in self.sliced],
            "unreached": dict(self.unreached),
            "evidence": dict(self.evidence),
            "defect": {name: dict(values) for name, values in self.defect.items()},
        }

    def lines(self) -> list[tuple[str, tuple[str, ...], str]]:
        """List (kind, tensors, remark) of every finding, for tables."""
        rows: list[tuple[str, tuple[str, ...], str]] = []
        for kind, groups in (("single", [(name,) for name in self.single]), ("joint", self.joint)):
            rows += [(kind, tensors, "; ".join(self._remarks(tensors))) for tensors in groups]
        for group in self.weighted:
            words = " + ".join(f"{name}^{n}" if n > 1 else name for name, n in group.items())
            rows.append(("joint", (words,), "scale-invariant with these exponents"))
        for part in self.partial:
            spans = ", ".join(f"{a}:{b}" for a, b in part.ranges)
            rows.append(("partial", (part.name,), f"scale-invariant in dim {part.dim}: {spans}"))
        rows += [("rescaling", (rescaling_name(pair),), "") for pair in self.rescaling]
        for trade in self.sliced:
            remark = "a slice that is dead" if trade.dead else ""
            if trade.blocks > 1:
                remark = f"each of {trade.blocks} blocks by itself"
            rows.append(("dead" if trade.dead else "rescaling", (str(trade),), remark))
        if self.dead:
            rows.append(("dead", self.dead, "weight decay on dead tensors does nothing to the function"))
        for why in dict.fromkeys(self.unreached.values()):
            rows.append(("unreached", tuple(n for n, w in self.unreached.items() if w == why), why))
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
        for part in self.blocks:
            if tensors == (part.name,):
                remarks.append(_block_words(part))
        if tensors[0] in self.row and len(tensors) == 1:
            dim = self.row_dim.get(tensors[0], 0)
            remarks.append(
                {0: "each row by itself", 1: "each column (dimension 1) by itself"}.get(
                    dim, f"each slice of dimension {dim} by itself"
                )
            )
        return remarks

    def _texts(self) -> list[tuple[str, str, str]]:
        return [(kind, (" + " if kind == "joint" else ", ").join(what), why) for kind, what, why in self.lines()]

    def __str__(self) -> str:
        return "\n".join(
            [self.headline(), *(f"  {kind:<9} {what}  {why}".rstrip() for kind, what, why in self._texts())]
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr>{''.join(f'<td style=text-align:left>{esc(cell)}</td>' for cell in line)}</tr>"
            for line in self._texts()
        )
        head = "<tr><th>kind</th><th>tensors</th><th>remark</th></tr>"
        return f"<p>{esc(self.headline())}</p><table>{head}{cells}</table>"


def group_name(tensors: tuple[str, ...]) -> str:
    """The name of a group: those of its tensors joined by ``+``."""
    return "+".join(tensors)


def rescaling_name(pair: Mapping[str, int]) -> str:
    """The exponents in words: ``a^+1, b^-1``."""
    return ", ".join(f"{name}^{exponent:+d}" for name, exponent in pair.items())


def _block_words(part: Partial) -> str:
    sizes = {b - a for a, b in part.blocks}
    what = {0: "rows", 1: "columns"}.get(part.dim, f"slices of dimension {part.dim}")
    size = str(sizes.pop()) if len(sizes) == 1 else "several"
    return f"each of {len(part.blocks)} blocks of {size} {what} by itself"


def _vector(shape: tuple[int, ...]) -> bool:
    return len(shape) <= 1 or math.prod(shape) == shape[0]
