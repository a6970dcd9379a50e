"""What each of two gloo processes does in test_sphere_distributed.py: python distributed_worker.py RANK FOLDER [CELLS].

CELLS: ``some`` or ``all`` of the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.sphere import table
from tests.sphere.table import Cell
from torch import Tensor, nn

from scaleinv import Sphere, StateError, UserError
from scaleinv.sphere import StepInBackward

#: how the weights are distributed; "in backward": FSDP2, stepped in the backward pass
WAYS = ("ddp", "fsdp", "columns", "rows", "in backward")


def cells(which: str) -> list[tuple[Cell, str]]:
    """The cells to train; of ``some`` every optimizer with every granularity meets one or two of the ways."""
    if which == "all":
        return [(cell, way) for way in WAYS for cell in table.ALL if way != "in backward" or cell[1] != "total"]
    turns = [(cell, WAYS[(i + k) % len(WAYS)]) for i, cell in enumerate(table.SOME) for k in (0, 2)]
    return [(cell, way) for cell, way in turns if way != "in backward" or cell[1] != "total"]


class Given(nn.Module):
    """A loss whose gradients are the given ones: the mean over processes of what each gives."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        for name, weight in table.start(dtype).items():
            self.register_parameter(name, weight)

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        return torch.stack([(getattr(self, name) * g).sum() for name, g in given.items()]).sum()


def weights_of(module: nn.Module) -> dict[str, nn.Parameter]:
    inner = getattr(module, "module", module)
    return {name: getattr(inner, name) for name in table.SHAPES}


def distributed(way: str, mesh: Any, dtype: torch.dtype) -> nn.Module:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.nn.parallel import DistributedDataParallel

    module: nn.Module = Given(dtype)
    if way == "ddp":
        return DistributedDataParallel(module)
    if way in ("columns", "rows"):
        for name, weight in weights_of(module).items():
            whole = distribute_tensor(weight.detach(), mesh, [Shard(1 if way == "columns" else 0)])
            module.register_parameter(name, nn.Parameter(whole))
        return module
    fully_shard(module, mesh=mesh)
    return module


def gradients_of(way: str, module: nn.Module, mesh: Any, rank: int) -> Callable[[int], None]:
    """What gives the weights the gradients of a step."""
    from torch.distributed.tensor import Shard, distribute_tensor

    weights = weights_of(module)
    dtype = next(iter(weights.values())).dtype
    sign = 0 if dtype == torch.bfloat16 else 1 if rank == 0 else -1  # the mean of bfloat16 would round the noise

    def give(step: int) -> None:
        given = table.gradients(step, dtype)
        if way in ("columns", "rows"):
            for name, weight in weights.items():
                weight.grad = distribute_tensor(given[name], mesh, [Shard(1 if way == "columns" else 0)])
        else:
            noise = table.gradients(50 + step, dtype)
            module({n: g + sign * noise[n] for n, g in given.items()}).backward()

    return give


def whole(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    from torch.distributed.tensor import DTensor

    return {n: (w.full_tensor() if isinstance(w, DTensor) else w).detach().clone() for n, w in weights.items()}


def train(cell: Cell, way: str, mesh: Any, rank: int, **options: Any) -> tuple[dict[str, Tensor], bool]:
    """Train, and give the whole weights as they lie on the spheres, and whether a state resumed at the same bits."""
    module = distributed(way, mesh, table.DTYPES[cell[2]][0])
    weights, give = weights_of(module), gradients_of(way, module, mesh, rank)
    if way == "in backward":
        law, make = table.OPTIMIZERS[cell[0]]
        more = {**table.GRANULARITIES[cell[1]][0], **table.DTYPES[cell[2]][1], **options}
        steps = StepInBackward({n: [w] for n, w in weights.items()}, make, table.ELR[law], **more)
        same = table.there_and_back(weights, give, steps.state_dict, steps.load_state_dict)
        assert [s.steps for s in steps.spheres] == 2 * [table.STEPS]
        assert all(w.grad is None for w in weights.values())
        found = {n: table.on_spheres(s, {n: weights[n]})[n] for n, s in zip(weights, steps.spheres)}
        return whole(found), same
    sphere = table.build(cell, weights, **options)

    def one(step: int) -> None:
        sphere.zero_grad()
        give(step)
        sphere.step()

    same = table.there_and_back(weights, one, sphere.state_dict, sphere.load_state_dict)
    return whole(table.on_spheres(sphere, weights)), same


#: options beside a cell, whose path is that of one process with the same options
OPTIONS: dict[str, tuple[Cell, dict[str, Any]]] = {
    "hyperball, rows": (("adam", "row", "f64"), {"normalise_update": True}),
    "hyperball": (("momentum", "total", "f64"), {"normalise_update": True}),
    "learned, columns": (("adam", "column", "f64"), {"learn_radius": 0.05}),
}


def failures(mesh: Any, rank: int) -> dict[str, str]:
    """A gradient that is not finite on one process stops all of them, before the step."""
    from torch.distributed.tensor import Shard, distribute_tensor

    found = {}
    for granularity in ("total", "row"):
        weights = {n: nn.Parameter(distribute_tensor(w.detach(), mesh, [Shard(0)])) for n, w in table.start().items()}
        sphere = Sphere(torch.optim.SGD(weights.values(), lr=1.0), {n: [w] for n, w in weights.items()}, 1e-3,
                        granularity=granularity)  # fmt: skip
        kept = {n: w.detach().to_local().clone() for n, w in weights.items()}
        for name, weight in weights.items():
            weight.grad = distribute_tensor(table.gradients(0)[name], mesh, [Shard(0)])
        if rank == 1:
            weights["v"].grad.to_local()[0, 0] = float("nan")  # type: ignore[union-attr]
        try:
            sphere.step()
        except StateError as error:
            same = all(torch.equal(w.detach().to_local(), kept[n]) for n, w in weights.items())
            found[granularity] = f"{'same' if same else 'moved'}: {error}"
    return found


def refused_in_backward() -> dict[str, str]:
    """Steps in the backward pass come before DDP has averaged the gradients."""
    told = {}
    for granularity in table.GRANULARITIES:
        module = distributed("ddp", None, torch.float64)
        weights = weights_of(module)
        try:
            StepInBackward(
                {n: [w] for n, w in weights.items()},
                table.OPTIMIZERS["momentum"][1],
                1e-3,
                **table.GRANULARITIES[granularity][0],
            )
        except UserError as error:
            told[granularity] = str(error)
    alone = nn.Parameter(torch.ones(4, 4))
    StepInBackward([alone], table.OPTIMIZERS["momentum"][1], 1e-3, own_gradients=True)
    (alone * torch.arange(16.0).view(4, 4)).sum().backward()
    told["own gradients"] = "stepped" if not torch.equal(alone, torch.ones(4, 4)) else "not stepped"
    return told


def main() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    found: dict[Any, Any] = {c: train(*c, mesh, rank) for c in cells(*sys.argv[3:4] or ["some"])}
    found |= {k: train(cell, "fsdp", mesh, rank, **more) for k, (cell, more) in OPTIONS.items()}
    torch.save(
        {"weights": found, "failures": failures(mesh, rank), "refused": refused_in_backward()},
        folder / f"rank{rank}.pt",
    )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
