"""What each of two gloo processes does in test_distributed.py: python distributed_worker.py RANK FOLDER."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from scaleinv import Monitor
from scaleinv.monitor.probe import agree

FREE = ["0.weight", "3.weight"]
STEPS = 4


def layer_norm_net() -> nn.Sequential:
    """Layer norm: no statistics over the batch, so that half batches averaged are the whole batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 15, bias=False), nn.LayerNorm(15), nn.ReLU(),
            nn.Linear(15, 16, bias=False), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3),
        )  # fmt: skip


def run(model: Any, monitor_of: nn.Module, rank: int, world: int, every: int | None = 1, parts: int = 1) -> Monitor:
    """Train on this process's part of every batch, in ``parts`` that accumulate, of which the last one is sent."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    monitor = Monitor(monitor_of, optimizer, groups=FREE, every=every, sinks=lambda row: None)
    draw = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        x, y = torch.randn(16, 6, generator=draw), torch.randint(3, (16,), generator=draw)
        optimizer.zero_grad()
        mine, targets = x[rank::world].chunk(parts), y[rank::world].chunk(parts)
        for k in range(parts):
            last = k == parts - 1
            if hasattr(model, "set_requires_gradient_sync"):  # fully_shard's
                model.set_requires_gradient_sync(last)
            with nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
                loss = functional.cross_entropy(model(mine[k]), targets[k])
                (loss / parts).backward()
            monitor.loss(loss)
        optimizer.step()
    return monitor


def main() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    mesh = init_device_mesh("cpu", (2,))
    for parts, how in ((1, ""), (2, " accumulated")):
        model = DistributedDataParallel(layer_norm_net())
        monitor = run(model, model, rank, 2, parts=parts)
        found["ddp" + how] = monitor.state_dict()
        found["ddp sinks"] = len(monitor._sinks)
        monitor.close()
        sharded = layer_norm_net()
        for part in (sharded[0], sharded[3]):
            fully_shard(part, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        found["fsdp" + how] = run(sharded, sharded, rank, 2, parts=parts).state_dict()
    chosen = run(sharded, sharded, rank, 2, every=None)
    chosen._interval.every = 3 + rank  # as if the costs differed
    found["agreed"] = agree(chosen.every, chosen._roster.tensors)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
