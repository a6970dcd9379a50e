"""What each of two gloo processes does in test_distributed.py: python distributed_worker.py RANK FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

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


def run(model: nn.Module, monitor_of: nn.Module, rank: int, world: int, every: int | None = 1) -> Monitor:
    """Train on this process's part of every batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    monitor = Monitor(monitor_of, optimizer, groups=FREE, every=every, sinks=lambda row: None)
    draw = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        x, y = torch.randn(16, 6, generator=draw), torch.randint(3, (16,), generator=draw)
        loss = functional.cross_entropy(model(x[rank::world]), y[rank::world])
        optimizer.zero_grad()
        loss.backward()
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
    found = {}
    model = DistributedDataParallel(layer_norm_net())
    monitor = run(model, model, rank, 2)
    found["ddp"] = monitor.state_dict()
    found["ddp sinks"] = len(monitor._sinks)
    monitor.close()
    sharded = layer_norm_net()
    mesh = init_device_mesh("cpu", (2,))
    for part in (sharded[0], sharded[3]):
        fully_shard(part, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    found["fsdp"] = run(sharded, sharded, rank, 2).state_dict()
    chosen = run(sharded, sharded, rank, 2, every=None)
    chosen._interval.every = 3 + rank  # as if the costs differed
    found["agreed"] = agree(chosen.every, chosen._roster.tensors)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
