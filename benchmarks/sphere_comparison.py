"""Hold Sphere against the published forms of training with fixed norms, on one small GPT, and write the table.

    python benchmarks/sphere_comparison.py                                  # print it
    python benchmarks/sphere_comparison.py --write docs/results/sphere.md   # write the page, with the costs of a step

Every pair starts from the same weights and sees the same batches, in float64: "same" means equal up to rounding. The
text is that of Python's own documentation (``pydoc_data.topics``), so that nothing is downloaded. geoopt is compared
where it is installed (``pip install geoopt``).
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import pydoc_data.topics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv import Sphere

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks")]

import gpt  # noqa: E402

import sphere as cost  # noqa: E402

STEPS, BATCH = 40, 4
OTHER_LR = 1e-3
#: two weights are the same if they differ by no more than rounding makes of it in so many steps
SAME = 1e-12
Step = Callable[[], None]


def text() -> Tensor:
    whole = "\n".join(pydoc_data.topics.topics.values()).encode("ascii", "ignore")[:200_000]
    return torch.tensor(list(whole), dtype=torch.int64)


def new_model(normalise: Callable[[nn.Module], None] | None = None) -> gpt.GPT:
    torch.manual_seed(0)
    model = gpt.GPT(qk_norm=True).double()
    if normalise is not None:
        normalise(model)
    return model


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """All matrices of the blocks."""
    return {n: p for n, p in model.named_parameters() if n.startswith("blocks.")}


def free(model: nn.Module) -> dict[str, nn.Parameter]:
    """Those that are scale-invariant: queries and keys in front of a norm."""
    return {n: p for n, p in matrices(model).items() if n.split(".")[2] in ("q", "k")}


def others(model: nn.Module, wrapped: dict[str, nn.Parameter]) -> list[nn.Parameter]:
    held = {id(p) for p in wrapped.values()}
    return [p for p in model.parameters() if id(p) not in held]


def along(name: str) -> int:
    """The dimension of a matrix that is not of the model's width: it counts nGPT's vectors."""
    return 1 if name.split(".")[2] in ("out", "down") else 0


def train(model: nn.Module, step: Step, before: Step | None = None) -> float:
    """Train on the common batches; the loss of the last ten steps."""
    data = text()
    torch.manual_seed(1)
    losses = []
    for _ in range(STEPS):
        x, y = gpt.batch(data, BATCH)
        if before is not None:
            before()
        model.zero_grad()
        loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        step()
        losses.append(float(loss.detach()))
    return sum(losses[-10:]) / 10


@dataclass
class Row:
    """One line of the table."""

    theirs: str
    ours: str
    distance: float
    losses: tuple[float, float]
    why: str

    def line(self) -> str:
        verdict = "same" if self.distance < SAME else f"{self.distance:.1e}"
        return (
            f"| {self.theirs} | `{self.ours}` | {verdict} | {self.losses[0]:.4f} | {self.losses[1]:.4f} | {self.why} |"
        )


def distance(a: nn.Module, b: nn.Module) -> float:
    x, y = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (a, b))
    return float((x - y).norm() / x.norm())


def compare(
    theirs: str,
    ours: str,
    their_way: Callable[[gpt.GPT], tuple[Step, Step | None]],
    our_way: Callable[[gpt.GPT], Step],
    why: str,
    prepare: Callable[[nn.Module], None] | None = None,
) -> Row:
    one, two = new_model(prepare), new_model(prepare)
    step, before = their_way(one)
    first = train(one, step, before)
    if before is not None:
        before()  # forms that project at the start of a step have not done so after the last
    second = train(two, our_way(two))
    return Row(theirs, ours, distance(one, two), (first, second), why)


# -- one's own lines ---------------------------------------------------------------------------------------------------


def own_lines(momentum: float, elr: float) -> Callable[[gpt.GPT], tuple[Step, None]]:
    def way(model: gpt.GPT) -> tuple[Step, None]:
        wrapped = free(model)
        radii = [p.detach().norm() for p in wrapped.values()]
        plans = [{"params": [p], "lr": float(elr * r**2)} for p, r in zip(wrapped.values(), radii)]
        plans.append({"params": others(model, wrapped), "lr": OTHER_LR})
        optimizer = torch.optim.SGD(plans, lr=OTHER_LR, momentum=momentum)

        def step() -> None:
            optimizer.step()
            with torch.no_grad():
                for p, r in zip(wrapped.values(), radii):
                    p.mul_(r / p.norm())

        return step, None

    return way


def sphere_sgd(momentum: float, elr: float, **options: Any) -> Callable[[gpt.GPT], Step]:
    def way(model: gpt.GPT) -> Step:
        optimizer = torch.optim.SGD(model.parameters(), lr=OTHER_LR, momentum=momentum)
        return Sphere(optimizer, {n: [p] for n, p in free(model).items()}, elr, granularity="tensor", **options).step

    return way


def geoopt_lines(momentum: float, elr: float, *, from_zero: bool = False) -> Callable[[gpt.GPT], tuple[Step, None]]:
    import geoopt

    def way(model: gpt.GPT) -> tuple[Step, None]:
        wrapped = free(model)
        radii = [p.detach().norm() for p in wrapped.values()]
        units = [
            geoopt.ManifoldParameter((p.detach() / r).flatten(), manifold=geoopt.Sphere())
            for p, r in zip(wrapped.values(), radii)
        ]
        riemannian = geoopt.optim.RiemannianSGD(units, lr=elr, momentum=momentum)
        if from_zero:
            riemannian.state.update({u: {"momentum_buffer": torch.zeros_like(u)} for u in units})
        plain = torch.optim.SGD(others(model, wrapped), lr=OTHER_LR, momentum=momentum)

        def step() -> None:
            for p, u, r in zip(wrapped.values(), units, radii):
                assert p.grad is not None
                u.grad = r * p.grad.flatten()
            riemannian.step()
            plain.step()
            with torch.no_grad():
                for p, u, r in zip(wrapped.values(), units, radii):
                    p.copy_(r * u.view_as(p))

        return step, None

    return way


# -- nGPT (Loshchilov et al. 2024): every vector of every matrix on the unit sphere, Adam ------------------------------


def unit_vectors(model: nn.Module) -> None:
    with torch.no_grad():
        for name, p in matrices(model).items():
            p.div_(p.norm(dim=1 - along(name), keepdim=True))


def ngpt(model: gpt.GPT) -> tuple[Step, None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=OTHER_LR)

    def step() -> None:
        optimizer.step()
        unit_vectors(model)

    return step, None


def sphere_ngpt(model: gpt.GPT) -> Step:
    wrapped = matrices(model)
    kinds = {n: "column" if along(n) else "row" for n in wrapped}
    optimizer = torch.optim.Adam(model.parameters(), lr=OTHER_LR)
    return Sphere(optimizer, {n: [p] for n, p in wrapped.items()}, OTHER_LR, granularity=kinds, radius=1.0).step


# -- EDM2 (Karras et al. 2024): rows forced to the norm sqrt(fan-in) before every step, gradients through the norm -----


class Normalised(nn.Module):
    """The weight of EDM2's layers: rows of norm 1 out of rows of any norm."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, w: Tensor) -> Tensor:
        return w / (self.eps * math.sqrt(w.shape[1]) + w.norm(dim=1, keepdim=True))


