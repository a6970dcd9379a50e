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
from scaleinv.symmetry.jacobian import cotangent, each_gradient, factor_dots, inner
from scaleinv.symmetry.probe import Probe

#: largest relative change of the outputs that is rounding
TOLERANCE = 1e-7
#: the same for dead tensors: a small gain can make a live tensor look dead
DEAD_TOLERANCE = 1e-10
#: models with more parameters than this have their claims checked all at once, in random combinations
EACH_BELOW = 2_000_000
#: and models with more claims
FEW = 64


@dataclass(frozen=True)
class RescalingClaim:
    """Multiplying tensor i by c^exponents[i] (its slices along a dimension only, for a part) changes no output.

    terms: of a claim about slices, (tensor, dimension or None for all of it, ranges, exponent).
    """

    name: str
    exponents: dict[int, int]
    part: tuple[int, tuple[tuple[int, int], ...]] | None = None  # (dimension, ranges)
    terms: tuple[tuple[int, int | None, tuple[tuple[int, int], ...], int], ...] = ()
    flat: bool = False  # its gradient is zero everywhere: of a norm's argument the sign alone counts

    def pieces(self, tensors: Sequence[Tensor] | Mapping[int, Tensor]) -> list[tuple[int, Tensor, int]]:
        """List (tensor, view of it, exponent) of everything that is scaled."""
        return [(i, view, e) for i in self.exponents for view, e in self.views(i, tensors[i])]

    def views(self, i: int, t: Tensor) -> list[tuple[Tensor, int]]:
        """List (view of it, exponent) of what is scaled of ``t``, which is tensor ``i`` or its gradient."""
        dim, spans = self.part or (None, ())
        terms = self.terms or [(j, dim, spans, e) for j, e in self.exponents.items()]
        return [
            (view, e)
            for j, d, ranges, e in terms
            if j == i
            for view in ([t] if d is None else [t.narrow(d, a, b - a) for a, b in ranges])
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


@dataclass(frozen=True)
class Slopes:
    """What the gradients say of <u, outputs> at one place: <g, w> and |g| |w| of every tensor (T,).

    Of tensors whose gradient is too large to be held |g| |w| is 0.
    """

    u: Tensor
    dots: Tensor
    sizes: Tensor


@dataclass
class Tested:
    """The outcome of all tests."""

    residuals: dict[str, Residuals] = field(default_factory=dict)
    dead_change: float = 0.0  # largest change of the outputs when dead tensors are moved
    row_change: float = 0.0  # the same when every row of the tensors of ``row`` takes a factor of its own
    mask: Tensor = field(default_factory=lambda: torch.zeros(0, device="cpu"))
    reason: str = ""  # what failed
    slopes: Slopes | None = None  # at the place tested last
    base: Tensor | None = None  # the outputs there

    def worst(self, other: "Tested") -> "Tested":
        """Join with what was found at another place: the larger of each number."""
        joined = {
            name: Residuals(*(max(a, b) if a == a and b == b else math.nan for a, b in zip(astuple(r), astuple(s))))
            for (name, r), s in zip(self.residuals.items(), other.residuals.values())
        }
        dead, row = max(self.dead_change, other.dead_change), max(self.row_change, other.row_change)
        return Tested(joined, dead, row, self.mask, slopes=self.slopes, base=self.base).judged()

    def judged(self) -> "Tested":
        """Say what failed, if anything did."""
        bad = [name for name, r in self.residuals.items() if not r.good]
        self.reason = ""
        if bad:
            worst = self.residuals[bad[0]]
            self.reason = (
                f"{len(bad)} of {len(self.residuals)} claims fail the test by scaling, first {bad[0]}: outputs change "
                f"by {worst.output:.1e}, <g, w> is {worst.dot:.1e}, g(cw) = g/c is off by {worst.law:.1e}"
            )
        elif not self.dead_change <= DEAD_TOLERANCE:
            self.reason = f"moving the dead tensors changes the outputs by {self.dead_change:.1e}"
        elif not self.row_change <= TOLERANCE:
            self.reason = f"scaling rows one by one changes the outputs by {self.row_change:.1e}"
        return self


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
    spared: frozenset[int] = frozenset(),
) -> Tested:
    """Test everything at the probe's present weights; ``explain``: find out which claims fail, if some do.

    gradients: test <g, w> = 0 and g(c w) = g/c as well, not the outputs alone.  spared: tensors whose gradient is too
    large to be held: their <g, w> is taken from the activations, and they are left out of the second test.
    """
    base = probe.value()
    tested = Tested(mask=mask, base=base)
    tested.residuals, tested.slopes = verify(
        probe, claims, mask, generator, explain=explain, gradients=gradients, spared=spared, base=base
    )
    tested.dead_change = verify_moves(probe, dict.fromkeys(dead), mask, generator, base)
    tested.row_change = verify_moves(probe, dict(rows), mask, generator, base)
    return tested.judged()


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
    spared: frozenset[int] = frozenset(),
    base: Tensor | None = None,
) -> tuple[dict[str, Residuals], Slopes | None]:
    """Compute the residuals of every claim at the probe's present weights, by factors 0.5 and 2; and the slopes.

    base: the outputs there, if they are known.

    Small models: one claim at a time. Larger or deeper ones: all claims at once, each with 0.5 or 2 at random and then
    the other way round; the residual of the combination stands for each, and where it is not rounding every claim is
    tried alone.
    """
    held = [i for i in range(len(probe.tensors)) if i not in spared]
    if not claims:
        u = cotangent(mask, torch.Generator().manual_seed(29))
        return {}, _dots(probe, [], u, held)[2] if gradients else None
    usable = mask > 0
    base = probe.value() if base is None else base
    scale = float(base[usable].abs().max()) if bool(usable.any()) else 1.0
    u = cotangent(mask, generator)
    dots: dict[str, float] = {claim.name: 0.0 for claim in claims}
    samples: dict[int, Tensor] = {}
    slopes: Slopes | None = None
    if gradients:
        dots, samples, slopes = _dots(probe, claims, u, held)

    def change(chosen: Sequence[RescalingClaim], factors: Sequence[float]) -> float:
        with applied(probe, chosen, factors):
            moved = probe.value()
        return _largest((moved - base)[usable]) / max(scale, 1e-300)

    def law(chosen: Sequence[RescalingClaim], factors: Sequence[float]) -> dict[str, float]:
        errors: dict[int, float] = {}

        def take(i: int, g: Tensor) -> None:
            if i in samples:
                for claim, c in zip(chosen, factors):
                    for view, e in claim.views(i, g) if i in claim.exponents else ():
                        view.mul_(c**e)
                errors[i] = _relative(_sample(g), samples[i])

        with applied(probe, chosen, factors), probe.differentiable(held):
            each_gradient(probe, probe.outputs(), u, take, held)
        moving = (claim for claim in chosen if not claim.flat)
        # a gradient that was there and is gone is as wrong as can be
        found = {claim.name: [errors.get(i, 1.0) for i in claim.exponents if i in samples] for claim in moving}
        return {claim.name: max(found.get(claim.name, []), default=0.0) for claim in chosen}

    signs = (torch.randint(0, 2, (len(claims),), generator=generator, device="cpu") * 2 - 1).tolist()
    designs = [[2.0**s for s in signs], [2.0**-s for s in signs]]
    together = max(change(claims, f) for f in designs)
    laws = law(claims, designs[0]) if gradients else dict.fromkeys(dots, 0.0)
    few = sum(t.numel() for t in probe.tensors) <= EACH_BELOW and len(claims) <= FEW
    each = few or (explain and not together <= TOLERANCE)
    result = {}
    for claim in claims:
        alone = max(change([claim], [0.5]), change([claim], [2.0])) if each else together
        value = laws[claim.name]
        if explain and not value <= TOLERANCE:
            value = law([claim], [2.0])[claim.name]
        result[claim.name] = Residuals(alone, dots[claim.name], value)
    return result, slopes


