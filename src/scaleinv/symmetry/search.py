"""Search for symmetries: rows of J at generic places, null space, basis, slices. ``verify`` tests what it finds."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.symmetry.circuits import Irrational, canonical_basis
from scaleinv.symmetry.copies import view_real
from scaleinv.symmetry.fused import Trade, candidates, trades
from scaleinv.symmetry.jacobian import (
    SPARE_ROWS,
    JacobianRows,
    NoGradient,
    Spectrum,
    cotangent,
    factor_rows,
    full_row,
    spectrum,
)
from scaleinv.symmetry.numeric import difference_rows
from scaleinv.symmetry.parts import Slices, each_slice, ranges
from scaleinv.symmetry.precision import Precision
from scaleinv.symmetry.probe import Probe, Viewpoint
from scaleinv.symmetry.result import group_name, rescaling_name
from scaleinv.symmetry.trial import DRAWS_OF_RANDOM
from scaleinv.symmetry.verify import TOLERANCE, RescalingClaim, verify_moves

#: cotangents for the row and part tests
DRAWS = 8
#: generic places at which the null space must be the same
PLACES = 2
_MORE_PLACES = 4

#: places at which a gradient that is exactly zero is looked at again, before the tensor is called dead
_MORE_LOOKS = 16
#: random draws of a model that is random by itself, until every tensor has been used
_MORE_DRAWS = 24


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
    spectrum: Spectrum = field(default_factory=lambda: spectrum(torch.zeros(0, 0)))
    single: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)
    fast: bool = True  # rows by activations agree with rows by whole gradients
    numeric: bool = False  # rows by differences of the outputs: there is no gradient, or it is not the function's
    mask: Tensor = field(default_factory=lambda: torch.zeros(0))
    reach: list[Reach] = field(default_factory=list)
    order: list[int] = field(default_factory=list)  # the last call that used each tensor, at any place
    touched: set[int] = field(default_factory=set)  # tensors that a call has used
    places: list[Viewpoint] = field(default_factory=list)
    sizes: Tensor = field(default_factory=lambda: torch.zeros(0))  # (T,) |g| |w|, of dead tensors too

    def used(self, probe: Probe) -> None:
        """Take in which tensors the last run used, and when."""
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
        claims = [RescalingClaim(names[i], {i: 1}) for i in self.order if i in self.state.single]
        for group in self.joint:
            claims.append(RescalingClaim(group_name(tuple(names[i] for i in group)), dict.fromkeys(group, 1)))
        for pair in [*self.weighted, *self.rescaling]:
            claims.append(RescalingClaim(rescaling_name({names[i]: n for i, n in pair.items()}), pair))
        for i, (dim, spans, _) in self.parts.items():
            where = ",".join(f"{a}:{b}" for a, b in spans)
            claims.append(RescalingClaim(f"{names[i]}[dim {dim}, {where}]", {i: 1}, (dim, spans)))
        for trade in self.trades:
            terms = tuple((*piece, e) for piece, e in trade.pieces if e)
            if terms:
                claims.append(RescalingClaim(f"slices {terms}", {i: e for i, _, _, e in terms}, terms=terms))
        return claims

    @property
    def dead_slices(self) -> list[tuple[int, int, tuple[tuple[int, int], ...]]]:
        """Slices that the outputs do not depend on."""
        return [(i, d, spans) for t in self.trades for (i, d, spans), e in t.pieces if e == 0 and d is not None]


def search(probe: Probe, precision: Precision, seed: int, *, random: bool = False, numeric: bool = False) -> Found:
    """Find the null space at two or more generic places and its basis; leave the probe at the last place.

    random: the model draws random numbers of its own; every place is then another draw, until all tensors were used.
    numeric: differences of the outputs instead of gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(probe.tensors)
    state = State(JacobianRows(torch.zeros(count, dtype=torch.float64)), numeric=numeric)
    state.order = [0] * count
    state.reach, state.sizes = [Reach.NONE] * count, torch.zeros(count, dtype=torch.float64)
    vectors: list[tuple[int, ...]] = []
    reason = settle_signs(probe, _place(seed, 0))
    place, rank, grew = 0, -1, True
    least = DRAWS_OF_RANDOM if random else PLACES
    # few outputs give few rows a place: go on until a place adds nothing to the rank
    while (
        place < least
        or (grew and place < least + _MORE_PLACES + count)
        or (reason and place < least + _MORE_PLACES)
        or (random and place < _MORE_DRAWS and any(r is not Reach.SOME for r in state.reach))
    ):
        if reason and place and not state.rows.size.any():
            break
        _look(probe, state, precision, generator, _place(seed, place, random=random))
        place += 1
        if place == least:
            _look_again(probe, state, precision, generator, seed)
        grew, rank = state.spectrum.cut > rank, state.spectrum.cut
        if grew and place > 1:
            continue
        vectors, reason = _vectors(probe, state, precision)
    if not vectors and not reason:
        vectors, reason = _vectors(probe, state, precision)
    if not reason and not state.spectrum.clear:
        reason = "no clear gap between the singular values"
    exponents = [dict(zip(state.rest, vector)) for vector in vectors]
    basis = [tuple(of.get(i, 0) for i in range(count)) for of in exponents]
    probe.order = state.order
    order = sorted(range(count), key=lambda i: (probe.order[i], i))
    unreached = _unreached(probe, state)
    state.dead = [i for i in state.dead if i not in unreached]
    row, parts, blocks = _slices(state, precision)
    if numeric:
        row = _rows_by_scaling(probe, state)
    shapes = [tuple(p.shape) for p in probe.tensors]
    biases = [i for i in state.dead if len(shapes[i]) == 1]
    between = trades(state.slices, shapes, probe.names, [*state.rest, *biases], precision)
    return Found(state, precision, basis, order, row, parts, blocks, reason, unreached, between)


