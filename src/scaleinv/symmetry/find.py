"""Find every rescaling symmetry of a model's parameters, with no name rules and no list of layer types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.symmetry.circuits import Irrational, canonical_basis
from scaleinv.symmetry.jacobian import SPARE_ROWS, ZERO, Rows, Spectrum, cotangent, factor_rows, full_row, spectrum
from scaleinv.symmetry.defect import eps_defect
from scaleinv.symmetry.parts import Slices, each_slice, ranges
from scaleinv.symmetry.probe import MODERATE, TINY, Probe
from scaleinv.symmetry.result import Partial, Symmetries, group_name, rescaling_name
from scaleinv.symmetry.trial import trial
from scaleinv.symmetry.verify import TOLERANCE, Claim, Residuals, eps_law, holds_up_to_eps, verify, verify_dead

#: cotangents for the row and part tests
DRAWS = 8
#: generic places at which the null space must be the same
PLACES = 2
_MORE_PLACES = 4


@dataclass
class _State:
    """What is known so far."""

    rows: Rows
    slices: dict[int, Slices]
    spectrum: Spectrum
    single: list[int]
    dead: list[int]
    rest: list[int]
    fast: bool = True
    skipped: int = 0
    outputs: int = 0


@dataclass
class _Found:
    """The answer in indices, with the tests it passed."""

    state: _State
    basis: list[tuple[int, ...]]
    order: list[int]  # indices in the order of last use
    parts: dict[int, tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]]
    claims: list[Claim]
    mask: Tensor
    residuals: dict[str, Residuals] = field(default_factory=dict)
    dead_change: float = 0.0
    eps_laws: dict[str, list[float]] = field(default_factory=dict)
    reason: str = ""


def find_symmetries(model: nn.Module, inputs: Any, *, seed: int = 0, defect: bool = True) -> Symmetries:
    """Every rescaling symmetry of ``model``'s parameters: which tensors have no scale, alone or together.

    Tensor i is multiplied by exp(s_i); the null space of J = d outputs / d s at s = 0 is the set of all rescaling
    symmetries (train mode, float64, eps 1e-30, weights moved to two generic places). The answer is its least basis of
    circuits (:mod:`scaleinv.symmetry.circuits`), and every claim is checked by scaling the weights.

    model: any ``nn.Module``; it is not changed. Frozen parameters are looked at like the others.
    inputs: a tensor, a tuple of positional arguments or a dict of named ones; random data of the right shape will do.
    seed: of the weights' perturbation and of the cotangents.  defect: measure what eps does to every group.
    Raises UserError for a model that cannot be probed: NaN weights, no floating output, wrong shapes, non-determinism.

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3))
    >>> found = find_symmetries(net, torch.randn(16, 4))
    >>> found.single, found.dead, found.fixed
    (('0.weight',), ('0.bias',), ('3.weight', '3.bias'))

    Source: the identities <grad f(x), x> = 0 and grad f(c x) = grad f(x)/c of scale-invariant f (Lobacheva et al. 2021).
    """
    probe = Probe(model, inputs)
    trial(probe)
    original = [p.detach().clone() for p in probe.tensors]
    found = _search(probe, original, seed)
    literals = sorted(probe.replaced)
    if literals:
        # small added numbers were taken for eps: put them back and see whether every claim holds up to an eps
        probe.literals = False
        found.eps_laws = {c.name: eps_law(probe, c, found.mask) for c in found.claims}
        if not all(holds_up_to_eps(law) for law in found.eps_laws.values()):
            literals = []
            found = _search(probe, original, seed)
        probe.literals = bool(literals)
    with torch.no_grad():
        for p, start in zip(probe.tensors, original):
            p.copy_(start)
    return _report(model, inputs, probe, found, literals, with_defect=defect)


def _search(probe: Probe, original: list[Tensor], seed: int) -> _Found:
    """Null space at two generic places, its basis, and the test of every claim."""
    generator = torch.Generator().manual_seed(seed)
    count = len(probe.tensors)
    state = _State(Rows(torch.zeros(count, dtype=torch.float64)), {}, spectrum(torch.zeros(0, 0)), [], [], [])
    vectors: list[tuple[int, ...]] = []
    reason = ""
    place = 0
    mask = torch.zeros(0)
    while place < PLACES or (reason and place < _MORE_PLACES):
        probe.perturb(generator, original)
        mask = _look(probe, state, generator, first=place == 0)
        place += 1
        try:
            vectors = canonical_basis(state.spectrum.null.numpy(), [probe.order[i] for i in state.rest])
            reason = ""
        except Irrational as error:
            vectors, reason = [], f"the null space is not made of rescalings: {error}"
    if not reason and not state.spectrum.clear:
        reason = "no clear gap between the singular values"
    basis = [_spread(v, state.rest, count) for v in vectors]
    order = sorted(range(count), key=lambda i: (probe.order[i], i))
    found = _Found(state, basis, order, _parts(state), [], mask)
    found.claims = _claims(probe, found)
    found.residuals = verify(probe, found.claims, mask, generator)
    found.dead_change = verify_dead(probe, state.dead, mask, generator)
    bad = [name for name, r in found.residuals.items() if not r.good]
    if bad and not reason:
        worst = found.residuals[bad[0]]
        reason = (
            f"{len(bad)} claims fail the test by scaling, first {bad[0]}: outputs change by {worst.output:.1e}, "
            f"<g, w> is {worst.dot:.1e}, g(cw) = g/c is off by {worst.law:.1e}"
        )
    if not reason and not found.dead_change <= TOLERANCE:
        reason = f"moving the dead tensors changes the outputs by {found.dead_change:.1e}"
    found.reason = reason
    return found


def _parts(state: _State) -> dict[int, tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]]:
    """Dimension, ranges and smallest blocks of the fused tensors."""
    result = {}
    for i in state.rest:
        slices = state.slices.get(i)
        part = ranges(slices) if slices is not None and slices.draws >= DRAWS else None
        if part is not None:
            result[i] = (part[0], tuple(part[1]), tuple(part[2]))
    return result


def _claims(probe: Probe, found: _Found) -> list[Claim]:
    names = probe.names
    claims = [Claim(names[i], {i: 1}) for i in found.order if i in found.state.single]
    for vector in found.basis:
        exponents = {i: vector[i] for i in found.order if vector[i]}
        joint = set(exponents.values()) == {1}
        name = group_name(tuple(names[i] for i in exponents)) if joint else rescaling_name(
            {names[i]: n for i, n in exponents.items()}
        )
        claims.append(Claim(name, exponents))
    for i, (dim, spans, _) in found.parts.items():
        where = ",".join(f"{a}:{b}" for a, b in spans)
        claims.append(Claim(f"{names[i]}[dim {dim}, {where}]", {i: 1}, (dim, spans)))
    return claims


def _spread(vector: tuple[int, ...], where: list[int], length: int) -> tuple[int, ...]:
    result = [0] * length
    for i, n in zip(where, vector):
        result[i] = n
    return tuple(result)


def usable_outputs(probe: Probe) -> Tensor:
    """1.0 for the outputs that can be trusted at the probe's eps (M,); moves to a larger eps where few are left.

    A constant channel in front of a norm gives 0/sqrt(eps) in exact arithmetic and rounding/sqrt(eps) on a computer: what
    changes with eps between 1e-30 and 1e-20 comes from there.
    """
    for eps, other in ((TINY, 1e-20), (MODERATE, 4 * MODERATE)):
        probe.set_eps(other)
        second = probe.value()
        probe.set_eps(eps)
        first = probe.value()
        good = torch.isfinite(first) & torch.isfinite(second)
        scale = first[good].abs().max() if bool(good.any()) else first.new_tensor(1.0)
        good &= (first - second).abs() <= 1e-7 * scale
        if float(good.double().mean()) >= 0.5:
            break
    return good.double()


def _look(probe: Probe, state: _State, generator: torch.Generator, *, first: bool) -> Tensor:
    """Add the rows of one place to the state and decide anew."""
    count = len(probe.tensors)
    everything = list(range(count))
    mask = usable_outputs(probe)
    state.outputs, state.skipped = len(mask), int(len(mask) - mask.sum())
    # whole gradients: the size of each column, and what the row test needs
    cotangents = [cotangent(mask, generator) for _ in range(2)]
    with probe.differentiable():
        outputs = probe.outputs()
        position = probe.order
        rows = torch.stack([_whole(probe, state, outputs, u, everything, note=first) for u in cotangents])
    probe.order = position
    state.rows.add(rows)
    if first:
        state.dead = _dead(state.rows.size)
    # activations only: the rows that decide the rank
    del outputs
    if state.fast:
        factors = torch.ones(count, dtype=torch.float64, device=probe.tensors[0].device, requires_grad=True)
        outputs = probe.outputs(list(factors.unbind()))
        again = factor_rows(outputs, factors, cotangents)
        live = state.rows.size > 0
        state.fast = bool(((again - rows).abs() <= 1e-8 * state.rows.size.clamp_min(1e-300))[:, live].all())
    if not state.fast:
        context = probe.differentiable()
        context.__enter__()
        outputs = probe.outputs()
    probe.order = position
    extra = SPARE_ROWS
    while True:
        draws = [cotangent(mask, generator) for _ in range(extra)]
        if state.fast:
            state.rows.add(factor_rows(outputs, factors, draws))
        else:
            state.rows.add(torch.stack([_whole(probe, state, outputs, u, everything, note=False) for u in draws]))
        _decide(state, count)
        missing = state.spectrum.cut + SPARE_ROWS - len(state.rows.values)
        if missing <= 0 or len(state.rows.values) >= count + 4 * SPARE_ROWS:
            break
        extra = min(missing, 16)
    if not state.fast:
        context.__exit__(None, None, None)
    if first:
        _more_draws(probe, state, mask, generator)
    return mask


def _whole(probe: Probe, state: _State, outputs: Tensor, u: Tensor, which: list[int], *, note: bool) -> Tensor:
    """One row by whole gradients (T,); ``note`` keeps sizes and slice sums as well."""
    row = torch.zeros(len(probe.tensors), dtype=torch.float64)
    for i, g in zip(which, full_row(probe, outputs, u, which)):
        if g is None:
            continue
        w = probe.tensors[i].detach()
        row[i] = float((g * w).sum())
        if note:
            state.rows.size[i] = max(float(state.rows.size[i]), float(g.norm() * w.norm()))
            state.slices.setdefault(i, Slices()).add(g, w)
    return row


def _dead(size: Tensor) -> list[int]:
    """Tensors whose gradient is nothing but rounding; their size is set to 0."""
    largest = float(size.max())
    dead = [i for i, s in enumerate(size.tolist()) if s <= 1e-10 * largest]
    size[dead] = 0.0
    return dead


def _decide(state: _State, count: int) -> None:
    cosine = state.rows.cosine()
    state.single = [i for i in range(count) if i not in state.dead and float(cosine[i]) < ZERO]
    gone = set(state.single) | set(state.dead)
    state.rest = [i for i in range(count) if i not in gone]
    values = state.rows.values[:, state.rest] / state.rows.size[state.rest]
    found = spectrum(values)
    null = found.null / state.rows.size[state.rest] if len(found.null) else found.null
    state.spectrum = Spectrum(found.singular, null, found.cut, found.clear, found.kept, found.dropped)


def _more_draws(probe: Probe, state: _State, mask: Tensor, generator: torch.Generator) -> None:
    """Take the slice sums of further cotangents for the tensors that may have scale-invariant slices."""
    candidates = [i for i, s in state.slices.items() if i not in state.dead and _has_parts(s)]
    if not candidates:
        return
    with probe.differentiable(candidates):
        outputs = probe.outputs()
        for _ in range(DRAWS - 2):
            _whole(probe, state, outputs, cotangent(mask, generator), candidates, note=True)


def _has_parts(slices: Slices) -> bool:
    return each_slice(slices) is not None or ranges(slices) is not None


def _report(
    model: nn.Module, inputs: Any, probe: Probe, found: _Found, literals: list[float], *, with_defect: bool
) -> Symmetries:
    names, state, by_use = probe.names, found.state, found.order
    joint = [v for v in found.basis if set(v) <= {0, 1}]
    mixed = [v for v in found.basis if not set(v) <= {0, 1}]
    single = [i for i in by_use if i in set(state.single)]
    used = {i for v in found.basis for i, n in enumerate(v) if n} | set(state.single) | set(state.dead)
    rows = {}
    for i in single:
        slices = state.slices.get(i)
        dim = each_slice(slices) if slices is not None and slices.draws >= DRAWS else None
        if dim is not None:
            rows[names[i]] = dim
    groups = [[i] for i in single] + [[i for i in by_use if v[i]] for v in joint]
    eps = probe.eps
    shapes = {n: tuple(p.shape) for n, p in zip(names, probe.tensors)}
    norms = {n: float(torch.linalg.vector_norm(p.double())) for n, p in zip(names, probe.tensors)}
    generator = torch.Generator().manual_seed(1)
    by_name = {group_name(tuple(names[i] for i in group)): group for group in groups}
    defect = eps_defect(model, inputs, by_name, generator) if with_defect else {}
    s = state.spectrum
    evidence = {
        "verdict": "undecided" if found.reason else "clear",
        "reason": found.reason,
        "dtype": "float64",
        "eps": eps,
        "perturbation": 0.2,
        "places": PLACES,
        "outputs": state.outputs,
        "skipped_outputs": state.skipped,
        "rows": len(state.rows.values),
        "rank": s.cut,
        "singular_values": [float(x) for x in s.singular[max(0, s.cut - 3) : s.cut + 3]],
        "smallest_kept": _number(s.kept),
        "largest_dropped": _number(s.dropped),
        "largest_single_cosine": max([float(state.rows.cosine()[i]) for i in state.single], default=0.0),
        "smallest_other_cosine": min([float(state.rows.cosine()[i]) for i in state.rest], default=1.0),
        "residuals": {name: {"output": r.output, "dot": r.dot, "law": r.law} for name, r in found.residuals.items()},
        "dead_change": found.dead_change,
        "eps_by_hand": literals,
        "up_to_eps": found.eps_laws,
    }
    return Symmetries(
        single=tuple(names[i] for i in single),
        row=tuple(rows),
        joint=tuple(tuple(names[i] for i in by_use if v[i]) for v in joint),
        partial=tuple(Partial(names[i], *part) for i, part in found.parts.items()),
        rescaling=tuple({names[i]: v[i] for i in by_use if v[i]} for v in mixed),
        dead=tuple(names[i] for i in by_use if i in set(state.dead)),
        fixed=tuple(names[i] for i in by_use if i not in used),
        evidence=evidence,
        defect=defect,
        shapes=shapes,
        norms=norms,
        frozen=tuple(n for n, p in model.named_parameters() if not p.requires_grad),
        row_dim=rows,
    )


def _number(value: float) -> float | None:
    """NaN is not JSON."""
    return value if value == value else None
