"""Search for symmetries: rows of J at generic places, null space, basis, slices. ``verify`` tests what it finds."""

import contextlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.symmetry.circuits import Irrational, canonical_basis
from scaleinv.symmetry.copies import view_real
from scaleinv.symmetry.fused import candidates, trades
from scaleinv.symmetry.hidden import some_names, unreached
from scaleinv.symmetry.jacobian import (
    SPARE_ROWS,
    JacobianRows,
    NoGradient,
    Spectrum,
    cotangent,
    each_gradient,
    factor_rows,
    full_row,
    inner,
    spectrum,
)
from scaleinv.symmetry.narrow import Narrowed, narrowed
from scaleinv.symmetry.numeric import difference_rows
from scaleinv.symmetry.parts import Slices, each_slice, ranges
from scaleinv.symmetry.precision import Precision
from scaleinv.symmetry.probe import Probe, Viewpoint, constant, every_tensor, map_tensors
from scaleinv.symmetry.progress import say
from scaleinv.symmetry.state import Found, Part, Reach, State
from scaleinv.symmetry.trial import DRAWS_OF_RANDOM
from scaleinv.symmetry.verify import TOLERANCE, verify_moves

#: cotangents for the row and part tests
DRAWS = 8
#: generic places at which the null space must be the same
PLACES = 2
_MORE_PLACES = 4
#: places at which a gradient that is exactly zero is looked at again, before the tensor is called dead
_MORE_LOOKS = 16
#: random draws of a model that is random by itself, until every tensor has been used
_MORE_DRAWS = 24


