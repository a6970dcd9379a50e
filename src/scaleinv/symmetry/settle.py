"""Search, test in float64, and settle what is an eps: the answer together with all that speaks against it."""

from dataclasses import dataclass, field

import torch

from scaleinv.errors import UserError
from scaleinv.symmetry.jacobian import NoGradient
from scaleinv.symmetry.numeric import disagreements
from scaleinv.symmetry.precision import DOUBLE, NUMERIC, SINGLE
from scaleinv.symmetry.probe import Probe, Viewpoint
from scaleinv.symmetry.search import Found, search, usable_outputs
from scaleinv.symmetry.sites import Site
from scaleinv.symmetry.trial import FirstRuns, every_tensor, one_line
from scaleinv.symmetry.verify import (
    TOLERANCE,
    RescalingClaim,
    Tested,
    eps_law,
    holds_up_to_eps,
    put_to_test,
    verify_moves,
    verify_slices,
)

#: models with more parameters than this are searched in single precision first
_LARGE = 1_000_000
#: places at which the claims are tested again, where the model is random or hides tensors
_TESTS = 4
#: |cos(g, w)| of a tensor that might be scale-invariant up to an eps nobody sees
_SUSPECT = 1e-3


@dataclass
class Searched:
    """What was found and tested, the probe as it stood, and the constants taken for an eps."""

    probe: Probe
    found: Found
    tested: Tested
    sites: list[Site] = field(default_factory=list)
    laws: dict[str, list[float]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def searched_up_to_eps(setup: FirstRuns, seed: int, precision: str) -> Searched:
    """Search with every eps taken out, then put those back that stand in the code and see what they change.

    A constant is taken for an eps only if every claim holds up to it: the defect falls as the weights grow. The others
    are part of the function, and the search is repeated with them.
    """
    sites = _sites(setup, seed)
    active = frozenset(sites)
    while True:
        answer = _searched(setup, seed, precision, active)
        literals = [key for key in active if not sites[key].norm]
        if not literals:
            break
        bad = _no_eps(answer, sites, literals)
        if not bad:
            answer.sites = [sites[key] for key in literals]
            break
        active -= bad
    answer.doubts += _doubts(answer, seed)
    return answer


def _sites(setup: FirstRuns, seed: int) -> dict[tuple[float, str, int], Site]:
    """List the small constants of the model's code that end in a divisor, at the first places of the search."""
    probe = setup.probe()
    found: dict[tuple[float, str, int], Site] = {}
    for number in range(3 if setup.random else 1):
        probe.place = Viewpoint(draw=number)
        found |= one_line(probe.scout, "the model fails in double precision, in which it is searched")
    return found


def _no_eps(
    answer: Searched, sites: dict[tuple[float, str, int], Site], literals: list[tuple[float, str, int]]
) -> set[tuple[float, str, int]]:
    """List the constants that are no eps: with them put back, some claim fails however large the weights are."""
    probe, found, tested = answer.probe, answer.found, answer.tested
    active, claims = probe.sites, found.claims(probe.names)
    try:
        if not (found.reason or tested.reason):
            probe.sites = active - set(literals)
            outside = any(sites[key].outside for key in literals)
            answer.laws = {claim.name: _law(probe, claim, tested, outside) for claim in claims}
            if all(holds_up_to_eps(law, outside=outside) for law in answer.laws.values()):
                return set()
        bad = set()
        for key in literals if len(literals) > 1 else []:
            probe.sites = active - {key}
            laws = [_law(probe, claim, tested, sites[key].outside) for claim in claims]
            if not all(holds_up_to_eps(law, outside=sites[key].outside) for law in laws):
                bad.add(key)
        return bad or set(literals)
    finally:
        probe.sites = active


def _law(probe: Probe, claim: RescalingClaim, tested: Tested, outside: bool) -> list[float]:
    """Measure the law from the present weights on, or from a thousand times them where eps still rules there."""
    law = eps_law(probe, claim, tested.mask)
    if holds_up_to_eps(law, outside=outside) or not law[0] > 1e-3:
        return law
    larger = eps_law(probe, claim, tested.mask, 1e3)
    return larger if holds_up_to_eps(larger, outside=outside) else law


def _searched(setup: FirstRuns, seed: int, precision: str, active: frozenset[tuple[float, str, int]]) -> Searched:
    """Search in the wanted precision and test in float64; the float64 probe stands where it was tested."""
    numeric = bool(setup.rewritten)
    large = sum(p.numel() for p in setup.model.parameters()) > _LARGE
    if not numeric and (precision == "single" or (precision == "auto" and large)):
        try:
            probe = setup.probe(torch.float32, SINGLE.eps[0])
            probe.sites = active
            found = search(probe, SINGLE, seed, random=setup.random)
        except (NoGradient, UserError):
            found = None  # float64 will say what is wrong
        if found is not None and _trusted(found):
            order, signs = probe.order, probe.keep_sign
            del probe
            probe = setup.probe()
            probe.sites, probe.keep_sign = active, signs
            tested = _test(probe, found, seed)
            probe.order = order
            if not tested.reason:
                return Searched(probe, found, tested)
    probe = setup.probe()
    probe.sites = active
    try:
        found = search(probe, NUMERIC if numeric else DOUBLE, seed, random=setup.random, numeric=numeric)
    except NoGradient:  # differences of the outputs need none
        probe = setup.probe()
        probe.sites = active
        found = one_line(
            lambda: search(probe, NUMERIC, seed, random=setup.random, numeric=True),
            "the model fails in double precision, in which it is searched",
        )
    return Searched(probe, found, _test(probe, found, seed))


def _trusted(found: Found) -> bool:
    """Tell whether the float32 search saw gaps that no rounding makes; what it claims is tested in any case."""
    state, size = found.state, found.state.rows.size
    cosine = state.rows.cosine()
    largest = max((float(cosine[i]) for i in state.single), default=0.0)
    smallest = min((float(cosine[i]) for i in state.rest), default=1.0)
    gone = {*state.dead, *found.unreached}
    weakest = min((float(size[i]) for i in range(len(size)) if i not in gone), default=0.0)
    apart = smallest >= 10 * max(largest, SINGLE.zero) and weakest >= 10 * SINGLE.dead * float(size.max())
    return not found.reason and bool(state.mask.all()) and apart


def _test(probe: Probe, found: Found, seed: int) -> Tested:
    """Test every claim in double precision: at the last place, and at others where other tensors act."""
    single, state = found.precision.single, found.state
    claims, gradients = found.claims(probe.names), not state.numeric
    last = state.places[-1]
    others = [p for p in state.places if (p.draw, p.shuffle) != (last.draw, last.shuffle) or p.fresh]
    tested: Tested | None = None
    for number, place in enumerate([*others[-_TESTS + 1 :], last]):
        generator = torch.Generator().manual_seed(seed + 2 + number)
        mask = state.mask
        if single or place is not last:
            probe.goto(place)
            mask = usable_outputs(probe, DOUBLE)
        one = put_to_test(
            probe, claims, state.dead, found.row, mask, generator, explain=not single, gradients=gradients
        )
        if found.dead_slices:
            one.dead_change = max(one.dead_change, verify_slices(probe, found.dead_slices, mask))
        tested = one if tested is None else one.worst(tested)
    assert tested is not None
    if found.row and not tested.reason:
        _rows_elsewhere(probe, found, last)
    if others and not single:
        probe.goto(last)
        usable_outputs(probe, DOUBLE)
    return tested


def _rows_elsewhere(probe: Probe, found: Found, back: Viewpoint) -> None:
    """Keep a claim about slices only if it holds on permuted inputs too: rows of a table meet other rows there."""
    whole = [t for t in every_tensor(probe.given) if not t.is_floating_point() and t.dtype is not torch.bool]
    if not whole:
        return
    try:
        probe.goto(back._replace(shuffle=1))
        mask = usable_outputs(probe, DOUBLE)
        for i, d in list(found.row.items()):
            change = verify_moves(probe, {i: d}, mask, torch.Generator().manual_seed(13))
            if not change <= TOLERANCE:
                del found.row[i]
    except (UserError, RuntimeError, IndexError, ValueError):
        pass  # these inputs are not for this model
    finally:
        probe.goto(back)
        usable_outputs(probe, DOUBLE)


def _doubts(answer: Searched, seed: int) -> list[str]:
    """Say what else speaks against the answer: gradients that are not the function's, an eps that nothing can set."""
    probe, found, tested = answer.probe, answer.found, answer.tested
    doubts = []
    generator = torch.Generator().manual_seed(seed + 7)
    if not found.state.numeric:
        words = disagreements(probe, tested.mask, generator, set(found.unreached))
        if words:
            said = "; ".join(f"{probe.names[i]}: {what}" for i, what in list(words.items())[:4])
            more = f" and {len(words) - 4} more" if len(words) > 4 else ""
            doubts.append(f"gradient and function disagree (straight-through or detached): {said}{more}")
    if found.reason or tested.reason:
        return doubts
    cosine = found.state.rows.cosine()
    for i in found.state.rest:
        if float(cosine[i]) < _SUSPECT and not any(v[i] for v in found.basis):
            law = eps_law(probe, RescalingClaim(probe.names[i], {i: 1}), tested.mask)
            if law[0] > 1e-9 and holds_up_to_eps(law, outside=True):
                doubts.append(
                    f"{probe.names[i]} is scale-invariant up to {law[0]:.0e}, which falls as it grows: an eps that "
                    "cannot be taken out"
                )
    return doubts