def _place(seed: int, number: int, *, random: bool = False) -> Viewpoint:
    return Viewpoint(seed * 1_000_003 + number, number if random else 0)


def _vectors(probe: Probe, state: State, precision: Precision) -> tuple[list[tuple[int, ...]], str]:
    """Compute the basis of the null space seen so far, or say why it has none."""
    try:
        null = state.spectrum.null.numpy()
        return canonical_basis(null, [state.order[i] for i in state.rest], tolerance=precision.snap), ""
    except Irrational as error:
        return [], f"the null space is not made of rescalings: {error}"


def settle_signs(probe: Probe, place: Viewpoint) -> str:
    """See that the outputs are finite at a generic place; tensors of one sign (variances) keep it where they must."""
    with torch.no_grad():
        for p, own in zip(probe.tensors, probe.original):
            p.copy_(own)
    finite = torch.isfinite(probe.value())
    one_sign = [
        bool((own > 0).all() or (own < 0).all()) if own.is_floating_point() else False for own in probe.original
    ]
    nonzero = [bool((view_real(own) != 0).all()) and own.is_floating_point() for own in probe.original]
    for kept in (
        probe.keep_sign,
        frozenset(i for i, s in enumerate(one_sign) if s),
        frozenset(i for i, s in enumerate(nonzero) if s),
    ):
        probe.keep_sign = kept
        probe.goto(place)
        moved = probe.value()
        if moved.shape != finite.shape or bool(torch.isfinite(moved)[finite].all()):
            return ""
    if bool(torch.isfinite(moved)[finite].any()):
        return ""
    return "moved by 20 %, the weights give NaN: the outputs are defined at these weights only"


def _look_again(probe: Probe, state: State, precision: Precision, generator: torch.Generator, seed: int) -> None:
    """Look elsewhere for tensors whose gradient was missing or exactly zero: other inputs, draws and weights.

    A bias in front of a batch norm has a gradient that cancels to rounding. One that is exactly zero may be hidden: an
    expert that no token was sent to, a unit that never fires, what stands behind a mask.
    """
    back = state.places[-1]
    for k in range(1, _MORE_LOOKS + 1):
        hidden = [i for i, r in enumerate(state.reach) if r is not Reach.SOME]
        if not hidden or state.numeric:
            break
        place = Viewpoint(seed * 1_000_003 + 100 + k, k % 3, shuffle=k if k % 2 else 0, fresh=k > 2, quiet=k % 4 > 1)
        try:
            probe.goto(place)
            with probe.differentiable(hidden):
                outputs = probe.outputs()
                if not outputs.requires_grad or not bool(torch.isfinite(outputs).any()):
                    continue
                u = cotangent(torch.isfinite(outputs).double(), generator)
                rows = full_row(probe, outputs.nan_to_num(0, 0, 0), u, hidden, keep=False)
        except (UserError, NoGradient, RuntimeError, IndexError, ValueError, AssertionError):
            continue  # these inputs are not for this model
        state.used(probe)
        seen = [
            i for i, g in zip(hidden, rows) if g is not None and bool((g != 0).any()) and bool(torch.isfinite(g).all())
        ]
        if seen:
            before = state.mask, state.places[:]
            try:
                _look(probe, state, precision, generator, place)
            except (UserError, NoGradient):
                state.mask, state.places = before[0], before[1]
            for i in seen:
                state.reach[i] = Reach.SOME
    probe.goto(back)
    state.mask = usable_outputs(probe, precision)


