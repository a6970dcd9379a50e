"""What the search knows so far, and what it has found, in indices of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from scaleinv.symmetry.fused import Trade
from scaleinv.symmetry.jacobian import JacobianRows, Spectrum, spectrum
from scaleinv.symmetry.parts import Slices
from scaleinv.symmetry.precision import Precision
from scaleinv.symmetry.probe import Probe, Viewpoint
from scaleinv.symmetry.result import group_name, rescaling_name
from scaleinv.symmetry.verify import RescalingClaim


class Reach(IntEnum):
    """What the gradient of a tensor was at best."""

    NONE = 0  # there is none
    ZERO = 1  # exactly zero
    SOME = 2  # numbers, though they may cancel to rounding


#: dimension, ranges, smallest blocks
Part = tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


@dataclass
class State:
    """What is known so far; tensors by index."""

    rows: JacobianRows
    slices: dict[int, Slices] = field(default_factory=dict)
    spectrum: Spectrum = field(default_factory=lambda: spectrum(torch.zeros(0, 0, device="cpu")))
    single: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)  # of ``single``, those whose sign alone counts: no gradient
    rest: list[int] = field(default_factory=list)
    fast: bool = True  # rows by activations agree with rows by whole gradients
    numeric: bool = False  # rows by differences of the outputs: there is no gradient, or it is not the function's
    mask: Tensor = field(default_factory=lambda: torch.zeros(0, device="cpu"))
    reach: list[Reach] = field(default_factory=list)
    order: list[int] = field(default_factory=list)  # the last call that used each tensor, at any place
    uses: dict[Viewpoint, frozenset[int]] = field(default_factory=dict)  # tensors that ran, place by place
    touched: set[int] = field(default_factory=set)  # tensors that a call has used
    gated: set[tuple[int, int]] = field(default_factory=set)  # (i, j): the numbers of i decide whether j is used
    places: list[Viewpoint] = field(default_factory=list)
    sizes: Tensor = field(default_factory=lambda: torch.zeros(0, device="cpu"))  # (T,) |g| |w|, of dead tensors too

    def used(self, probe: Probe) -> None:
        """Take in which tensors the last run used, and when."""
        self.uses[probe.place] = frozenset(probe.touched())
        self.touched |= probe.touched()
        self.order = [max(a, b) for a, b in zip(self.order, probe.order)]


@dataclass
class Found:
    """The answer in indices."""

    state: State
    precision: Precision
    basis: list[tuple[int, ...]]  # exponents of all tensors
    order: list[int]  # tensors in the order of last use
    row: dict[int, int]  # tensor -> dimension of its rows, each scale-invariant
    parts: dict[int, Part]
    blocks: dict[int, Part]  # of tensors that are scale-invariant alone: the blocks that are so by themselves
    reason: str  # why the answer is undecided, empty if it is not
    unreached: dict[int, str]  # tensors that no gradient reaches -> why
    trades: list[Trade] = field(default_factory=list)  # between slices of fused tensors

    @property
    def joint(self) -> list[list[int]]:
        """Sets of tensors with exponent 1 each."""
        return [[i for i in self.order if v[i]] for v in self.basis if set(v) <= {0, 1}]

    @property
    def weighted(self) -> list[dict[int, int]]:
        """Scale-invariant sets with unequal exponents, all positive."""
        return [self._exponents(v) for v in self.basis if min(v) >= 0 and not set(v) <= {0, 1}]

    @property
    def rescaling(self) -> list[dict[int, int]]:
        """Symmetries of mixed sign, exponents by tensor."""
        return [self._exponents(v) for v in self.basis if min(v) < 0]

    def _exponents(self, vector: tuple[int, ...]) -> dict[int, int]:
        return {i: vector[i] for i in self.order if vector[i]}

    def claims(self, names: Sequence[str]) -> list[RescalingClaim]:
        """Everything that was found, in the form the test by scaling takes."""
        signs = set(self.state.signs)
        claims = [RescalingClaim(names[i], {i: 1}, flat=i in signs) for i in self.order if i in self.state.single]
        for group in self.joint:
            claims.append(RescalingClaim(group_name(tuple(names[i] for i in group)), dict.fromkeys(group, 1)))
        for pair in [*self.weighted, *self.rescaling]:
            claims.append(RescalingClaim(rescaling_name({names[i]: n for i, n in pair.items()}), pair))
        for i, (dim, spans, _) in self.parts.items():
            where = ",".join(f"{a}:{b}" for a, b in spans)
            claims.append(RescalingClaim(f"{names[i]}[dim {dim}, {where}]", {i: 1}, (dim, spans)))
        for i, (dim, _, blocks) in self.blocks.items():
            # powers that differ and are positive: an eps must vanish beside every block as the weights grow
            each = tuple((i, dim, (block,), 1 + k % 3) for k, block in enumerate(blocks))
            claims.append(RescalingClaim(f"blocks of {names[i]}", {i: 1}, terms=each))
        for trade in self.trades:
            if terms := _terms(trade):
                claims.append(RescalingClaim(f"slices {terms}", {i: e for i, _, _, e in terms}, terms=terms))
        return claims

    def drop(self, failed: set[str], names: Sequence[str]) -> None:
        """Take back what was said of slices, which were seen at one place, where it failed at another."""
        for i, (dim, spans, _) in list(self.parts.items()):
            where = ",".join(f"{a}:{b}" for a, b in spans)
            if f"{names[i]}[dim {dim}, {where}]" in failed:
                del self.parts[i]
        self.blocks = {i: part for i, part in self.blocks.items() if f"blocks of {names[i]}" not in failed}
        self.trades = [t for t in self.trades if f"slices {_terms(t)}" not in failed]

    @property
    def dead_slices(self) -> list[tuple[int, int, tuple[tuple[int, int], ...]]]:
        """Slices that the outputs do not depend on."""
        return [(i, d, spans) for t in self.trades for (i, d, spans), e in t.pieces if e == 0 and d is not None]


def _terms(trade: Trade) -> tuple[tuple[int, int | None, tuple[tuple[int, int], ...], int], ...]:
    return tuple((*piece, e) for piece, e in trade.pieces if e)