def search(probe: Probe, precision: Precision, seed: int, *, random: bool = False, numeric: bool = False) -> Found:
    """Find the null space at two or more generic places and its basis; leave the probe at the last place.

    random: the model draws random numbers of its own; every place is then another draw, until all tensors were used.
    numeric: differences of the outputs instead of gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(probe.tensors)
    state = State(JacobianRows(torch.zeros(count, dtype=torch.float64, device="cpu")), numeric=numeric)
    state.order = [0] * count
    state.reach, state.sizes = [Reach.NONE] * count, torch.zeros(count, dtype=torch.float64, device="cpu")
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
    lost = unreached(probe, state)
    if state.gated and not reason:
        gates, idle = ({probe.names[pair[k]] for pair in state.gated} for k in (0, 1))
        reason = f"{some_names(gates)} decides which parts run, and {some_names(idle)} did not run on these inputs"
    state.dead = [i for i in state.dead if i not in lost]
    row, parts, blocks = _slices(state, precision)
    if numeric:
        row = _rows_by_scaling(probe, state)
    shapes = [tuple(p.shape) for p in probe.tensors]
    biases = [i for i in state.dead if len(shapes[i]) == 1]
    between = trades(state.slices, shapes, probe.names, [*state.rest, *biases], precision)
    return Found(state, precision, basis, order, row, parts, blocks, reason, lost, between)


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
    ways: list[Callable[[], Iterable[bool]]] = [
        lambda: (i in probe.keep_sign for i in range(len(probe.tensors))),
        lambda: (own.is_floating_point() and bool((own > 0).all() or (own < 0).all()) for own in probe.original),
        lambda: (own.is_floating_point() and bool((own != 0).all()) for own in probe.original),
    ]
    for way in ways:
        probe.keep_sign = frozenset(i for i, kept in enumerate(list(way())) if kept)
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
    moved = False
    longest = max((t.dim() for t in every_tensor(probe.given)), default=0)
    longer = [(dim, _MORE_LOOKS + dim) for dim in range(1, longest)]  # one step of a recurrence, attention to one token
    drawn = [(0, 0)] if any(map(constant, every_tensor(probe.given))) else []  # a context of zeros hides what reads it
    for dim, k in [*longer, *((0, k) for k in range(1, _MORE_LOOKS + 1)), *drawn]:
        hidden = [i for i, r in enumerate(state.reach) if r is not Reach.SOME]
        if not hidden or state.numeric:
            break
        place = Viewpoint(seed * 1_000_003 + 100 + k, k % 3, shuffle=k if k % 2 else 0, fresh=k > 2, quiet=k % 4 > 1)
        if dim or not k:
            place = Viewpoint(seed * 1_000_003 + 100 + k, longer=dim, drawn=not k)
        moved = True
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
    if moved:
        probe.goto(back)
        state.mask = usable_outputs(probe, precision)


def _slices(state: State, precision: Precision) -> tuple[dict[int, int], dict[int, Part], dict[int, Part]]:
    row: dict[int, int] = {}
    parts: dict[int, Part] = {}
    blocks: dict[int, Part] = {}
    for i, slices in state.slices.items():
        if slices.draws >= DRAWS and i in state.single and (dim := each_slice(slices, precision.part)) is not None:
            row[i] = dim
        if slices.draws >= DRAWS and i in state.rest and (part := ranges(slices, precision.part)) is not None:
            if sum(b - a for a, b in part[1]) == len(slices.sizes[part[0]]):
                continue  # all of it: free at this place, where a part of the model did not run
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
    good = torch.zeros(0, device="cpu")
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
    if not first or probe.place != place:  # it stands at the first place since the signs were settled there
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
    # whole gradients: the size of each column, and what the row test needs; in a large model one tells enough
    cotangents = [cotangent(mask, generator) for _ in range(1 if precision.single and not first else 2)]
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
        idle = 0  # rows that add nothing to the rank, and so say nothing about whether it still grows
        if state.fast and first and precision.single and (part := narrowed(probe, mask, outputs.detach())) is not None:
            idle = _rows_of_part(probe, state, precision, generator, factors, outputs, part)
        extra = SPARE_ROWS
        while True:
            say(f"place {len(state.places)}: rank {max(state.spectrum.cut, 0)} of at most {count}")
            draws = (cotangent(mask, generator) for _ in range(extra))  # each is as large as the outputs
            if state.fast:
                state.rows.add(factor_rows(outputs, factors, draws))
            else:
                whole = [_whole(probe, state, outputs, u, everything, slices=False) for u in draws]
                state.rows.add(torch.stack(whole))
            _decide(state, precision)
            missing = state.spectrum.cut + SPARE_ROWS - (len(state.rows.values) - idle)
            here = len(state.rows.values) - idle - before
            if missing <= 0 or here >= min(int(mask.sum()), count) + SPARE_ROWS:
                break
            extra = min(max(missing, 3), 16)
        del outputs
    if first:
        _more_draws(probe, state, precision, generator)


def _rows_of_part(
    probe: Probe,
    state: State,
    precision: Precision,
    generator: torch.Generator,
    factors: Tensor,
    outputs: Tensor,
    part: Narrowed,
) -> int:
    """Add rows by a part of the inputs until their rank is full; give how many of all rows add nothing to the rank.

    One row of the part is compared with the row by all inputs that it must be; where it is not, none is added.
    """
    count = len(probe.tensors)
    with probe.on(map_tensors(probe.given, part.cut.of)):
        short = probe.outputs(list(factors.unbind()))
    u = cotangent(part.mask, generator)
    own, whole = (factor_rows(v, factors, [w]) for v, w in ((short, u), (outputs, part.widened(u))))
    off = (own - whole).abs()
    if not bool((off <= precision.agree * state.rows.size).all()) or off.norm() > precision.agree * whole.norm():
        return 0
    state.rows.add(own)
    taken, extra = 1, SPARE_ROWS
    while True:
        say(f"place {len(state.places)}: rank {max(state.spectrum.cut, 0)} of at most {count}")
        state.rows.add(factor_rows(short, factors, (cotangent(part.mask, generator) for _ in range(extra))))
        taken += extra
        _decide(state, precision)
        missing = state.spectrum.cut + SPARE_ROWS - taken
        if missing <= 0 or taken >= min(int(part.mask.sum()), count) + SPARE_ROWS:
            return len(state.rows.values) - state.spectrum.cut
        extra = 16 if state.spectrum.cut == len(state.rows.values) else min(max(missing, 3), 16)


def _by_factors(
    probe: Probe, state: State, factors: Tensor, cotangents: list[Tensor], rows: Tensor, precision: Precision
) -> Tensor:
    """Compute the outputs with a factor on every tensor; note whether rows by them are those of whole gradients."""
    live = state.rows.size > 0
    outputs = torch.zeros(0, device="cpu")
    try:
        outputs = probe.outputs(list(factors.unbind()))
        error = (factor_rows(outputs, factors, cotangents) - rows).abs()
        state.fast = bool((error <= precision.agree * state.rows.size)[:, live].all())
    except RuntimeError:  # the factors are not in the graph: tensors went where no call is seen
        state.fast = False
    return outputs


def _whole(probe: Probe, state: State, outputs: Tensor, u: Tensor, which: list[int], *, slices: bool) -> Tensor:
    """Compute one row by whole gradients (T,); ``slices`` keeps the sums over slices as well."""
    row = torch.zeros(len(probe.tensors), dtype=torch.float64, device="cpu")

    def take(i: int, g: Tensor) -> None:
        w = view_real(probe.tensors[i].detach())
        g = view_real(g)
        if slices:
            row[i], size = state.slices.setdefault(i, Slices()).add(g, w)
        else:
            row[i], size = inner(g, w), float(g.norm()) * float(w.norm())
        state.reach[i] = max(state.reach[i], Reach.SOME if size else Reach.ZERO)
        state.sizes[i] = max(float(state.sizes[i]), size)

    each_gradient(probe, outputs, u, take, which, keep=True)
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

    def promising(which: Iterable[int]) -> list[int]:
        """Those of the tensors whose sums over slices, of all cotangents so far, still cancel somewhere."""
        known = ((i, state.slices[i]) for i in which if i in state.slices)
        return [i for i, s in known if each_slice(s, part) is not None or ranges(s, part) is not None]

    chosen = [i for i in promising(list(state.slices)) if i not in state.dead]
    shapes = [tuple(p.shape) for p in probe.tensors]
    everything = [i for i in range(len(shapes)) if i not in state.single] if candidates(shapes, state.rest) else []
    if not chosen and not everything:
        return
    with probe.differentiable(sorted({*chosen, *everything})):
        outputs = probe.outputs()
        for k in range(DRAWS - 2):
            which = sorted({*chosen, *everything}) if k < (1 if precision.single else 2) else chosen
            if which:
                _whole(probe, state, outputs, cotangent(state.mask, generator), which, slices=True)
                chosen = promising(chosen)