def edm2_layers(eps: float) -> Callable[[nn.Module], None]:
    def prepare(model: nn.Module) -> None:
        for block in model.blocks:
            for layer in block.children():
                nn.utils.parametrize.register_parametrization(layer, "weight", Normalised(eps))
                force(layer.parametrizations.weight.original)

    return prepare


def force(w: Tensor, eps: float = 0.0) -> None:
    with torch.no_grad():
        w.div_(eps + w.norm(dim=1, keepdim=True) / math.sqrt(w.shape[1]))


def edm2(eps: float) -> Callable[[gpt.GPT], tuple[Step, Step]]:
    def way(model: gpt.GPT) -> tuple[Step, Step]:
        optimizer = torch.optim.Adam(model.parameters(), lr=OTHER_LR)

        def before() -> None:
            for p in matrices(model).values():
                force(p, eps)

        return lambda: optimizer.step(), before

    return way


def sphere_edm2(model: gpt.GPT) -> Step:
    wrapped = matrices(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=OTHER_LR)
    # one ELR for all spheres: EDM2 has one lr, so matrices of another fan-in have another ELR
    sphere = Sphere(optimizer, {n: [p] for n, p in wrapped.items()}, OTHER_LR, granularity="row")
    for group, unit in zip(sphere.param_groups, sphere._unit_of_group):
        if unit is not None:
            group["lr"] = OTHER_LR / sphere.units[unit].radius
    return sphere.step


