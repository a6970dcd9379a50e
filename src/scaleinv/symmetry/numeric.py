"""Derivatives by differences of the outputs: where there is no gradient, and to see that a gradient is the function's.

A straight-through estimator, detached statistics, a part under ``no_grad`` or a forward that writes its own weights
gives the optimizer a gradient that is not that of the function; then the two disagree.
"""

import torch
from torch import Tensor

from scaleinv.symmetry.copies import view_real
from scaleinv.symmetry.jacobian import cotangent, each_gradient, inner
from scaleinv.symmetry.probe import Probe
from scaleinv.symmetry.verify import Slopes

#: step in the log-scales: of derivatives to 1e-11, and of a comparison, where few kinks may lie within the step
_STEP, _SMALL_STEP = 1e-4, 1e-7
#: directions that must disagree, and by how much of |g| |w|
_DIRECTIONS, _DISAGREE = 3, 1e-4


def difference_rows(probe: Probe, mask: Tensor, generator: torch.Generator, rows: int) -> tuple[Tensor, Tensor]:
    """Compute u^T J for random cotangents (K, T), and the sizes of the columns (T,), by differences of the outputs.

    Richardson's central differences of step h and h/2, off by h^4. The size of a column is how far the outputs move
    when every entry of the tensor takes a factor of its own: 0 for a dead tensor.
    """
    us = torch.stack([cotangent(mask, generator) for _ in range(rows)])
    usable = mask > 0
    base = probe.value()
    values = torch.zeros(rows, len(probe.tensors), dtype=torch.float64, device="cpu")
    sizes = torch.zeros(len(probe.tensors), dtype=torch.float64, device="cpu")
    for i, p in enumerate(probe.tensors):
        slopes = []
        for h in (_STEP, _STEP / 2):
            ends = []
            for sign in (1, -1):
                with probe.scaled({i: float(torch.tensor(sign * h, dtype=torch.float64, device="cpu").exp())}):
                    ends.append(torch.where(usable, probe.value(), 0.0).double())
            slopes.append((ends[0] - ends[1]) / (2 * h))
        values[:, i] = (us @ ((4 * slopes[1] - slopes[0]) / 3)).cpu()
        with probe.restored([i]), torch.no_grad():
            p.mul_((0.5 + torch.rand(p.shape, generator=generator, dtype=torch.float64, device="cpu")).to(p.device))
            moved = torch.where(usable, probe.value() - base, 0.0)
        sizes[i] = float((us @ moved.double()).square().mean().sqrt())
    return values, sizes


def _slopes(probe: Probe, u: Tensor, spared: frozenset[int]) -> Slopes:
    dots, sizes = (torch.zeros(len(probe.tensors), dtype=torch.float64, device="cpu") for _ in range(2))

    def take(i: int, g: Tensor) -> None:
        g, w = view_real(g), view_real(probe.tensors[i].detach())
        dots[i], sizes[i] = inner(g, w), float(g.norm() * w.norm())

    held = [i for i in range(len(dots)) if i not in spared]
    with probe.differentiable(held):
        each_gradient(probe, probe.outputs(), u, take, held)
    return Slopes(u, dots, sizes)


def disagreements(
    probe: Probe,
    mask: Tensor,
    generator: torch.Generator,
    skipped: set[int],
    *,
    spared: frozenset[int] = frozenset(),
    slopes: Slopes | None = None,
    base: Tensor | None = None,
) -> dict[int, str]:
    """Find the tensors whose gradient is not that of the function, and say what differs: tensor -> words.

    The slope of <u, outputs> along a random direction in all log-scales is compared with what the gradient says.
    ``skipped``: tensors that no gradient reaches, known already.  ``spared``: tensors too large for a gradient; they
    are left out, and the results of linear maps are scaled instead of the weights, of which no copy is then needed.
    ``slopes``, ``base``: what the gradients say at this place, and the outputs there, if they are known.
    """
    usable = mask > 0
    slopes = slopes or _slopes(probe, cotangent(mask, generator), spared)
    u, dots, sizes = slopes.u, slopes.dots, slopes.sizes
    chosen = [i for i in range(len(dots)) if i not in skipped and i not in spared]

    def slope(direction: dict[int, float]) -> float:
        ends = []
        for sign in (1, -1):
            factors = {
                i: float(torch.tensor(sign * _SMALL_STEP * s, dtype=torch.float64, device="cpu").exp())
                for i, s in direction.items()
            }
            if spared:
                every = [torch.tensor(factors.get(i, 1.0), dtype=torch.float64, device="cpu") for i in range(len(dots))]
                with torch.no_grad():
                    ends.append(probe.outputs(every)[usable])
                continue
            with probe.scaled(factors):
                ends.append(probe.value()[usable])
        return float((u[usable] * (ends[0] - ends[1]).double()).sum()) / (2 * _SMALL_STEP)

    allowed = _DISAGREE * float(torch.linalg.vector_norm(sizes)) + 1e-5 * float(
        torch.linalg.vector_norm(u[usable] * (probe.value() if base is None else base)[usable])
    )
    for _ in range(_DIRECTIONS):
        draw = torch.randn(len(dots), generator=generator, dtype=torch.float64, device="cpu")
        direction = {i: float(draw[i]) for i in chosen}
        if abs(slope(direction) - float((dots[chosen] * draw[chosen]).sum())) <= allowed:
            return {}
    words = {}
    for i in chosen:
        found = slope({i: 1.0})
        if abs(found - float(dots[i])) <= allowed / max(1.0, len(chosen) ** 0.5):
            continue
        scale = max(float(sizes[i]), 1e-300)
        if abs(float(dots[i])) <= 1e-7 * scale:
            words[i] = "the gradient is orthogonal to it, but the function changes with its scale"
        elif abs(found) <= 1e-4 * scale:
            words[i] = "the function does not change with its scale, but the gradient is not orthogonal to it"
        else:
            words[i] = "the gradient is not the slope of the function"
    return words
