"""Find every rescaling symmetry of a model's parameters, with no name rules and no list of layer types."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from scaleinv.errors import UserError
from scaleinv.symmetry.claims import remember
from scaleinv.symmetry.copies import freed, unsharded, whole
from scaleinv.symmetry.defect import eps_defect
from scaleinv.symmetry.fused import Trade, covered
from scaleinv.symmetry.jacobian import NoGradient
from scaleinv.symmetry.outputs import Outputs
from scaleinv.symmetry.probe import refusal
from scaleinv.symmetry.progress import say, told
from scaleinv.symmetry.result import Partial, Slice, Sliced, Symmetries, group_name
from scaleinv.symmetry.settle import Searched, searched_up_to_eps
from scaleinv.symmetry.trial import FirstRuns, prepare
from scaleinv.symmetry.verify import TOLERANCE

#: a note
_DRAWN = "inputs that are one number everywhere hid some tensors: other numbers were tried as well"


def find_symmetries(
    model: nn.Module,
    inputs: Any,
    *,
    seed: int = 0,
    defect: bool = True,
    precision: Literal["auto", "double", "single"] = "auto",
    outputs: Outputs = None,
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
    outputs: which of the model's results count: a name, a place, several of them, or a function of the result. None:
    those the loss sees (``loss`` and ``*logits`` of a result with names, else all).

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
    with told():
        return _found(unsharded(model), inputs, seed, defect, precision, outputs)


def _found(model: nn.Module, inputs: Any, seed: int, defect: bool, precision: str, outputs: Outputs) -> Symmetries:
    setup = prepare(model, inputs, outputs)
    try:
        answer = searched_up_to_eps(setup, seed, precision)
    except Exception as error:
        if why := refusal(error):
            said = f"the forward refuses the weights when they are moved or scaled, as every test must: {why}"
            raise UserError(f"{said}; switch that check off") from error
        raise
    found, tested, names = answer.found, answer.tested, setup.names
    reasons = [answer.found.reason, tested.reason, _few(setup), *answer.doubts]
    evidence = _evidence(answer, setup, "; ".join(filter(None, reasons)))
    del answer  # the copy in double precision is the largest thing here
    if found.precision.single:
        freed()
    parameters = dict(model.named_parameters())
    order, dead, single = found.order, set(found.state.dead), set(found.state.single)
    used = {i for v in found.basis for i, n in enumerate(v) if n} | single | dead | set(found.unreached)
    used |= covered(found.trades, [parameters[n].shape for n in names])
    groups = [[i] for i in order if i in single] + found.joint
    by_name = {group_name(tuple(names[i] for i in group)): group for group in groups}
    measured = {} if found.state.numeric or not defect else by_name
    result = Symmetries(
        single=tuple(names[i] for i in order if i in single),
        row=tuple(names[i] for i in order if i in found.row),
        joint=tuple(tuple(names[i] for i in group) for group in found.joint),
        weighted=tuple({names[i]: n for i, n in group.items()} for group in found.weighted),
        partial=tuple(Partial(names[i], *part) for i, part in found.parts.items()),
        blocks=tuple(Partial(names[i], *part) for i, part in found.blocks.items()),
        rescaling=tuple({names[i]: n for i, n in pair.items()} for pair in found.rescaling),
        sliced=tuple(_sliced(trade, names) for trade in found.trades),
        dead=tuple(names[i] for i in order if i in dead),
        unreached={names[i]: found.unreached[i] for i in order if i in found.unreached},
        fixed=tuple(names[i] for i in order if i not in used),
        evidence=evidence,
        defect=_defect(setup, measured, seed),
        shapes={n: tuple(parameters[n].shape) for n in names},
        norms={n: float(torch.linalg.vector_norm(whole(parameters[n]).to(_wide(parameters[n])))) for n in names},
        frozen=tuple(n for n in names if not parameters[n].requires_grad),
        row_dim={names[i]: d for i, d in found.row.items()},
    )
    remember(parameters, result)
    return result


def _sliced(trade: Trade, names: Sequence[str]) -> Sliced:
    parts = tuple((Slice(names[i], dim, spans), e or 1) for (i, dim, spans), e in trade.pieces)
    return Sliced(parts, trade.blocks, dead=all(e == 0 for _, e in trade.pieces))


def _defect(setup: FirstRuns, groups: Mapping[str, Sequence[int]], seed: int) -> dict[str, dict[str, float | None]]:
    """Measure the eps defect; nothing where the model has no gradient in its own precision, or refuses others."""
    if not groups:
        return {}
    say("what eps does to the groups")
    generator = torch.Generator().manual_seed(seed + 3)
    try:
        return eps_defect(setup.model, setup.inputs, groups, generator, setup.own_probe())
    except NoGradient:
        return {}
    except Exception as error:
        if refusal(error):  # weights that large are refused
            return {}
        raise


def _wide(p: torch.Tensor) -> torch.dtype:
    return torch.complex128 if p.is_complex() else torch.float64


def _few(setup: FirstRuns) -> str:
    if not setup.few:
        return ""
    if setup.few.startswith(("softmax", "attention")):
        return f"{setup.few} is 1 whatever the weights: give longer inputs, or leave the softmax out"
    larger = "a larger batch" if setup.few.startswith("batch") else "longer inputs or larger maps"
    return f"{setup.few} saw two values per channel, which it makes +1 and -1 whatever the weights: give {larger}"


def _evidence(answer: Searched, setup: FirstRuns, reason: str) -> dict[str, Any]:
    """Collect the numbers behind the answer; None for one that is not finite, which JSON does not have."""
    found, tested, probe = answer.found, answer.tested, answer.probe
    state, spectrum = found.state, found.state.spectrum
    cosine = state.rows.cosine().tolist()
    dtype = "float32, tested in float64" if found.precision.single else "float64"
    return {
        "verdict": "undecided" if reason else "clear",
        "reason": reason,
        "notes": [*setup.notes, *([_DRAWN] if any(place.drawn for place in state.places) else [])],
        "dtype": f"{dtype}, by differences of the outputs" if state.numeric else dtype,
        "eps": probe.eps,
        "perturbation": 0.2,
        "places": len(state.places),
        "random_draws": len({place.draw for place in state.places}) if setup.random else 1,
        "outputs": len(state.mask),
        "outputs_used": list(probe.shown),
        "outputs_left_out": list(probe.hidden),
        "skipped_outputs": int((state.mask == 0).sum()),
        "rows": len(state.rows.values),
        "rank": spectrum.cut,
        "singular_values": [float(x) for x in spectrum.singular[max(0, spectrum.cut - 3) : spectrum.cut + 3]],
        "smallest_kept": spectrum.kept if math.isfinite(spectrum.kept) else None,
        "largest_dropped": spectrum.dropped if math.isfinite(spectrum.dropped) else None,
        "largest_single_cosine": max([cosine[i] for i in state.single], default=0.0),
        "smallest_other_cosine": min([cosine[i] for i in state.rest], default=1.0),
        "residuals": {name: r.to_dict() for name, r in tested.residuals.items()},
        "dead_change": tested.dead_change if math.isfinite(tested.dead_change) else None,
        "row_change": tested.row_change if math.isfinite(tested.row_change) else None,
        "tolerance": TOLERANCE,
        "eps_by_hand": sorted({site.value for site in answer.sites}),
        "eps_sites": sorted(map(str, answer.sites)),
        "up_to_eps": answer.laws,
    }