def _unreached(probe: Probe, state: State) -> dict[int, str]:
    """Say of the tensors without a gradient why: not used at all, or used where no gradient passes."""
    why: dict[int, str] = {}
    lost = [i for i in state.dead if state.reach[i] is Reach.NONE]
    if not lost or state.numeric:
        return why
    usable, base = state.mask > 0, probe.value()
    generator = torch.Generator().manual_seed(11)
    for i in lost:
        with probe.restored([i]), torch.no_grad():
            p = probe.tensors[i]
            p.mul_((0.5 + torch.rand(p.shape, generator=generator, dtype=torch.float64)).to(p.device))
            moved = probe.value()
        if not torch.equal(moved[usable], base[usable]):
            why[i] = "the outputs depend on it, but no gradient passes (no_grad or detach)"
        elif i not in state.touched:
            why[i] = "the forward does not use it on these inputs"
    return why


def _slices(state: State, precision: Precision) -> tuple[dict[int, int], dict[int, Part], dict[int, Part]]:
    row: dict[int, int] = {}
    parts: dict[int, Part] = {}
    blocks: dict[int, Part] = {}
    for i, slices in state.slices.items():
        if slices.draws >= DRAWS and i in state.single and (dim := each_slice(slices, precision.part)) is not None:
            row[i] = dim
        if slices.draws >= DRAWS and i in state.rest and (part := ranges(slices, precision.part)) is not None:
            parts[i] = (part[0], tuple(part[1]), tuple(part[2]))
        if slices.draws >= DRAWS and i in state.single and i not in row:
            part = ranges(slices, precision.part)
            if part is not None and len(part[2]) > 1:
                blocks[i] = (part[0], tuple(part[1]), tuple(part[2]))
    return row, parts, blocks


def _rows_by_scaling(probe: Probe, state: State) -> dict[int, int]:
    """Find the dimension along which each slice of a tensor is scale-invariant, by scaling every slice."""
    row: dict[int, int] = {}
    for i in state.single:
        shape = probe.tensors[i].shape
        for d in range(len(shape)) if sum(n > 1 for n in shape) > 1 else ():
            if shape[d] > 1 and verify_moves(probe, {i: d}, state.mask, torch.Generator().manual_seed(d)) <= TOLERANCE:
                row[i] = d
                break
    return row


def usable_outputs(probe: Probe, precision: Precision) -> Tensor:
    """Mark the outputs that can be trusted with 1.0 (M,); move to a larger eps where few are left.

    A constant channel in front of a norm gives 0/sqrt(eps) in exact arithmetic and rounding/sqrt(eps) on a computer:
    what changes with eps between 1e-30 and 1e-20 comes from there.
    """
    good = torch.zeros(0)
    for small, large in filter(None, (precision.eps, precision.moderate)):
        probe.set_eps(large)
        second = probe.value()
        probe.set_eps(small)
        first = probe.value()
        good = torch.isfinite(first) & torch.isfinite(second)
        scale = first[good].abs().max() if bool(good.any()) else first.new_tensor(1.0)
        good &= (first - second).abs() <= (1e-3 if precision.single else 1e-7) * scale
        if float(good.double().mean()) >= 0.5:
            break
    return good.double()


def _look(probe: Probe, state: State, precision: Precision, generator: torch.Generator, place: Viewpoint) -> None:
    """Add the rows of one place to the state and decide anew."""
    count = len(probe.tensors)
    everything = list(range(count))
    first = not state.places
    probe.goto(place)
    state.places.append(place)
    mask = state.mask = usable_outputs(probe, precision)
    before = len(state.rows.values)
    if state.numeric:
        rows, sizes = difference_rows(probe, mask, generator, min(int(mask.sum()), count) + SPARE_ROWS)
        state.rows.add(rows)
        state.sizes = torch.maximum(state.sizes, sizes)
        state.used(probe)
        state.reach = [Reach.SOME if s > 0 else r for s, r in zip(sizes.tolist(), state.reach)]
        _size(state, precision)
        _decide(state, precision)
        return
    # whole gradients: the size of each column, and what the row test needs
    cotangents = [cotangent(mask, generator) for _ in range(2)]
    with probe.differentiable():
        try:
            outputs = probe.outputs()
        except RuntimeError as error:  # it ran without a graph
            raise NoGradient(str(error)) from error
        state.used(probe)
        rows = torch.stack([_whole(probe, state, outputs, u, everything, slices=first) for u in cotangents])
    state.rows.add(rows)
    _size(state, precision)
    # activations only: the rows that decide the rank
    del outputs
    device = probe.tensors[0].device
    factors = torch.ones(count, dtype=precision.dtype, device=device, requires_grad=True)
    with contextlib.ExitStack() as stack:
        if state.fast:
            outputs = _by_factors(probe, state, factors, cotangents, rows, precision)
        if not state.fast:
            stack.enter_context(probe.differentiable())
            outputs = probe.outputs()
        extra = SPARE_ROWS
        while True:
            draws = [cotangent(mask, generator) for _ in range(extra)]
            if state.fast:
                state.rows.add(factor_rows(outputs, factors, draws))
            else:
                whole = [_whole(probe, state, outputs, u, everything, slices=False) for u in draws]
                state.rows.add(torch.stack(whole))
            _decide(state, precision)
            missing = state.spectrum.cut + SPARE_ROWS - len(state.rows.values)
            here = len(state.rows.values) - before
            if missing <= 0 or here >= min(int(mask.sum()), count) + SPARE_ROWS:
                break
            extra = min(max(missing, 3), 16)
        del outputs
    if first:
        _more_draws(probe, state, precision, generator)


