"""Search for symmetries: rows of J at generic places, null space, basis, slices. ``verify`` tests what it finds."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scaleinv.symmetry.circuits import Irrational, canonical_basis
from scaleinv.symmetry.jacobian import SPARE_ROWS, JacobianRows, Spectrum, cotangent, factor_rows, full_row, spectrum
from scaleinv.symmetry.parts import Slices, each_slice, ranges
from scaleinv.symmetry.precision import Precision
from scaleinv.symmetry.probe import Probe
from scaleinv.symmetry.result import group_name, rescaling_name
from scaleinv.symmetry.verify import RescalingClaim

#: cotangents for the row and part tests
DRAWS = 8
#: generic places at which the null space must be the same
PLACES = 2
_MORE_PLACES = 4

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
    mask: Tensor = field(default_factory=lambda: torch.zeros(0))


@dataclass
class Found:
    """The answer in indices."""

    state: State
    precision: Precision
    basis: list[tuple[int, ...]]  # exponents of all tensors
    order: list[int]  # tensors in the order of last use
    row: dict[int, int]  # tensor -> dimension of its rows, each scale-invariant
    parts: dict[int, Part]
    reason: str  # why the answer is undecided, empty if it is not

    @property
    def joint(self) -> list[list[int]]:
        """Sets of tensors with exponent 1 each."""
        return [[i for i in self.order if v[i]] for v in self.basis if set(v) <= {0, 1}]

    @property
    def rescaling(self) -> list[dict[int, int]]:
        """All other symmetries, exponents by tensor."""
        return [{i: v[i] for i in self.order if v[i]} for v in self.basis if not set(v) <= {0, 1}]

    def claims(self, names: Sequence[str]) -> list[RescalingClaim]:
        """Everything that was found, in the form the test by scaling takes."""
        claims = [RescalingClaim(names[i], {i: 1}) for i in self.order if i in self.state.single]
        for group in self.joint:
            claims.append(RescalingClaim(group_name(tuple(names[i] for i in group)), dict.fromkeys(group, 1)))
        for pair in self.rescaling:
            claims.append(RescalingClaim(rescaling_name({names[i]: n for i, n in pair.items()}), pair))
        for i, (dim, spans, _) in self.parts.items():
            where = ",".join(f"{a}:{b}" for a, b in spans)
            claims.append(RescalingClaim(f"{names[i]}[dim {dim}, {where}]", {i: 1}, (dim, spans)))
        return claims


def search(probe: Probe, precision: Precision, seed: int) -> Found:
    """Find the null space at two or more generic places and its basis; leave the probe at the last place."""
    generator = torch.Generator().manual_seed(seed)
    count = len(probe.tensors)
    state = State(JacobianRows(torch.zeros(count, dtype=torch.float64)))
    vectors: list[tuple[int, ...]] = []
    reason = ""
    place, rank, grew = 0, -1, True
    # few outputs give few rows a place: go on until a place adds nothing to the rank
    while place < PLACES or (grew and place < _MORE_PLACES + count) or (reason and place < _MORE_PLACES):
        probe.perturb(generator)
        _look(probe, state, precision, generator, first=place == 0)
        place += 1
        grew, rank = state.spectrum.cut > rank, state.spectrum.cut
        if grew and place > 1:
            continue
        try:
            null = state.spectrum.null.numpy()
            vectors = canonical_basis(null, [probe.order[i] for i in state.rest], tolerance=precision.snap)
            reason = ""
        except Irrational as error:
            vectors, reason = [], f"the null space is not made of rescalings: {error}"
    if not reason and not state.spectrum.clear:
        reason = "no clear gap between the singular values"
    exponents = [dict(zip(state.rest, vector)) for vector in vectors]
    basis = [tuple(of.get(i, 0) for i in range(count)) for of in exponents]
    order = sorted(range(count), key=lambda i: (probe.order[i], i))
    row, parts = _slices(state, precision)
    return Found(state, precision, basis, order, row, parts, reason)


def _slices(state: State, precision: Precision) -> tuple[dict[int, int], dict[int, Part]]:
    row: dict[int, int] = {}
    parts: dict[int, Part] = {}
    for i, slices in state.slices.items():
        if slices.draws >= DRAWS and i in state.single and (dim := each_slice(slices, precision.part)) is not None:
            row[i] = dim
        if slices.draws >= DRAWS and i in state.rest and (part := ranges(slices, precision.part)) is not None:
            parts[i] = (part[0], tuple(part[1]), tuple(part[2]))
    return row, parts


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


def _look(probe: Probe, state: State, precision: Precision, generator: torch.Generator, *, first: bool) -> None:
    """Add the rows of one place to the state and decide anew."""
    count = len(probe.tensors)
    everything = list(range(count))
    mask = state.mask = usable_outputs(probe, precision)
    # whole gradients: the size of each column, and what the row test needs
    before = len(state.rows.values)
    cotangents = [cotangent(mask, generator) for _ in range(2)]
    with probe.differentiable():
        outputs = probe.outputs()
        order = probe.order
        rows = torch.stack([_whole(probe, state, outputs, u, everything, note=first) for u in cotangents])
    state.rows.add(rows)
    if first:
        state.dead = _dead(state.rows.size, precision.dead)
    # activations only: the rows that decide the rank
    del outputs
    device = probe.tensors[0].device
    factors = torch.ones(count, dtype=precision.dtype, device=device, requires_grad=True)
    with contextlib.ExitStack() as stack:
        if state.fast:
            outputs = probe.outputs(list(factors.unbind()))
            live = state.rows.size > 0
            error = (factor_rows(outputs, factors, cotangents) - rows).abs()
            state.fast = bool((error <= precision.agree * state.rows.size)[:, live].all())
        if not state.fast:
            stack.enter_context(probe.differentiable())
            outputs = probe.outputs()
        probe.order = order
        extra = SPARE_ROWS
        while True:
            draws = [cotangent(mask, generator) for _ in range(extra)]
            if state.fast:
                state.rows.add(factor_rows(outputs, factors, draws))
            else:
                whole = [_whole(probe, state, outputs, u, everything, note=False) for u in draws]
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


def _whole(probe: Probe, state: State, outputs: Tensor, u: Tensor, which: list[int], *, note: bool) -> Tensor:
    """Compute one row by whole gradients (T,); ``note`` keeps sizes and slice sums as well."""
    row = torch.zeros(len(probe.tensors), dtype=torch.float64)
    for i, g in zip(which, full_row(probe, outputs, u, which)):
        if g is None:
            continue
        w = probe.tensors[i].detach()
        row[i] = float((g * w).sum(dtype=torch.float64))
        if note:
            state.rows.size[i] = max(float(state.rows.size[i]), float(g.norm()) * float(w.norm()))
            state.slices.setdefault(i, Slices()).add(g, w)
    return row


def _dead(size: Tensor, threshold: float) -> list[int]:
    """List the tensors whose gradient is nothing but rounding, and set their size to 0."""
    largest = float(size.max())
    dead = [i for i, s in enumerate(size.tolist()) if s <= threshold * largest]
    size[dead] = 0.0
    return dead


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
    candidates = [i for i in promising if i not in state.dead]
    if not candidates:
        return
    with probe.differentiable(candidates):
        outputs = probe.outputs()
        for _ in range(DRAWS - 2):
            _whole(probe, state, outputs, cotangent(state.mask, generator), candidates, note=True)