def verify_slices(
    probe: Probe,
    slices: Sequence[tuple[int, int, tuple[tuple[int, int], ...]]],
    mask: Tensor,
    base: Tensor | None = None,
) -> float:
    """Measure how far the outputs move, relative, when every entry of some slices (tensor, dimension, ranges) moves."""
    usable, base = mask > 0, probe.value() if base is None else base
    with probe.restored({i for i, _, _ in slices}), torch.no_grad():
        for i, dim, spans in slices:
            for a, b in spans:
                view = probe.tensors[i].narrow(dim, a, b - a)
                steps = torch.linspace(0.5, 1.5, view.numel(), dtype=torch.float64, device=view.device)
                view.mul_(steps.reshape(view.shape).to(view.dtype))
        moved = probe.value()
    return _largest((moved - base)[usable]) / max(_largest(base[usable]), 1e-300)


def verify_moves(
    probe: Probe,
    tensors: Mapping[int, int | None],
    mask: Tensor,
    generator: torch.Generator,
    base: Tensor | None = None,
) -> float:
    """Measure the largest relative change of the outputs when every slice along a dimension, or every entry (None),
    takes a factor between 0.5 and 1.5 of its own.  base: the outputs at the present weights, if they are known."""
    if not tensors:
        return 0.0
    usable = mask > 0
    base = probe.value() if base is None else base
    with probe.restored(tensors), torch.no_grad():
        for i, dim in tensors.items():
            p = probe.tensors[i]
            shape = list(p.shape) if dim is None else [n if d == dim else 1 for d, n in enumerate(p.shape)]
            p.mul_((0.5 + torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")).to(p))
        moved = probe.value()
    return _largest((moved - base)[usable]) / max(_largest(base[usable]), 1e-300)


def eps_law(
    probe: Probe, claims: Sequence[RescalingClaim], mask: Tensor, start: float = 1.0, *, down: bool = False
) -> list[float]:
    """Measure how the outputs change from c to 2c for c = 1, 2^7, 2^14 times ``start``, a power of two.

    Of several claims every second one goes from c to 4c instead, so that what one does wrong another does not undo.

    It falls as c^-2 if an eps inside a root alone is in the way, as c^-1 if the eps stands outside of the root.
    ``down``: with 1/c in place of c, which lets what has a negative exponent grow.
    """
    usable = mask > 0
    changes = []
    for c in (start, 2.0**7 * start, 2.0**14 * start):
        before = [1 / c if down else c] * len(claims)
        after = [b * (0.5 if down else 2.0) ** (1 + k % 2) for k, b in enumerate(before)]
        with applied(probe, claims, before):
            first = probe.value()[usable]
        with applied(probe, claims, after):
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


def _dots(
    probe: Probe, claims: Sequence[RescalingClaim], u: Tensor, held: Sequence[int]
) -> tuple[dict[str, float], dict[int, Tensor], Slopes]:
    """Compute |sum e <g, w>| / (|g| |w|) of every claim, samples of the gradients, and the slopes of each tensor.

    No gradient is kept whole.

    Of tensors that are not ``held`` <g, w> comes from the activations, and |g| |w| counts as |u| |outputs|.
    """
    total, g2, w2 = ({claim.name: 0.0 for claim in claims} for _ in range(3))
    samples: dict[int, Tensor] = {}
    slopes = Slopes(u, *(torch.zeros(len(probe.tensors), dtype=torch.float64, device="cpu") for _ in range(2)))
    by_tensor: dict[int, list[RescalingClaim]] = {}
    for claim in claims:
        for i in claim.exponents:
            by_tensor.setdefault(i, []).append(claim)

    def take(i: int, g: Tensor) -> None:
        samples[i] = _sample(g)
        slope, weight = view_real(g), view_real(probe.tensors[i].detach())
        dot, g_norm, w_norm = inner(slope, weight), float(slope.norm()), float(weight.norm())
        slopes.dots[i], slopes.sizes[i] = dot, g_norm * w_norm
        for claim in by_tensor.get(i, ()):
            if claim.part is None and not claim.terms:
                total[claim.name] += claim.exponents[i] * dot
                g2[claim.name], w2[claim.name] = g2[claim.name] + g_norm**2, w2[claim.name] + w_norm**2
                continue
            for (gs, e), (ws, _) in zip(claim.views(i, slope), claim.views(i, weight)):
                total[claim.name] += e * inner(gs, ws)
                g2[claim.name] += float(torch.linalg.vector_norm(gs)) ** 2
                w2[claim.name] += float(torch.linalg.vector_norm(ws)) ** 2

    with probe.differentiable(held):
        each_gradient(probe, probe.outputs(), u, take, held)
    if len(held) < len(probe.tensors):
        size = float(torch.linalg.vector_norm(u)) * float(torch.linalg.vector_norm(probe.value()))
        by_factors = factor_dots(probe, u).tolist()
        for i in sorted(set(range(len(probe.tensors))).difference(held)):
            slopes.dots[i] = value = by_factors[i]
            for claim in by_tensor.get(i, ()):
                if claim.part is None and not claim.terms:
                    total[claim.name] += claim.exponents[i] * value
                    g2[claim.name], w2[claim.name] = g2[claim.name] + size, w2[claim.name] + size
    flat = {claim.name for claim in claims if claim.flat}
    cosines = {
        name: 0.0 if name in flat else abs(total[name]) / max(math.sqrt(g2[name] * w2[name]), 1e-300) for name in total
    }
    return cosines, samples, slopes


def _largest(t: Tensor) -> float:
    return float(t.abs().max()) if t.numel() else 0.0


def _sample(t: Tensor) -> Tensor:
    """Take at most 65536 entries, evenly spread: enough to see a wrong factor, without a copy of all gradients."""
    flat = view_real(t).reshape(-1)
    return flat[:: max(1, len(flat) // 65536)].clone()


def _relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b)) / max(float(torch.linalg.vector_norm(b)), 1e-300)
