"""What each of two gloo processes does in test_sphere_distributed.py: python distributed_worker.py RANK FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from tests.sphere import table
from torch import Tensor, nn

from scaleinv import Sphere, StateError

#: optimizer, granularity and how the weights are distributed
COMBINATIONS = [
    (optimizer, granularity, way)
    for way in ("ddp", "fsdp", "columns", "rows")
    for optimizer in ("momentum", "adam")
    for granularity in table.GRANULARITIES
    if way != "ddp" or granularity in ("total", "column", "block")
]


class Given(nn.Module):
    """A loss whose gradients are the given ones: the mean over processes of what each gives."""

    def __init__(self) -> None:
        super().__init__()
        for name, weight in table.start().items():
            self.register_parameter(name, weight)

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        return torch.stack([(getattr(self, name) * g).sum() for name, g in given.items()]).sum()


def weights_of(module: nn.Module) -> dict[str, nn.Parameter]:
    inner = getattr(module, "module", module)
    return {name: getattr(inner, name) for name in table.SHAPES}


def train(optimizer: str, granularity: str, way: str, mesh: Any, rank: int, **options: Any) -> dict[str, Tensor]:
    """Train, and give the whole weights."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    from torch.nn.parallel import DistributedDataParallel

    law, make = table.OPTIMIZERS[optimizer]
    chosen = table.GRANULARITIES[granularity][0]
    module: nn.Module = Given()
    dim = {"columns": 1, "rows": 0}.get(way)
    if way == "ddp":
        module = DistributedDataParallel(module)
    elif way == "fsdp":
        fully_shard(module, mesh=mesh)
    else:
        for name, weight in weights_of(module).items():
            whole = distribute_tensor(weight.detach(), mesh, [Shard(dim)])
            module.register_parameter(name, nn.Parameter(whole))
    weights = weights_of(module)
    sphere = Sphere(
        make(list(weights.values())), {n: [w] for n, w in weights.items()}, table.ELR[law], **chosen, **options
    )
    for step in range(table.STEPS):
        given = table.gradients(step)
        if dim is None:
            noise = table.gradients(50 + step)
            sign = 1 if rank == 0 else -1
            sphere.zero_grad()
            module({n: g + sign * noise[n] for n, g in given.items()}).backward()
        else:
            for name, weight in weights.items():
                weight.grad = distribute_tensor(given[name], mesh, [Shard(dim)])
        sphere.step()
    state = sphere.state_dict()  # and back, on every process its shards
    sphere.load_state_dict(state)
    return {n: (w.full_tensor() if isinstance(w, DTensor) else w).detach().clone() for n, w in weights.items()}


#: options beside a combination, whose path is that of one process with the same options
OPTIONS = {
    "hyperball, rows": ("adam", "row", {"normalise_update": True}),
    "hyperball": ("momentum", "total", {"normalise_update": True}),
    "learned, columns": ("adam", "column", {"learn_radius": 0.05}),
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


def main() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    found = {c: train(*c, mesh, rank) for c in COMBINATIONS}
    found |= {k: train(o, g, "fsdp", mesh, rank, **more) for k, (o, g, more) in OPTIONS.items()}
    torch.save({"weights": found, "failures": failures(mesh, rank)}, folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