def _by_factors(
    probe: Probe, state: State, factors: Tensor, cotangents: list[Tensor], rows: Tensor, precision: Precision
) -> Tensor:
    """Compute the outputs with a factor on every tensor; note whether rows by them are those of whole gradients."""
    live = state.rows.size > 0
    outputs = torch.zeros(0)
    try:
        outputs = probe.outputs(list(factors.unbind()))
        error = (factor_rows(outputs, factors, cotangents) - rows).abs()
        state.fast = bool((error <= precision.agree * state.rows.size)[:, live].all())
    except RuntimeError:  # the factors are not in the graph: tensors went where no call is seen
        state.fast = False
    return outputs


def _whole(probe: Probe, state: State, outputs: Tensor, u: Tensor, which: list[int], *, slices: bool) -> Tensor:
    """Compute one row by whole gradients (T,); ``slices`` keeps the sums over slices as well."""
    row = torch.zeros(len(probe.tensors), dtype=torch.float64)
    for i, g in zip(which, full_row(probe, outputs, u, which)):
        if g is None:
            continue
        w = view_real(probe.tensors[i].detach())
        g = view_real(g.to_dense() if g.layout is not torch.strided else g)
        row[i] = float((g * w).sum(dtype=torch.float64))
        size = float(g.norm()) * float(w.norm())
        state.reach[i] = max(state.reach[i], Reach.SOME if size else Reach.ZERO)
        state.sizes[i] = max(float(state.sizes[i]), size)
        if slices:
            state.slices.setdefault(i, Slices()).add(g, w)
    return row


def _size(state: State, precision: Precision) -> None:
    """Take the sizes seen so far; of tensors whose gradient is nothing but rounding it is 0: they are dead."""
    state.rows.size = state.sizes.clone()
    largest = float(state.sizes.max())
    state.dead = [i for i, s in enumerate(state.sizes.tolist()) if not s > precision.dead * largest]
    state.rows.size[state.dead] = 0.0


def _decide(state: State, precision: Precision) -> None:
    cosine = state.rows.cosine()
    dead = set(state.dead)
    state.single = [i for i, c in enumerate(cosine.tolist()) if i not in dead and c < precision.zero]
    gone = dead | set(state.single)
    state.rest = [i for i in range(len(cosine)) if i not in gone]
    size = state.rows.size[state.rest]
    found = spectrum(
        state.rows.values[:, state.rest] / size, noise=precision.noise, floor=precision.floor, gap=precision.gap
    )
    # back to the exponents of the tensors, whose sizes differ by orders: orthonormal again, for the echelon form
    null = torch.linalg.qr((found.null / size).T).Q.T if len(found.null) else found.null
    state.spectrum = Spectrum(found.singular, null, found.cut, found.clear, found.kept, found.dropped)


def _more_draws(probe: Probe, state: State, precision: Precision, generator: torch.Generator) -> None:
    """Take the slice sums of further cotangents for the tensors that may have scale-invariant slices."""
    part = precision.part
    promising = (i for i, s in state.slices.items() if each_slice(s, part) is not None or ranges(s, part) is not None)
    chosen = [i for i in promising if i not in state.dead]
    shapes = [tuple(p.shape) for p in probe.tensors]
    everything = [i for i in range(len(shapes)) if i not in state.single] if candidates(shapes, state.rest) else []
    if not chosen and not everything:
        return
    with probe.differentiable(sorted({*chosen, *everything})):
        outputs = probe.outputs()
        for k in range(DRAWS - 2):
            which = sorted({*chosen, *everything}) if k < 2 else chosen
            if which:
                _whole(probe, state, outputs, cotangent(state.mask, generator), which, slices=True)
