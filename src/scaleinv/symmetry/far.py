"""Test what was found far away from the weights: a symmetry holds for every factor, not for 0.5 and 2 alone.

ReLU6 is linear below six, a bound on a norm is none for what lies below it, GELU is a ReLU for large numbers: each has
a symmetry as long as the weights are small, or large, enough.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from scaleinv.symmetry.probe import Probe, refusal
from scaleinv.symmetry.progress import say
from scaleinv.symmetry.state import Found
from scaleinv.symmetry.verify import TOLERANCE, RescalingClaim, applied

#: factor on the weights, a power of two, and that on dead ones, whose rounding grows with it
_FAR, _FAR_DEAD = 2.0**12, 2.0**5
#: change of the outputs by dead tensors that is rounding
_DEAD_TOLERANCE = 1e-9


def doubts_from_afar(probe: Probe, found: Found, mask: Tensor, known: Tensor | None = None) -> list[str]:
    """Say which claims hold near the present weights only; the probe stands where they were tested.

    known: the outputs there, if they are.
    """
    say("claims far away")
    try:
        return _doubts(probe, found, mask, known)
    except Exception as error:
        if why := refusal(error):  # a check of the model's own, such as one for large activations
            return [f"far from the present weights nothing could be tested: the forward raises {why}"]
        raise


def _doubts(probe: Probe, found: Found, mask: Tensor, known: Tensor | None) -> list[str]:
    usable, base = mask > 0, probe.value() if known is None else known
    scale = max(float(base[usable].abs().max()) if bool(usable.any()) else 0.0, 1e-300)
    generator = torch.Generator().manual_seed(17)

    def change(claims: Sequence[RescalingClaim], factors: Sequence[float]) -> float:
        # slices with a power of 3 go no farther than those with a power of 1, where rounding would rule
        roots = [max((abs(e) for *_, e in claim.terms), default=1) for claim in claims]
        with applied(probe, claims, [f ** (1 / root) for f, root in zip(factors, roots)]):
            return _off(probe.value(), base, usable, scale)

    claims = found.claims(probe.names)
    words = []
    if claims:
        signs = (torch.randint(0, 2, (len(claims),), generator=generator, device="cpu") * 2 - 1).tolist()
        worst = max(change(claims, [_FAR ** (s * side) for s in signs]) for side in (1, -1))
        if not worst <= TOLERANCE:
            near = _near(claims, change)
            if near:
                shown = ", ".join(name for name, _, _ in near[:3]) + (f" and {len(near) - 3} more" * (len(near) > 3))
                first = f"multiplied by {near[0][1]:g} the outputs change by {near[0][2]:.0e}"
                words.append(f"no change at the present size of the weights only: {shown}; {first}")

    def moved(dims: Mapping[int, int | None], factor: float) -> float:
        off = 0.0
        for side in (1, -1):
            with probe.restored(dims), torch.no_grad():
                for i, dim in dims.items():
                    p = probe.tensors[i]
                    shape = [n if dim is None or d == dim else 1 for d, n in enumerate(p.shape)]
                    signs_of = torch.randint(0, 2, shape, generator=generator, device="cpu").double() * 2 - 1
                    p.mul_((factor ** (side * signs_of)).to(p))
                off = max(off, _off(probe.value(), base, usable, scale))
        return off

    dead: dict[int, int | None] = dict.fromkeys(found.state.dead)
    slices: dict[int, int | None] = dict(found.row)
    for dims, allowed, factor, what in (
        (dead, _DEAD_TOLERANCE, _FAR_DEAD, "without effect"),
        (slices, TOLERANCE, _FAR, "free slice by slice"),
    ):
        off = moved(dims, factor) if dims else 0.0
        if not off <= allowed:
            names = [probe.names[i] for i, dim in dims.items() if not moved({i: dim}, factor) <= allowed]
            names = names or [probe.names[i] for i in dims]  # together alone
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" * (len(names) > 3))
            words.append(f"{what} at the present size of the weights only: {shown} (far away {off:.0e})")
    return words


def _near(
    claims: Sequence[RescalingClaim], change: Callable[[Sequence[RescalingClaim], Sequence[float]], float]
) -> list[tuple[str, float, float]]:
    """List (claim, factor, change of the outputs) of the claims that fail far away; of many, by halves."""
    factors = (_FAR, 1 / _FAR)
    changes = [change(claims, [f] * len(claims)) for f in factors]
    if len(claims) > 1:
        if max(changes) <= TOLERANCE and len(claims) > 8:  # what one does wrong another may undo, in few only
            return []
        half = len(claims) // 2
        return _near(claims[:half], change) + _near(claims[half:], change)
    return [(claims[0].name, f, c) for f, c in zip(factors, changes) if not c <= TOLERANCE][:1]


def _off(moved: Tensor, base: Tensor, usable: Tensor, scale: float) -> float:
    if moved.shape != base.shape:
        return float("inf")
    return float((moved - base)[usable].abs().max()) / scale if bool(usable.any()) else 0.0
