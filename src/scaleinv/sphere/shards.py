"""Sum over the shards of a distributed tensor (DTensor: FSDP2, tensor parallelism); a plain tensor is its own shard."""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from scaleinv.errors import UserError

Groups = tuple[Any, ...]


def several_processes() -> bool:
    """Tell whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_sharded(t: Tensor) -> bool:
    """Tell whether the tensor is distributed."""
    return hasattr(t, "placements") and hasattr(t, "device_mesh")


def local(t: Tensor) -> Tensor:
    """Give the part of the tensor that this process holds; changes in place are changes of the tensor."""
    if not is_sharded(t):
        return t
    here: Tensor = t.to_local()  # type: ignore[attr-defined]
    return here.detach()


def gradient(t: Tensor) -> Tensor | None:
    """Give the part of the gradient that belongs to :func:`local`, None where there is none."""
    found = t.grad
    if found is None or not is_sharded(t):
        return found
    if found.placements != t.placements:  # type: ignore[attr-defined]
        found = found.redistribute(placements=t.placements)  # type: ignore[attr-defined]
    return local(found)


def _shards(t: Tensor) -> list[tuple[int, int]]:
    """List (dimension of the mesh, dimension of the tensor) of every sharding."""
    placements = t.placements if is_sharded(t) else ()  # type: ignore[attr-defined]
    return [(i, p.dim) for i, p in enumerate(placements) if p.is_shard()]


def refuse_layout(name: str, t: Tensor) -> None:
    """Raise :class:`~scaleinv.UserError` for a distribution whose sums are not known."""
    if not is_sharded(t):
        return
    dims = [dim for _, dim in _shards(t)]
    partial = any(p.is_partial() for p in t.placements)  # type: ignore[attr-defined]
    if partial or len(set(dims)) < len(dims):
        raise UserError(
            f"a tensor of group {name!r} is laid out as {t.placements}: "  # type: ignore[attr-defined]
            "shard every dimension over one dimension of the mesh at most, or wrap before sharding twice"
        )


def is_split(t: Tensor, axis: int) -> bool:
    """Tell whether the dimension is distributed."""
    return any(dim == axis for _, dim in _shards(t))


def offset(t: Tensor, axis: int) -> int:
    """Find the first index along ``axis`` that this process holds."""
    for mesh_dim, dim in _shards(t):
        if dim == axis:
            mesh = t.device_mesh  # type: ignore[attr-defined]
            chunk = -(-t.shape[axis] // mesh.size(mesh_dim))  # as torch.chunk
            return min(t.shape[axis], int(chunk * mesh.get_local_rank(mesh_dim)))
    return 0


def groups_to_sum(t: Tensor, apart: tuple[int, ...] = ()) -> Groups:
    """List the process groups over which a sum goes on; ``apart``: dimensions whose slices are not added up."""
    return tuple(t.device_mesh.get_group(i) for i, dim in _shards(t) if dim not in apart)  # type: ignore[attr-defined]


def all_sum(value: Tensor, groups: Groups) -> Tensor:
    """Add up a value over process groups."""
    for group in groups:
        value = value.contiguous()
        dist.all_reduce(value, group=group)
    return value
