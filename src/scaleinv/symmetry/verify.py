"""Check every claim by what it means: scale the weights, compare the outputs; gradient orthogonal, and falling as 1/c.

Nothing here uses the null space or how it was found.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scaleinv.symmetry.jacobian import cotangent, full_row
from scaleinv.symmetry.probe import Probe

#: largest relative change of the outputs that is rounding
TOLERANCE = 1e-7
#: models with more parameters than this have their claims checked all at once, in random combinations
EACH_BELOW = 2_000_000


@dataclass(frozen=True)
class Claim:
    """Multiplying tensor i by c^exponents[i] (its slices along a dimension only, for a part) changes no output."""

    name: str
    exponents: dict[int, int]
    part: tuple[int, tuple[tuple[int, int], ...]] | None = None  # (dimension, ranges)


@dataclass(frozen=True)
class Residuals:
    """What was left when a claim was put to the test; relative, 0 is perfect."""

    output: float  # largest change of an output under factors 0.5 and 2, over the largest output
    dot: float  # |sum_i e_i <g_i, w_i>| / sqrt(sum |g_i|^2 sum |w_i|^2)
    law: float  # |c g(c w) - g(w)| / |g(w)|

    @property
    def good(self) -> bool:
        return max(self.output, self.dot, self.law) <= TOLERANCE


@contextlib.contextmanager
def applied(probe: Probe, claims: Sequence[Claim], factors: Sequence[float]) -> Iterator[None]:
    """Scale the weights by every claim with its factor while the context lasts."""
    touched = sorted({i for claim in claims for i in claim.exponents})
    saved = {i: probe.tensors[i].detach().clone() for i in touched}
    with torch.no_grad():
        for claim, c in zip(claims, factors):
            for i, e in claim.exponents.items():
                for view in _views(probe.tensors[i], claim):
                    view.mul_(c**e)
    try:
        yield
    finally:
        with torch.no_grad():
            for i, old in saved.items():
                probe.tensors[i].copy_(old)


def _views(tensor: Tensor, claim: Claim) -> list[Tensor]:
    if claim.part is None:
        return [tensor]
    dim, spans = claim.part
    return [tensor.narrow(dim, a, b - a) for a, b in spans]


def verify(probe: Probe, claims: Sequence[Claim], mask: Tensor, generator: torch.Generator) -> dict[str, Residuals]:
    """Residuals of every claim at the probe's present weights, by factors 0.5 and 2.

    Small models: one claim at a time. Larger ones: all claims at once, each with 0.5 or 2 at random and then the other way
    round; the residual of the combination stands for each, and where it is not rounding every claim is tried alone.
    """
    if not claims:
        return {}
    usable = mask > 0
    base = probe.value()
    scale = float(base[usable].abs().max()) if bool(usable.any()) else 1.0
    u = cotangent(mask, generator)
    before = _gradients(probe, u)

    def change(chosen: Sequence[Claim], factors: Sequence[float]) -> float:
        with applied(probe, chosen, factors):
            moved = probe.value()
        return _largest((moved - base)[usable]) / max(scale, 1e-300)

    def law(chosen: Sequence[Claim], factors: Sequence[float]) -> dict[str, float]:
        with applied(probe, chosen, factors):
            after = _gradients(probe, u)
        total: dict[int, Tensor] = {}
        for claim, c in zip(chosen, factors):
            for i, e in claim.exponents.items():
                total.setdefault(i, torch.ones_like(probe.tensors[i]))
                for view in _views(total[i], claim):
                    view.mul_(c**e)
        return {claim.name: max(_relative(after[i] * total[i], before[i]) for i in claim.exponents) for claim in chosen}

    signs = (torch.randint(0, 2, (len(claims),), generator=generator) * 2 - 1).tolist()
    designs = [[2.0**s for s in signs], [2.0**-s for s in signs]]
    together = max(change(claims, f) for f in designs)
    laws = law(claims, designs[0])
    each = sum(t.numel() for t in probe.tensors) <= EACH_BELOW or not together <= TOLERANCE
    result = {}
    for claim in claims:
        alone = max(change([claim], [0.5]), change([claim], [2.0])) if each else together
        value = laws[claim.name]
        if not value <= TOLERANCE:
            value = law([claim], [2.0])[claim.name]
        result[claim.name] = Residuals(alone, _dot(probe, claim, before), value)
    return result


def verify_dead(probe: Probe, dead: Sequence[int], mask: Tensor, generator: torch.Generator) -> float:
    """Largest relative change of the outputs when every entry of all dead tensors is moved by up to 50 %."""
    if not dead:
        return 0.0
    usable = mask > 0
    base = probe.value()
    saved = [probe.tensors[i].detach().clone() for i in dead]
    with torch.no_grad():
        for i in dead:
            p = probe.tensors[i]
            p.mul_(1 + torch.rand(p.shape, generator=generator, dtype=torch.float64).to(p) - 0.5)
    moved = probe.value()
    with torch.no_grad():
        for i, old in zip(dead, saved):
            probe.tensors[i].copy_(old)
    return _largest((moved - base)[usable]) / max(_largest(base[usable]), 1e-300)


def eps_law(probe: Probe, claim: Claim, mask: Tensor) -> list[float]:
    """Relative change of the outputs between c and 2c for c = 1, 1e2, 1e4: falls as c^-2 if only an eps is in the way."""
    usable = mask > 0
    changes = []
    for c in (1.0, 1e2, 1e4):
        with applied(probe, [claim], [c]):
            first = probe.value()[usable]
        with applied(probe, [claim], [2 * c]):
            second = probe.value()[usable]
        changes.append(_largest(first - second) / max(_largest(first), 1e-300))
    return changes


def holds_up_to_eps(changes: Sequence[float]) -> bool:
    """Whether the changes of :func:`eps_law` are zero or fall as c^-2 (within a factor 100) until rounding."""
    first, second, third = changes
    if not all(map(math.isfinite, changes)):
        return False
    return second <= max(1e-2 * first, TOLERANCE * 1e-2) and third <= max(1e-2 * second, TOLERANCE * 1e-2)


def _gradients(probe: Probe, u: Tensor) -> list[Tensor]:
    with probe.differentiable():
        rows = full_row(probe, probe.outputs(), u, list(range(len(probe.tensors))), keep=False)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(probe.tensors, rows)]


def _dot(probe: Probe, claim: Claim, gradients: list[Tensor]) -> float:
    total = torch.zeros((), dtype=torch.float64)
    g2 = w2 = 0.0
    for i, e in claim.exponents.items():
        for g, w in zip(_views(gradients[i], claim), _views(probe.tensors[i].detach(), claim)):
            total += e * float((g * w).sum())
            g2, w2 = g2 + float(g.square().sum()), w2 + float(w.square().sum())
    return abs(float(total)) / max(math.sqrt(g2 * w2), 1e-300)


def _largest(t: Tensor) -> float:
    return float(t.abs().max()) if t.numel() else 0.0


def _relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b)) / max(float(torch.linalg.vector_norm(b)), 1e-300)
