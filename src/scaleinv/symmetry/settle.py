"""Search, test in float64, and settle what is an eps: the answer together with all that speaks against it."""

from dataclasses import dataclass, field

import torch

from scaleinv.errors import UserError
from scaleinv.symmetry.copies import freed, trimmed, view_real
from scaleinv.symmetry.far import doubts_from_afar
from scaleinv.symmetry.jacobian import NoGradient
from scaleinv.symmetry.numeric import disagreements
from scaleinv.symmetry.precision import DOUBLE, NUMERIC, SINGLE
from scaleinv.symmetry.probe import Probe, Viewpoint, every_tensor
from scaleinv.symmetry.progress import say
from scaleinv.symmetry.search import search, usable_outputs
from scaleinv.symmetry.sites import Key, Site
from scaleinv.symmetry.state import Found
from scaleinv.symmetry.trial import FirstRuns, one_line
from scaleinv.symmetry.verify import (
    EACH_BELOW,
    FEW,
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
#: the gradient of a tensor with more entries is not made in double precision
_TOO_LARGE = 2**23
#: places at which the claims are tested again, where the model is random or hides tensors
_TESTS = 4
#: |cos(g, w)| of a tensor that might be scale-invariant up to an eps nobody sees
_SUSPECT = 1e-3
#: change of the outputs, when it is doubled, of a tensor that is scale-invariant up to something small
_NEARLY = 1e-2


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
    doubts: list[str] = []
    while True:
        answer = _searched(setup, seed, precision, active)
        literals = [key for key in active if not sites[key].norm]
        if not literals:
            break
        bad, doubt = _no_eps(answer, sites, literals)
        doubts += [doubt] if doubt else []
        if not bad:
            answer.sites = [sites[key] for key in literals]
            break
        active -= bad
    if not answer.sites and not answer.found.reason and _sign_alone(answer):
        answer.tested = _test(answer.probe, answer.found, seed)
    answer.doubts += doubts + _doubts(answer, seed, kept=len(sites) > len(active))
    return answer


def _sign_alone(answer: Searched) -> bool:
    """Move from dead to single what the outputs depend on by its sign; tell whether there is any.

    A number in front of a norm has no gradient, and yet it does something. Not where a constant of the code was taken
    for an eps: there a function that saturates entry by entry would pass for a norm.
    """
    probe, state = answer.probe, answer.found.state
    usable = answer.tested.mask > 0
    if state.numeric or not state.dead or not bool(usable.any()):
        return False
    base = probe.value()
    allowed = 1e-6 * float(base[usable].abs().max())

    def moves(which: list[int]) -> bool:
        with probe.restored(which), torch.no_grad():
            for i in which:
                sign = torch.ones_like(view_real(probe.tensors[i]))
                sign.view(-1)[::2] = -1
                view_real(probe.tensors[i]).mul_(sign)
            moved = probe.value()
        return moved.shape != base.shape or bool(((moved - base)[usable].abs() > allowed).any())

    state.signs = [i for i in state.dead if moves([i])] if moves(state.dead) else []
    state.dead = [i for i in state.dead if i not in state.signs]
    state.single = sorted([*state.single, *state.signs])
    return bool(state.signs)


def _sites(setup: FirstRuns, seed: int) -> dict[Key, Site]:
    """List the small constants of the model's code that end in a divisor, at the first places of the search."""
    probe = setup.probe()
    found: dict[Key, Site] = {}
    for number in range(3 if setup.random else 1):
        probe.place = Viewpoint(draw=number)
        found |= one_line(probe.scout, "the model fails in double precision, in which it is searched")
    return found


def _no_eps(answer: Searched, sites: dict[Key, Site], literals: list[Key]) -> tuple[set[Key], str]:
    """List the constants that are no eps: with them put back, some claim fails however large the weights are.

    And a doubt: a claim that fails there by so little that the constant may be an eps after all.
    """
    probe, found, tested = answer.probe, answer.found, answer.tested
    active, claims = probe.sites, found.claims(probe.names)
    doubt = ""
    try:
        if not (found.reason or tested.reason):
            probe.sites = active - set(literals)
            outside = any(sites[key].outside for key in literals)
            say("constants of the code put back")
            answer.laws = _laws(probe, claims, tested, outside)
            failed = [name for name, law in answer.laws.items() if not holds_up_to_eps(law, outside=outside)]
            if not failed:
                return set(), ""
            if all(answer.laws[name][0] < _NEARLY for name in failed):
                words = ", ".join(str(sites[key]) for key in literals)
                doubt = f"{words} may be an eps: without it {failed[0]} has no scale, with it that is off by "
                doubt += f"{answer.laws[failed[0]][0]:.0e}, which does not fall as the weights grow"
        bad = set()
        for key in literals if len(literals) > 1 else []:
            probe.sites = active - {key}
            laws = [_law(probe, claim, tested, sites[key].outside) for claim in claims]
            if not all(holds_up_to_eps(law, outside=sites[key].outside) for law in laws):
                bad.add(key)
        return bad or set(literals), doubt
    finally:
        probe.sites = active


def _laws(probe: Probe, claims: list[RescalingClaim], tested: Tested, outside: bool) -> dict[str, list[float]]:
    """Measure the law of every claim; of many, or in a large model, of all at once, then of halves where that fails."""
    each = len(claims) <= FEW and sum(t.numel() for t in probe.tensors) <= EACH_BELOW
    if not each and len(claims) > 1:
        say(f"{len(claims)} claims with the constants of the code")
        together = eps_law(probe, claims, tested.mask)
        if holds_up_to_eps(together, outside=outside):
            return {claim.name: together for claim in claims}
        half = len(claims) // 2
        return _laws(probe, claims[:half], tested, outside) | _laws(probe, claims[half:], tested, outside)
    return {claim.name: _law(probe, claim, tested, outside) for claim in claims}


def _law(probe: Probe, claim: RescalingClaim, tested: Tested, outside: bool) -> list[float]:
    """Measure the law from the present weights on, or from a thousand or a million times them where eps rules there.

    A claim of mixed signs holds up to an eps in one direction: where what is normalised grows.
    """
    mixed = len({e > 0 for e in claim.exponents.values()} | {term[3] > 0 for term in claim.terms}) > 1
    law = eps_law(probe, [claim], tested.mask)
    for down in (False, True) if mixed else (False,):
        for start in (1.0, 2.0**10, 2.0**20):
            if start == 1.0 and not down:
                tried = law
            elif start == 1.0 or law[0] > 1e-3:
                tried = eps_law(probe, [claim], tested.mask, start, down=down)
            else:
                continue
            if holds_up_to_eps(tried, outside=outside):
                return tried
    return law


def _searched(setup: FirstRuns, seed: int, precision: str, active: frozenset[Key]) -> Searched:
    """Search in the wanted precision and test in float64; the float64 probe stands where it was tested."""
    numeric = bool(setup.rewritten)
    large = sum(p.numel() for p in setup.model.parameters()) > _LARGE
    if not numeric and (precision == "single" or (precision == "auto" and large)):
        try:
            freed()
            probe = setup.probe(torch.float32, SINGLE.eps[0])
            probe.sites = active
            found = search(probe, SINGLE, seed, random=setup.random)
        except (NoGradient, UserError):
            found = None  # float64 will say what is wrong
        if found is not None and _trusted(found):
            order, signs = probe.order, probe.keep_sign
            del probe
            freed()
            probe = setup.probe()
            trimmed()
            probe.sites, probe.keep_sign = active, signs
            tested = _test(probe, found, seed)
            probe.order = order
            if not tested.reason and _confirmed(found, tested):
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


def _spared(probe: Probe, found: Found) -> frozenset[int]:
    """List the tensors whose gradient in double precision is not made: the tables of large models."""
    sliced = {i for trade in found.trades for (i, _, _), _ in trade.pieces} | set(found.parts)
    return frozenset(
        i for i, p in enumerate(probe.tensors) if found.state.fast and i not in sliced and p.numel() > _TOO_LARGE
    )


def _trusted(found: Found) -> bool:
    """Tell whether the float32 search saw gaps that no rounding makes; what it claims is tested in any case."""
    state, size = found.state, found.state.rows.size
    gone = {*state.dead, *found.unreached}
    weakest = min((float(size[i]) for i in range(len(size)) if i not in gone), default=0.0)
    return not found.reason and bool(state.mask.all()) and weakest >= 10 * SINGLE.dead * float(size.max())


def _confirmed(found: Found, tested: Tested) -> bool:
    """Tell whether float64 sees the slope of every tensor that float32 saw but a small one of.

    The gradient of a large matrix is nearly orthogonal to it by chance: |cos(g, w)| is about 1/sqrt(entries).
    """
    state, size = found.state, found.state.rows.size
    cosine = state.rows.cosine()
    largest = max((float(cosine[i]) for i in state.single), default=0.0)
    small = [i for i in state.rest if not float(cosine[i]) >= 10 * max(largest, SINGLE.zero)]
    if not small or tested.slopes is None:
        return not small
    slopes = tested.slopes
    return all(abs(float(slopes.dots[i])) > 10 * DOUBLE.zero * float(slopes.sizes[i] or size[i]) for i in small)


def _test(probe: Probe, found: Found, seed: int) -> Tested:
    """Test every claim in double precision: at the last place, and at others where other tensors act."""
    single, state = found.precision.single, found.state
    claims, gradients = found.claims(probe.names), not state.numeric
    say(f"{len(claims)} claims tested by scaling")
    last = state.places[-1]
    others = _other_places(found)
    tested: Tested | None = None
    for number, place in enumerate([*others, last]):
        generator = torch.Generator().manual_seed(seed + 2 + number)
        mask = state.mask
        if single or place is not last or probe.place != place:  # it may have looked elsewhere since
            probe.goto(place)
            mask = usable_outputs(probe, DOUBLE)
        one = put_to_test(
            probe, claims, state.dead, found.row, mask, generator,
            explain=not single, gradients=gradients, spared=_spared(probe, found),
        )  # fmt: skip
        if found.dead_slices:
            one.dead_change = max(one.dead_change, verify_slices(probe, found.dead_slices, mask, one.base))
        if not one.row_change <= TOLERANCE:  # seen at the first place alone
            for i, d in list(found.row.items()):
                if not verify_moves(probe, {i: d}, mask, generator) <= TOLERANCE:
                    del found.row[i]
            one.row_change = verify_moves(probe, dict(found.row), mask, generator)
        tested = one if tested is None else one.worst(tested)
    assert tested is not None
    found.drop({claim.name for claim in claims if not tested.residuals[claim.name].good}, probe.names)
    kept = {claim.name for claim in found.claims(probe.names)}
    tested.residuals = {name: r for name, r in tested.residuals.items() if name in kept}
    tested.judged()
    if found.row and not tested.reason:
        _rows_elsewhere(probe, found, last)
    if others and not single:
        probe.goto(last)
        usable_outputs(probe, DOUBLE)
    return tested


def _other_places(found: Found) -> list[Viewpoint]:
    """List places, besides the last, where other tensors act than there, or other random numbers are drawn."""
    state = found.state
    last = state.places[-1]
    seen = {state.uses.get(last)}
    chosen = []
    for place in state.places[:-1]:
        uses = state.uses.get(place)
        if place._replace(seed=0, quiet=False) != last._replace(seed=0, quiet=False) or uses not in seen:
            chosen.append(place)
            seen.add(uses)
    return chosen[-_TESTS + 1 :]


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


def _doubts(answer: Searched, seed: int, *, kept: bool) -> list[str]:
    """Say what else speaks against the answer: gradients that are not the function's, an eps that nothing can set.

    kept: some constant in a divisor was not taken for an eps, so that any tensor may be free but for it.
    """
    probe, found, tested = answer.probe, answer.found, answer.tested
    doubts = []
    generator = torch.Generator().manual_seed(seed + 7)
    if not found.state.numeric:
        words = disagreements(
            probe, tested.mask, generator, set(found.unreached),
            spared=_spared(probe, found), slopes=tested.slopes, base=tested.base,
        )  # fmt: skip
        if words:
            said = "; ".join(f"{probe.names[i]}: {what}" for i, what in list(words.items())[:4])
            more = f" and {len(words) - 4} more" if len(words) > 4 else ""
            doubts.append(f"gradient and function disagree (straight-through or detached): {said}{more}")
    if found.reason or tested.reason:
        return doubts
    doubts += doubts_from_afar(probe, found, tested.mask, tested.base)
    cosine = found.state.rows.cosine()
    for i in found.state.rest:
        if (kept or float(cosine[i]) < _SUSPECT) and not any(v[i] for v in found.basis):
            law = eps_law(probe, [RescalingClaim(probe.names[i], {i: 1})], tested.mask)
            if 1e-9 < law[0] < _NEARLY and holds_up_to_eps(law, outside=True):
                doubts.append(
                    f"{probe.names[i]} is scale-invariant up to {law[0]:.0e}, which falls as it grows: an eps that "
                    "cannot be taken out"
                )
    return doubts
