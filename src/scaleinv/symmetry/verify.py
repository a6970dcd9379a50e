"""Check every claim by what it means: scale the weights, compare the outputs; gradient orthogonal, and falling as 1/c.

Nothing here uses the null space or how it was found.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field

import torch
from torch import Tensor

from scaleinv.symmetry.copies import view_real
from scaleinv.symmetry.jacobian import cotangent, full_row
from scaleinv.symmetry.probe import Probe

#: largest relative change of the outputs that is rounding
TOLERANCE = 1e-7
#: the same for dead tensors: a small gain can make a live tensor look dead
DEAD_TOLERANCE = 1e-10
#: models with more parameters than this have their claims checked all at once, in random combinations
EACH_BELOW = 2_000_000


@dataclass(frozen=True)
class RescalingClaim:
    """Multiplying tensor i by c^exponents[i] (its slices along a dimension only, for a part) changes no output.

    terms: of a claim about slices, (tensor, dimension or None for all of it, ranges, exponent).
    """

    name: str
    exponents: dict[int, int]
    part: tuple[int, tuple[tuple[int, int], ...]] | None = None  # (dimension, ranges)
    terms: tuple[tuple[int, int | None, tuple[tuple[int, int], ...], int], ...] = ()

    def pieces(self, tensors: Sequence[Tensor] | Mapping[int, Tensor]) -> list[tuple[int, Tensor, int]]:
        """List (tensor, view of it, exponent) of everything that is scaled."""
        dim, spans = self.part or (None, ())
        terms = self.terms or [(i, dim, spans, e) for i, e in self.exponents.items()]
        return [
            (i, view, e)
            for i, d, ranges, e in terms
            for view in ([tensors[i]] if d is None else [tensors[i].narrow(d, a, b - a) for a, b in ranges])
        ]


@dataclass(frozen=True)
class Residuals:
    """What was left when a claim was put to the test; relative, 0 is perfect."""

    output: float  # largest change of an output under factors 0.5 and 2, over the largest output
    dot: float  # |sum_i e_i <g_i, w_i>| / sqrt(sum |g_i|^2 sum |w_i|^2)
    law: float  # |c g(c w) - g(w)| / |g(w)|

    @property
    def good(self) -> bool:
        return all(value <= TOLERANCE for value in (self.output, self.dot, self.law))  # False for NaN

    def to_dict(self) -> dict[str, float | None]:
        """Plain numbers; None where one is not finite."""
        return {key: value if math.isfinite(value) else None for key, value in asdict(self).items()}


@dataclass
class Tested:
    """The outcome of all tests."""

    residuals: dict[str, Residuals] = field(default_factory=dict)
    dead_change: float = 0.0  # largest change of the outputs when dead tensors are moved
    row_change: float = 0.0  # the same when every row of the tensors of ``row`` takes a factor of its own
    mask: Tensor = field(default_factory=lambda: torch.zeros(0))
    reason: str = ""  # what failed

    def worst(self, other: "Tested") -> "Tested":
        """Join with what was found at another place: the larger of each number."""
        joined = {
            name: Residuals(*(max(a, b) if a == a and b == b else math.nan for a, b in zip(astuple(r), astuple(s))))
            for (name, r), s in zip(self.residuals.items(), other.residuals.values())
        }
        dead, row = max(self.dead_change, other.dead_change), max(self.row_change, other.row_change)
        return Tested(joined, dead, row, self.mask, self.reason or other.reason)


def put_to_test(
    probe: Probe,
    claims: Sequence[RescalingClaim],
    dead: Sequence[int],
    rows: Mapping[int, int],
    mask: Tensor,
    generator: torch.Generator,
    *,
    explain: bool = True,
    gradients: bool = True,
) -> Tested:
    """Test everything at the probe's present weights; ``explain``: find out which claims fail, if some do.

    gradients: test <g, w> = 0 and g(c w) = g/c as well, not the outputs alone.
    """
    tested = Tested(mask=mask)
    tested.residuals = verify(probe, claims, mask, generator, explain=explain, gradients=gradients)
    tested.dead_change = verify_moves(probe, dict.fromkeys(dead), mask, generator)
    tested.row_change = verify_moves(probe, dict(rows), mask, generator)
    bad = [name for name, r in tested.residuals.items() if not r.good]
    if bad:
        worst = tested.residuals[bad[0]]
        tested.reason = (
            f"{len(bad)} of {len(claims)} claims fail the test by scaling, first {bad[0]}: outputs change by "
            f"{worst.output:.1e}, <g, w> is {worst.dot:.1e}, g(cw) = g/c is off by {worst.law:.1e}"
        )
    elif not tested.dead_change <= DEAD_TOLERANCE:
        tested.reason = f"moving the dead tensors changes the outputs by {tested.dead_change:.1e}"
    elif not tested.row_change <= TOLERANCE:
        tested.reason = f"scaling rows one by one changes the outputs by {tested.row_change:.1e}"
    return tested


@contextlib.contextmanager
def applied(probe: Probe, claims: Sequence[RescalingClaim], factors: Sequence[float]) -> Iterator[None]:
    """Scale the weights by every claim with its factor while the context lasts."""
    exact = all(math.log2(c).is_integer() for c in factors)  # powers of two are taken back without rounding
    with probe.restored(() if exact else sorted({i for claim in claims for i in claim.exponents})):
        _multiply(probe, claims, factors)
        try:
            yield
        finally:
            if exact:
                _multiply(probe, claims, [1 / c for c in factors])


def _multiply(probe: Probe, claims: Sequence[RescalingClaim], factors: Sequence[float]) -> None:
    with torch.no_grad():
        _scale(probe.tensors, claims, factors)


def _scale(tensors: Sequence[Tensor], claims: Sequence[RescalingClaim], factors: Sequence[float]) -> None:
    for claim, c in zip(claims, factors):
        for _, view, e in claim.pieces(tensors):
            view.mul_(c**e)


def verify(
    probe: Probe,
    claims: Sequence[RescalingClaim],
    mask: Tensor,
    generator: torch.Generator,
    *,
    explain: bool = True,
    gradients: bool = True,
) -> dict[str, Residuals]:
    """Compute the residuals of every claim at the probe's present weights, by factors 0.5 and 2.

    Small models: one claim at a time. Larger ones: all claims at once, each with 0.5 or 2 at random and then the other
    way round; the residual of the combination stands for each, and where it is not rounding every claim is tried alone.
    """
    if not claims:
        return {}
    usable = mask > 0
    base = probe.value()
    scale = float(base[usable].abs().max()) if bool(usable.any()) else 1.0
    u = cotangent(mask, generator)
    slopes = _gradients(probe, u) if gradients else []
    dots = {claim.name: _dot(probe, claim, slopes) if gradients else 0.0 for claim in claims}
    samples = [_sample(g) for g in slopes]
    del slopes

    def change(chosen: Sequence[RescalingClaim], factors: Sequence[float]) -> float:
        with applied(probe, chosen, factors):
            moved = probe.value()
        return _largest((moved - base)[usable]) / max(scale, 1e-300)

    def law(chosen: Sequence[RescalingClaim], factors: Sequence[float]) -> dict[str, float]:
        with applied(probe, chosen, factors):
            after = _gradients(probe, u)
        _scale(after, chosen, factors)
        errors = {i: _relative(_sample(after[i]), samples[i]) for claim in chosen for i in claim.exponents}
        return {claim.name: max(errors[i] for i in claim.exponents) for claim in chosen}

    signs = (torch.randint(0, 2, (len(claims),), generator=generator) * 2 - 1).tolist()
    designs = [[2.0**s for s in signs], [2.0**-s for s in signs]]
    together = max(change(claims, f) for f in designs)
    laws = law(claims, designs[0]) if gradients else dict.fromkeys(dots, 0.0)
    each = sum(t.numel() for t in probe.tensors) <= EACH_BELOW or (explain and not together <= TOLERANCE)
    result = {}
    for claim in claims:
        alone = max(change([claim], [0.5]), change([claim], [2.0])) if each else together
        value = laws[claim.name]
        if explain and not value <= TOLERANCE:
            value = law([claim], [2.0])[claim.name]
        result[claim.name] = Residuals(alone, dots[claim.name], value)
    return result


def verify_slices(probe: Probe, slices: Sequence[tuple[int, int, tuple[tuple[int, int], ...]]], mask: Tensor) -> float:
    """Measure how far the outputs move, relative, when every entry of some slices (tensor, dimension, ranges) moves."""
    usable, base = mask > 0, probe.value()
    with probe.restored({i for i, _, _ in slices}), torch.no_grad():
        for i, dim, spans in slices:
            for a, b in spans:
                view = probe.tensors[i].narrow(dim, a, b - a)
                steps = torch.linspace(0.5, 1.5, view.numel(), dtype=torch.float64, device=view.device)
                view.mul_(steps.reshape(view.shape).to(view.dtype))
        moved = probe.value()
    return _largest((moved - base)[usable]) / max(_largest(base[usable]), 1e-300)


def verify_moves(probe: Probe, tensors: Mapping[int, int | None], mask: Tensor, generator: torch.Generator) -> float:
    """Measure the largest relative change of the outputs when every slice along a dimension, or every entry (None),
    takes a factor between 0.5 and 1.5 of its own."""
    if not tensors:
        return 0.0
    usable = mask > 0
    base = probe.value()
    with probe.restored(tensors), torch.no_grad():
        for i, dim in tensors.items():
            p = probe.tensors[i]
            shape = list(p.shape) if dim is None else [n if d == dim else 1 for d, n in enumerate(p.shape)]
            p.mul_((0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)).to(p))
        moved = probe.value()
    return _largest((moved - base)[usable]) / max(_largest(base[usable]), 1e-300)


def eps_law(probe: Probe, claim: RescalingClaim, mask: Tensor, start: float = 1.0) -> list[float]:
    """Measure how the outputs change from c to 2c for c = 1, 1e2, 1e4 times ``start``.

    It falls as c^-2 if an eps inside a root alone is in the way, as c^-1 if the eps stands outside of the root.
    """
    usable = mask > 0
    changes = []
    for c in (start, 1e2 * start, 1e4 * start):
        with applied(probe, [claim], [c]):
            first = probe.value()[usable]
        with applied(probe, [claim], [2 * c]):
            second = probe.value()[usable]
        changes.append(_largest(first - second) / max(_largest(first), 1e-300))
    return changes


def holds_up_to_eps(changes: Sequence[float], *, outside: bool = False) -> bool:
    """Tell whether the changes of :func:`eps_law` are zero, or fall as c^-2, until rounding.

    outside: an eps stands outside of a root, so that c^-1 will do.
    """
    first, second, third = changes
    rounding, power = 1e-2 * TOLERANCE, 3e-2 if outside else 1e-3
    falls = second <= max(power * first, rounding) and third <= max(power * second, rounding)
    return falls and third <= 1e-4 and all(map(math.isfinite, changes))


def _gradients(probe: Probe, u: Tensor) -> list[Tensor]:
    with probe.differentiable():
        rows = full_row(probe, probe.outputs(), u, list(range(len(probe.tensors))), keep=False)
    return [
        torch.zeros_like(p) if g is None else g.to_dense() if g.layout is not torch.strided else g
        for p, g in zip(probe.tensors, rows)
    ]


def _dot(probe: Probe, claim: RescalingClaim, gradients: list[Tensor]) -> float:
    total = torch.zeros((), dtype=torch.float64)
    g2 = w2 = 0.0
    slopes = {i: view_real(gradients[i]) for i in claim.exponents}
    weights = {i: view_real(probe.tensors[i].detach()) for i in claim.exponents}
    both = [claim.pieces(values) for values in (slopes, weights)]
    for (_, g, e), (_, w, _) in zip(*both):
        total += e * float((g * w).sum())
        g2, w2 = g2 + float(g.square().sum()), w2 + float(w.square().sum())
    return abs(float(total)) / max(math.sqrt(g2 * w2), 1e-300)


def _largest(t: Tensor) -> float:
    return float(t.abs().max()) if t.numel() else 0.0


def _sample(t: Tensor) -> Tensor:
    """Take at most 65536 entries, evenly spread: enough to see a wrong factor, without a copy of all gradients."""
    flat = view_real(t).reshape(-1)
    return flat[:: max(1, len(flat) // 65536)].clone()


def _relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b)) / max(float(torch.linalg.vector_norm(b)), 1e-300)
