"""Find every rescaling symmetry of a model's parameters, with no name rules and no list of layer types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaleinv.symmetry.circuits import Irrational, canonical_basis
from scaleinv.symmetry.jacobian import SPARE_ROWS, ZERO, Rows, Spectrum, cotangent, factor_rows, full_row, spectrum
from scaleinv.symmetry.parts import Slices, each_slice, ranges
from scaleinv.symmetry.probe import MODERATE, TINY, Probe
from scaleinv.symmetry.result import Partial, Symmetries

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


def find_symmetries(model: nn.Module, inputs: Any, *, seed: int = 0) -> Symmetries:
    """Every rescaling symmetry of ``model``'s parameters: which tensors have no scale, alone or together.

    Tensor i is multiplied by exp(s_i); the null space of J = d outputs / d s at s = 0 is the set of all rescaling
    symmetries (train mode, float64, eps 1e-30, weights moved to two generic places). The answer is its least basis of
    circuits (:mod:`scaleinv.symmetry.circuits`), and every claim is checked by scaling the weights.

    model: any ``nn.Module``; it is not changed. Frozen parameters are looked at like the others.
    inputs: a tensor, a tuple of positional arguments or a dict of named ones; random data of the right shape will do.
    seed: of the weights' perturbation and of the cotangents.
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
    generator = torch.Generator().manual_seed(seed)
    original = [p.detach().clone() for p in probe.tensors]
    state = _State(Rows(torch.zeros(len(probe.tensors), dtype=torch.float64)), {}, spectrum(torch.zeros(0, 0)), [], [], [])
    basis: list[tuple[int, ...]] = []
    reason = ""
    place = 0
    while place < PLACES or (reason and place < _MORE_PLACES):
        probe.perturb(generator, original)
        _look(probe, state, generator, first=place == 0)
        place += 1
        try:
            basis = canonical_basis(state.spectrum.null.numpy(), [probe.order[i] for i in state.rest])
            reason = ""
        except Irrational as error:
            basis, reason = [], f"the null space is not made of rescalings: {error}"
    if not reason and not state.spectrum.clear:
        reason = "no clear gap between the singular values"
    full = [_spread(b, state.rest, len(probe.tensors)) for b in basis]
    return _report(model, probe, state, full, original, reason)


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


def _look(probe: Probe, state: _State, generator: torch.Generator, *, first: bool) -> None:
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
    model: nn.Module,
    probe: Probe,
    state: _State,
    basis: list[tuple[int, ...]],
    original: list[Tensor],
    reason: str,
) -> Symmetries:
    names = probe.names
    by_use = sorted(range(len(names)), key=lambda i: (probe.order[i], i))
    single = [i for i in by_use if i in set(state.single)]
    joint = [v for v in basis if set(v) <= {0, 1}]
    mixed = [v for v in basis if not set(v) <= {0, 1}]
    used = {i for v in basis for i, n in enumerate(v) if n} | set(state.single) | set(state.dead)
    row: dict[str, int] = {}
    partial = []
    for i in by_use:
        slices = state.slices.get(i)
        if slices is None or slices.draws < DRAWS or i in state.dead:
            continue
        if i in state.single:
            dim = each_slice(slices)
            if dim is not None:
                row[names[i]] = dim
        else:
            found = ranges(slices)
            if found is not None:
                partial.append(Partial(names[i], found[0], tuple(found[1]), tuple(found[2])))
    s = state.spectrum
    evidence = {
        "verdict": "undecided" if reason else "clear",
        "reason": reason,
        "dtype": "float64",
        "eps": probe.eps,
        "perturbation": 0.2,
        "outputs": state.outputs,
        "skipped_outputs": state.skipped,
        "rows": len(state.rows.values),
        "cut": s.cut,
        "singular_values": [float(x) for x in s.singular[max(0, s.cut - 3) : s.cut + 3]],
        "smallest_kept": s.kept,
        "largest_dropped": s.dropped,
        "largest_single_cosine": float(np.max([0.0] + [float(state.rows.cosine()[i]) for i in state.single])),
    }
    return Symmetries(
        single=tuple(names[i] for i in single),
        row=tuple(row),
        joint=tuple(tuple(names[i] for i in by_use if v[i]) for v in joint),
        partial=tuple(partial),
        rescaling=tuple({names[i]: v[i] for i in by_use if v[i]} for v in mixed),
        dead=tuple(names[i] for i in by_use if i in set(state.dead)),
        fixed=tuple(names[i] for i in by_use if i not in used),
        evidence=evidence,
        defect={},
        shapes={n: tuple(p.shape) for n, p in zip(names, probe.tensors)},
        norms={n: float(torch.linalg.vector_norm(p.double())) for n, p in zip(names, original)},
        row_dim=row,
        frozen=tuple(n for n, p in model.named_parameters() if not p.requires_grad),
    )