# -- hyperball (AdamH) -------------------------------------------------------------------------------------------------


def hyperball(model: gpt.GPT) -> tuple[Step, None]:
    wrapped = matrices(model)
    radii = {n: p.detach().norm() for n, p in wrapped.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=OTHER_LR)

    def step() -> None:
        kept = {n: p.detach().clone() for n, p in wrapped.items()}
        optimizer.step()
        with torch.no_grad():
            for n, p in wrapped.items():
                update = (kept[n] - p) / OTHER_LR
                x = kept[n] - 1e-2 * radii[n] * update / update.norm()
                p.copy_(x * radii[n] / x.norm())

    return step, None


def sphere_hyperball(how: Any) -> Callable[[gpt.GPT], Step]:
    def way(model: gpt.GPT) -> Step:
        optimizer = torch.optim.Adam(model.parameters(), lr=OTHER_LR)
        groups = {n: [p] for n, p in matrices(model).items()}
        return Sphere(optimizer, groups, 1e-2, granularity="tensor", normalise_update=how).step

    return way


# -- row-wise oblique SGD: the gradient of every row is made tangent first ---------------------------------------------


def oblique(elr: float, project: bool) -> Callable[[gpt.GPT], tuple[Step, None]]:
    def way(model: gpt.GPT) -> tuple[Step, None]:
        wrapped = free(model)
        optimizer = torch.optim.SGD(
            [{"params": list(wrapped.values()), "lr": elr}, {"params": others(model, wrapped)}], lr=OTHER_LR
        )

        def step() -> None:
            with torch.no_grad():
                for p in wrapped.values():
                    assert p.grad is not None
                    if project:
                        p.grad -= (p.grad * p).sum(1, keepdim=True) * p
            optimizer.step()
            with torch.no_grad():
                for p in wrapped.values():
                    p.div_(p.norm(dim=1, keepdim=True))

        return step, None

    return way


def unit_rows(model: nn.Module) -> None:
    with torch.no_grad():
        for p in free(model).values():
            p.div_(p.norm(dim=1, keepdim=True))


def sphere_rows(elr: float) -> Callable[[gpt.GPT], Step]:
    def way(model: gpt.GPT) -> Step:
        optimizer = torch.optim.SGD(model.parameters(), lr=OTHER_LR)
        groups = {n: [p] for n, p in free(model).items()}
        return Sphere(optimizer, groups, elr, granularity="row", radius=1.0).step

    return way


