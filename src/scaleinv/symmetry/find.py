"""Find every rescaling symmetry of a model's parameters, with no name rules and no list of layer types."""

import math
from typing import Any, Literal

import torch
from torch import nn

from scaleinv.errors import UserError
from scaleinv.symmetry.claims import remember
from scaleinv.symmetry.defect import eps_defect
from scaleinv.symmetry.precision import DOUBLE, SINGLE
from scaleinv.symmetry.probe import Probe
from scaleinv.symmetry.result import Partial, Symmetries, group_name
from scaleinv.symmetry.search import PLACES, Found, search, usable_outputs
from scaleinv.symmetry.trial import trial
from scaleinv.symmetry.verify import TOLERANCE, Tested, eps_law, holds_up_to_eps, put_to_test

#: models with more parameters than this are searched in single precision first
_LARGE = 1_000_000


def find_symmetries(
    model: nn.Module,
    inputs: Any,
    *,
    seed: int = 0,
    defect: bool = True,
    precision: Literal["auto", "double", "single"] = "auto",
) -> Symmetries:
    """Find every rescaling symmetry of ``model``'s parameters: which tensors have no scale, alone or together.

    Tensor i is multiplied by exp(s_i); the null space of J = d outputs / d s at s = 0 is the set of all rescaling
    symmetries (train mode, float64, eps 1e-30, weights moved to two generic places). The answer is its least basis of
    circuits (:mod:`scaleinv.symmetry.circuits`), and every claim is tested in float64 by scaling the weights.

    model: any ``nn.Module``; it is not changed. Frozen parameters are looked at like the others.
    inputs: a tensor, a tuple of positional arguments or a dict of named ones; random data of the right shape will do.
    seed: of the weights' perturbation and of the cotangents.  defect: measure what eps does to every group.
    precision: of the search. ``single`` searches in float32 and falls back to ``double`` unless its gaps are wide and
    every claim passes the test in float64: the rank seen in float32 says that there is nothing more, the test that
    there is nothing less. ``auto`` does so for models of more than a million parameters.

    Raises UserError for a model that cannot be probed: NaN weights, no floating output, wrong shapes, non-determinism.
    Source: the identities <grad f(x), x> = 0 and grad f(c x) = grad f(x)/c of invariant f (Lobacheva et al. 2021).

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3))
    >>> found = find_symmetries(net, torch.randn(16, 4))
    >>> found.single, found.dead, found.fixed
    (('0.weight',), ('0.bias',), ('3.weight', '3.bias'))
    """
    if precision not in ("auto", "double", "single"):
        raise UserError(f"precision {precision!r} is unknown; choose auto, double or single")
    trial(Probe(model, inputs, dtype=None, eps=None))
    probe, found, tested = _searched(model, inputs, seed, precision)
    probe, found, tested, literals, laws = _settled(model, inputs, seed, probe, found, tested)
    names, eps = probe.names, probe.eps
    del probe  # the copy in double precision is the largest thing here
    parameters = dict(model.named_parameters())
    order, dead, single = found.order, set(found.state.dead), set(found.state.single)
    used = {i for v in found.basis for i, n in enumerate(v) if n} | single | dead
    groups = [[i] for i in order if i in single] + found.joint
    by_name = {group_name(tuple(names[i] for i in group)): group for group in groups}
    answer = Symmetries(
        single=tuple(names[i] for i in order if i in single),
        row=tuple(names[i] for i in order if i in found.row),
        joint=tuple(tuple(names[i] for i in group) for group in found.joint),
        partial=tuple(Partial(names[i], *part) for i, part in found.parts.items()),
        rescaling=tuple({names[i]: n for i, n in pair.items()} for pair in found.rescaling),
        dead=tuple(names[i] for i in order if i in dead),
        fixed=tuple(names[i] for i in order if i not in used),
        evidence=_evidence(found, tested, eps) | {"eps_by_hand": literals, "up_to_eps": laws},
        defect=eps_defect(model, inputs, by_name, torch.Generator().manual_seed(seed + 3)) if defect else {},
        shapes={n: tuple(parameters[n].shape) for n in names},
        norms={n: float(torch.linalg.vector_norm(parameters[n].detach(), dtype=torch.float64)) for n in names},
        frozen=tuple(n for n in names if not parameters[n].requires_grad),
        row_dim={names[i]: d for i, d in found.row.items()},
    )
    remember(parameters, answer)
    return answer


