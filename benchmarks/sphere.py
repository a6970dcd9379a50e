"""What a step on the sphere costs, in steps of torch's default SGD over the same tensors.

    python benchmarks/sphere.py [--rounds 9]

The weights of ResNet-18's convolutions (11 M numbers), one thread. All ways take turns in one process; each ratio is
the median over rounds of the time of a step over that of the default SGD of the same momentum in its round. Gradients
are given; before every round, untimed, they are made tangent at the present weights, as those of a scale-invariant
network are. ``by hand`` is what people write: a step, then every tensor divided by its norm (with momentum the averaged
gradient is left as it is). geoopt: its RiemannianSGD on spheres, one a tensor, if it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from scaleinv import Sphere
from scaleinv.sphere.passes import products

BLOCKS = ((64, 64), (64, 128), (128, 256), (256, 512))
ELR = 1e-10  # turns a tensor by 1e-6 to 1e-3 of its radius a step, all together by 1e-3; ten times that with momentum


def shapes() -> list[tuple[int, ...]]:
    """The convolutions of ResNet-18."""
    found: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    for before, after in BLOCKS:
        found += [(after, before, 3, 3)] + 3 * [(after, after, 3, 3)]
        if before != after:
            found.append((after, before, 1, 1))
    return found


def weights() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(s, generator=draw)) for s in shapes()]
    for p in made:
        p.grad = torch.randn(p.shape, generator=draw)
        p.grad -= p.detach() * (p.grad * p.detach()).sum() / p.detach().square().sum()
    return made


def make_tangent(params: list[nn.Parameter]) -> None:
    for p in params:
        assert p.grad is not None
        size, crossed, _ = products([p.detach()], [p.grad], both=False)
        p.grad.add_(p.detach(), alpha=-crossed / size)


#: a step and the parameters it moves
Way = tuple[Callable[[], Any], list[nn.Parameter]]


def by_hand(momentum: float) -> Way:
    params = weights()
    optimizer = torch.optim.SGD(params, lr=1e-3, momentum=momentum)
    radii = [p.detach().norm() for p in params]

    def step() -> None:
        optimizer.step()
        with torch.no_grad():
            for p, radius in zip(params, radii):
                p.mul_(radius / p.norm())

    return step, params


def geoopt_step(momentum: float) -> Way | None:
    if importlib.util.find_spec("geoopt") is None:
        return None
    import geoopt

    sphere = geoopt.Sphere()
    params = []
    for p in weights():
        flat = geoopt.ManifoldParameter((p.detach() / p.detach().norm()).flatten(), manifold=sphere)
        assert p.grad is not None
        flat.grad = p.grad.flatten()
        params.append(flat)
    return geoopt.optim.RiemannianSGD(params, lr=1e-3, momentum=momentum).step, params


def plain(**options: Any) -> Way:
    params = weights()
    return torch.optim.SGD(params, lr=1e-6, **options).step, params


def ways(momentum: float) -> dict[str, Way]:
    """Every way to take a step, by name."""
    found = {"default SGD": plain(momentum=momentum), "fused SGD": plain(momentum=momentum, fused=True)}
    for granularity in ("total", "tensor", "row"):
        for projection in ("literal", "exact", "folded"):
            if projection == "folded" and granularity == "row":
                continue
            params = weights()
            optimizer = torch.optim.SGD(params, lr=1.0, momentum=momentum)
            options: dict[str, Any] = {"granularity": granularity, "projection": projection}
            found[f"{projection}, {granularity}"] = Sphere(optimizer, params, ELR, **options).step, params
    found["by hand, tensor"] = by_hand(momentum)
    geo = geoopt_step(momentum)
    if geo is not None:
        found["geoopt, tensor"] = geo
    return found


def measure(momentum: float, rounds: int) -> dict[str, float]:
    made = ways(momentum)
    times: dict[str, list[float]] = {name: [] for name in made}
    for k in range(rounds + 2):
        turns = list(made.items())[:: 1 if k % 2 else -1]
        for _, (_, params) in turns:  # in this order every way finds its tensors out of the cache
            make_tangent(params)
        for name, (step, _) in turns:
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    base = times["default SGD"]
    return {name: statistics.median(t / b for t, b in zip(values[2:], base[2:])) for name, values in times.items()}


def table(found: dict[float, dict[str, float]]) -> str:
    """The ratios as a table."""
    lines = ["| step | momentum 0 | momentum 0.9 |", "|---|---|---|"]
    lines += [f"| {name} | {found[0.0][name]:.2f} | {found[0.9][name]:.2f} |" for name in found[0.0]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found = {momentum: measure(momentum, rounds) for momentum in (0.0, 0.9)}
    print(f"ResNet-18, {sum(torch.Size(s).numel() for s in shapes()) / 1e6:.1f} M weights, one thread, checks on")
    print(table(found))


if __name__ == "__main__":
    main()