def rows() -> list[Row]:
    elr = 3e-3
    found = [
        compare("15 lines of one's own, SGD", "granularity='tensor'", own_lines(0.0, elr), sphere_sgd(0.0, elr), ""),
        compare(
            "15 lines of one's own, momentum 0.9",
            "granularity='tensor'",
            own_lines(0.9, elr),
            sphere_sgd(0.9, elr),
            "they leave the averaged gradient where it was; Sphere carries it to the new point",
        ),
        compare(
            "Sphere, `projection='exact'`, momentum 0.9",
            "projection='folded'",
            lambda m: (sphere_sgd(0.9, elr)(m), None),
            sphere_sgd(0.9, elr, projection="folded"),
            "the last bits",
        ),
    ]
    if importlib.util.find_spec("geoopt") is not None:
        why = "geoopt counts the first gradient 1.9 times"
        shorter = "geoopt projects the averaged gradient and lets it get shorter; Sphere keeps its length"
        found.append(
            compare("geoopt RiemannianSGD", "granularity='tensor'", geoopt_lines(0.0, elr), sphere_sgd(0.0, elr), "")
        )
        found.append(
            compare(
                "geoopt RiemannianSGD, momentum 0.9",
                "granularity='tensor'",
                geoopt_lines(0.9, elr),
                sphere_sgd(0.9, elr),
                why,
            )
        )
        found.append(
            compare(
                "geoopt, momentum 0.9, averages begun at zero",
                "granularity='tensor'",
                geoopt_lines(0.9, elr, from_zero=True),
                sphere_sgd(0.9, elr),
                shorter,
            )
        )
    found += [
        compare(
            "nGPT, Adam", "granularity={...: 'row' or 'column'}, radius=1", ngpt, sphere_ngpt, "", prepare=unit_vectors
        ),
        compare(
            "EDM2, Adam", "granularity='row', an ELR a matrix", edm2(0.0), sphere_edm2, "", prepare=edm2_layers(0.0)
        ),
        compare(
            "EDM2 with its eps = 1e-4",
            "granularity='row', an ELR a matrix",
            edm2(1e-4),
            sphere_edm2,
            "rows of norm sqrt(fan-in) up to that eps",
            prepare=edm2_layers(1e-4),
        ),
        compare("hyperball, Adam", "normalise_update='published'", hyperball, sphere_hyperball("published"), ""),
        compare(
            "hyperball, Adam",
            "normalise_update=True",
            hyperball,
            sphere_hyperball(True),
            "the angle is the ELR exactly: the radial part of the update is left out, and tan(angle) is not angle",
        ),
        compare(
            "rows divided by their norms, SGD",
            "granularity='row', radius=1",
            oblique(elr, False),
            sphere_rows(elr),
            "",
            prepare=unit_rows,
        ),
        compare(
            "row-wise oblique SGD",
            "granularity='row', radius=1",
            oblique(elr, True),
            sphere_rows(elr),
            "second order: rows are free only head by head, and oblique SGD takes the radial part off first",
            prepare=unit_rows,
        ),
    ]
    return found


def table() -> str:
    head = "| published form | Sphere | weights differ by | its loss | Sphere's loss | why |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(row.line() for row in rows())])


PAGE = """# Sphere beside other ways to fix norms

Written by `python benchmarks/sphere_comparison.py --write docs/results/sphere.md`.

## The same numbers where they mean the same

A GPT of {layers} layers and width {width} on the text of Python's documentation, float64, {steps} steps of {batch}
windows; every pair starts from the same weights and sees the same batches. "Same": the weights differ by less than
{same:.0e} of their norm at the end. Losses are means of the last ten steps.

{table}

## What a step costs

{cost}

Ratios to a step of torch's default SGD with the same momentum, over the convolutions of ResNet-18 (11.2 M weights), one
thread, medians of rounds that take turns (`python benchmarks/sphere.py`); every way finds its tensors out of the cache,
and gradients are tangent, as those of scale-invariant weights are. "By hand" checks nothing, measures norms in
float32 only roughly (torch's sum in order) and leaves momentum where it was. `literal` is the formula operation by
operation, `exact` the default, `folded` measures norms once in 16 steps. Checks for what is not finite are on. The
ratios move with what a machine's caches and memory do that day: with momentum `exact` was found between 1.75 and 2.5,
`folded` between 1.2 and 1.7, geoopt between 6.3 and 10.6. geoopt took 3.5 to 5.5 times as long as `exact`, 4.5 to 7.5
times as long as `folded`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--rounds", type=int, default=9, help="of the costs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.write is None:
        print(table())
        return
    costs = cost.table({momentum: cost.measure(momentum, options.rounds) for momentum in (0.0, 0.9)})
    numbers = {"layers": gpt.LAYERS, "width": gpt.WIDTH, "steps": STEPS, "batch": BATCH, "same": SAME}
    options.write.write_text(PAGE.format(table=table(), cost=costs, **numbers))


if __name__ == "__main__":
    main()
