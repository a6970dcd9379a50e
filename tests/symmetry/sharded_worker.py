"""What each of two gloo processes does in test_two_processes.py: python sharded_worker.py RANK FOLDER."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from scaleinv import UserError, find_symmetries, param_groups

#: how the model is wrapped or sharded
WAYS = (
    "ddp", "ddp, compiled", "compiled, ddp", "fsdp, flat", "fsdp, original", "fsdp, by layer", "fsdp, half precision",
    "fsdp, compiled", "fully_shard", "fully_shard by layer", "fully_shard, compiled", "fully_shard, half precision",
    "tensor parallel",
)  # fmt: skip
KEYS = ("single", "row", "joint", "rescaling", "dead", "fixed", "shapes")


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))


def inputs() -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def answer(model: nn.Module) -> dict[str, Any]:
    """The answer as plain data; a refusal as its text."""
    try:
        found = find_symmetries(model, inputs())
    except UserError as error:
        return {"refused": str(error)}
    told = {key: getattr(found, key) for key in KEYS} | {"verdict": found.verdict}
    plain_data: dict[str, Any] = json.loads(json.dumps(told))
    return plain_data


def wrapped(way: str, mesh: Any) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, MixedPrecisionPolicy, fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    from torch.nn.parallel import DistributedDataParallel

    net, half = plain(), torch.bfloat16
    kind, _, how = way.partition(", ")
    if kind in ("ddp", "compiled"):
        wrapped = DistributedDataParallel(torch.compile(net) if kind == "compiled" else net)  # type: ignore[arg-type]
        return torch.compile(wrapped) if how == "compiled" else wrapped  # type: ignore[return-value]
    if kind == "fsdp":
        options: dict[str, Any] = {"use_orig_params": how != "flat", "device_id": torch.device("cpu")}
        if how == "half precision":
            options["mixed_precision"] = MixedPrecision(param_dtype=half)
        if how == "by layer":
            net[0], net[3] = (FullyShardedDataParallel(net[k], **options) for k in (0, 3))
        sharded = FullyShardedDataParallel(net, **options)
        return torch.compile(sharded) if how == "compiled" else sharded  # type: ignore[return-value]
    if kind == "tensor parallel":
        return parallelize_module(net, mesh, {"0": ColwiseParallel(output_layouts=None), "3": RowwiseParallel()})
    if kind == "fully_shard by layer":
        for k in (0, 3):
            fully_shard(net[k], mesh=mesh)
    policy = MixedPrecisionPolicy(param_dtype=half) if how == "half precision" else MixedPrecisionPolicy()
    fully_shard(net, mesh=mesh, mp_policy=policy)
    return torch.compile(net) if how == "compiled" else net  # type: ignore[return-value]


def groups(model: nn.Module) -> Any:
    """The names of each group for an optimizer, and whether it holds the model's own parameters."""
    try:
        made = param_groups(model, inputs(), lr=0.1, weight_decay=0.01)
    except UserError as error:
        return str(error)
    held = {id(p) for p in model.parameters()}
    assert all(id(p) in held for group in made for p in group["params"])
    return [list(names) for names in made.tensors]


def local(model: nn.Module) -> list[torch.Tensor]:
    """What this process holds of the weights."""
    return [getattr(p, "_local_tensor", p).detach().clone() for p in model.parameters()]


def main(rank: int, folder: Path) -> None:
    """Ask about the model in every way, and see that it is afterwards what it was."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
    told: dict[str, Any] = {"plain": answer(plain()) | {"groups": groups(plain())}}
    for way in WAYS:
        model = wrapped(way, mesh)
        before = local(model)
        told[way] = answer(model)
        told[way]["groups"] = groups(model)
        told[way]["untouched"] = all(torch.equal(a, b) for a, b in zip(local(model), before, strict=True))
        if "compiled" not in way and way != "tensor parallel":
            told[way]["runs"] = bool(torch.isfinite(model(inputs())).all())
    (folder / f"rank{rank}.json").write_text(json.dumps(told))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