def _searched(model: nn.Module, inputs: Any, seed: int, precision: str) -> tuple[Probe, Found, Tested]:
    """Search in the wanted precision and test in float64; the float64 probe stands where it was tested."""
    large = sum(p.numel() for p in model.parameters()) > _LARGE
    if precision == "single" or (precision == "auto" and large):
        probe = Probe(model, inputs, dtype=torch.float32, eps=SINGLE.eps[0])
        found = search(probe, SINGLE, seed)
        order = probe.order
        del probe
        if _trusted(found):
            probe = Probe(model, inputs)
            probe.perturb(torch.Generator().manual_seed(seed + 1))
            tested = _test(probe, found, seed)
            probe.order = order
            if not tested.reason:
                return probe, found, tested
            del probe
    return _searched_in_double(model, inputs, seed)


def _searched_in_double(
    model: nn.Module, inputs: Any, seed: int, *, literals: bool = True
) -> tuple[Probe, Found, Tested]:
    probe = Probe(model, inputs)
    probe.literals = literals
    found = search(probe, DOUBLE, seed)
    return probe, found, _test(probe, found, seed)


def _trusted(found: Found) -> bool:
    """Tell whether the float32 search saw gaps that no rounding makes; what it claims is tested in any case."""
    state, size = found.state, found.state.rows.size
    cosine = state.rows.cosine()
    largest = max((float(cosine[i]) for i in state.single), default=0.0)
    smallest = min((float(cosine[i]) for i in state.rest), default=1.0)
    weakest = min((float(size[i]) for i in range(len(size)) if i not in state.dead), default=0.0)
    apart = smallest >= 10 * max(largest, SINGLE.zero) and weakest >= 10 * SINGLE.dead * float(size.max())
    return not found.reason and bool(state.mask.all()) and apart


def _test(probe: Probe, found: Found, seed: int) -> Tested:
    """Test every claim at the probe's present place, in double precision."""
    generator = torch.Generator().manual_seed(seed + 2)
    single = found.precision.single
    mask = usable_outputs(probe, DOUBLE) if single else found.state.mask
    claims = found.claims(probe.names)
    return put_to_test(probe, claims, found.state.dead, found.row, mask, generator, explain=not single)


def _settled(
    model: nn.Module, inputs: Any, seed: int, probe: Probe, found: Found, tested: Tested
) -> tuple[Probe, Found, Tested, list[float], dict[str, list[float]]]:
    """Settle whether small added numbers are an eps: put them back and see whether every claim holds up to an eps."""
    literals = sorted(probe.replaced)
    if not literals:
        return probe, found, tested, [], {}
    probe.literals = False
    laws = {claim.name: eps_law(probe, claim, tested.mask) for claim in found.claims(probe.names)}
    if laws and all(holds_up_to_eps(law) for law in laws.values()):
        return probe, found, tested, literals, laws
    return *_searched_in_double(model, inputs, seed, literals=False), [], {}


def _evidence(found: Found, tested: Tested, eps: float | None) -> dict[str, Any]:
    """Collect the numbers behind the answer; None for one that is not finite, which JSON does not have."""
    state, spectrum, reason = found.state, found.state.spectrum, found.reason or tested.reason
    cosine = state.rows.cosine().tolist()
    return {
        "verdict": "undecided" if reason else "clear",
        "reason": reason,
        "dtype": "float32, tested in float64" if found.precision.single else "float64",
        "eps": eps,
        "perturbation": 0.2,
        "places": PLACES,
        "outputs": len(state.mask),
        "skipped_outputs": int((state.mask == 0).sum()),
        "rows": len(state.rows.values),
        "rank": spectrum.cut,
        "singular_values": [float(x) for x in spectrum.singular[max(0, spectrum.cut - 3) : spectrum.cut + 3]],
        "smallest_kept": spectrum.kept if math.isfinite(spectrum.kept) else None,
        "largest_dropped": spectrum.dropped if math.isfinite(spectrum.dropped) else None,
        "largest_single_cosine": max([cosine[i] for i in state.single], default=0.0),
        "smallest_other_cosine": min([cosine[i] for i in state.rest], default=1.0),
        "residuals": {name: r.to_dict() for name, r in tested.residuals.items()},
        "dead_change": tested.dead_change,
        "row_change": tested.row_change,
        "tolerance": TOLERANCE,
    }
