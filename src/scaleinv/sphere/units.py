"""Find what lies on each sphere of a :class:`scaleinv.Sphere`, and refuse what could not be exact."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv import geometry
from scaleinv.errors import StateError, UserError
from scaleinv.sphere.traits import traits_of

GRANULARITIES = ("total", "group", "tensor", "row")
Groups = Mapping[str, Sequence[Tensor]] | Iterable[Tensor | Sequence[Tensor]]

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Unit:
    """What lies on one sphere together."""

    name: str
    names: tuple[str, ...]  # of the tensors, for messages
    parameters: tuple[Tensor, ...] = field(repr=False)
    radius: float  # of the whole unit; of one row for ``row``


def named_groups(groups: Groups) -> dict[str, tuple[Tensor, ...]]:
    """Name the groups, each a tuple of tensors; a tensor stands for a group of its own."""
    if isinstance(groups, Tensor):
        groups = [groups]
    pairs = groups.items() if isinstance(groups, Mapping) else ((f"group {i}", g) for i, g in enumerate(groups))
    named: dict[str, tuple[Tensor, ...]] = {}
    for name, group in pairs:
        members = tuple(group) if isinstance(group, Iterable) and not isinstance(group, (Tensor, str)) else (group,)
        for member in members:
            if not isinstance(member, Tensor):
                raise UserError(
                    f"group {name!r} holds {type(member).__name__} {member!r}, not a parameter; "
                    "find_symmetries(model, inputs).parameters(model) gives groups of parameters"
                )
        named[name] = members
    if not named or not all(named.values()):
        raise UserError("Sphere needs at least one group, and no empty one: pass the model's scale-invariant tensors")
    flat = [id(t) for tensors in named.values() for t in tensors]
    if len(set(flat)) != len(flat):
        raise UserError("a tensor stands in two groups; groups on a sphere must not overlap")
    return named


def refuse_inexact(optimizer: Optimizer, named: Mapping[str, Sequence[Tensor]], granularity: str) -> None:
    """Raise where the promise (the function stays, the norm returns, the rate is the ELR) could not be kept."""
    for name, tensors in named.items():
        for tensor in tensors:
            if tensor.dtype in _HALF:
                raise UserError(
                    f"group {name!r} is in {tensor.dtype}, which rounds steps and norms off at 1e-3; "
                    "keep the weights in float32 and compute under torch.autocast"
                )
            if not tensor.dtype.is_floating_point:
                raise UserError(f"group {name!r} is in {tensor.dtype}; real floating-point weights are needed")
        if granularity in ("tensor", "row") and len(tensors) > 1:
            raise UserError(
                f"granularity {granularity!r} is not exact for group {name!r}: its {len(tensors)} tensors have "
                "only one scale in common; use 'group' or 'total'"
            )
        if granularity == "row" and tensors[0].ndim < 2:
            shape = tuple(tensors[0].shape)
            raise UserError(f"granularity 'row' needs tensors with rows; {name!r} has the shape {shape}")
    if granularity == "row" and traits_of(optimizer).matrix_wise:
        kind = type(optimizer).__name__
        raise UserError(f"granularity 'row' is not exact for {kind}, which updates a matrix as a whole; use 'tensor'")


def check_membership(optimizer: Optimizer, named: Mapping[str, Sequence[Tensor]]) -> None:
    """Raise for a wrapped tensor that is not the optimizer's, or that has weight decay."""
    group_of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    for name, tensors in named.items():
        for tensor in tensors:
            group = group_of.get(id(tensor))
            if group is None:
                raise UserError(f"a tensor of group {name!r} is not a parameter of the optimizer; add it there first")
            if group.get("weight_decay", 0):
                raise UserError(
                    f"weight decay {group['weight_decay']} on group {name!r}: on a sphere it only sets another ELR; "
                    "put weight_decay=0 for the wrapped tensors and choose the ELR instead"
                )


@torch.no_grad()
def make_units(named: Mapping[str, tuple[Tensor, ...]], granularity: str, radius: float | None) -> list[Unit]:
    """Make the units with their radii; rescale weights where ``radius`` or ``row`` asks for it, after all checks."""
    if radius is not None and not (math.isfinite(radius) and radius > 0):
        raise UserError(f"radius {radius} is not a positive number")
    present = {name: [float(torch.linalg.vector_norm(t.double())) for t in tensors] for name, tensors in named.items()}
    for name, sizes in present.items():
        for index, size in enumerate(sizes):
            if not math.isfinite(size) or math.hypot(*sizes) == 0:
                raise StateError(f"tensor {index} of group {name!r} has the norm {size}: no direction on a sphere")
    if granularity == "row":
        rows = {name: geometry.row_norms(tensors[0].double()) for name, tensors in named.items()}
        for name, sizes_of_rows in rows.items():
            if not bool((sizes_of_rows > 0).all()):
                dead = int((sizes_of_rows.flatten() == 0).nonzero()[0])
                raise StateError(f"row {dead} of {name!r} has the norm 0: no direction on a sphere")
        units = []
        for name, tensors in named.items():
            wanted = float(rows[name].square().mean().sqrt()) if radius is None else float(radius)
            tensors[0].mul_((wanted / rows[name]).to(tensors[0].dtype))
            units.append(Unit(name, (name,), tensors, wanted))
        return units
    if granularity == "total":
        everything = tuple(t for tensors in named.values() for t in tensors)
        names = tuple(n for name, tensors in named.items() for n in _tensor_names(name, tensors))
        parts = [("total", names, everything, math.hypot(*(s for sizes in present.values() for s in sizes)))]
    else:
        parts = [(n, _tensor_names(n, tensors), tensors, math.hypot(*present[n])) for n, tensors in named.items()]
    if radius is not None:
        for _, _, tensors, size in parts:
            torch._foreach_mul_(list(tensors), radius / size)
    return [Unit(n, names, tensors, size if radius is None else float(radius)) for n, names, tensors, size in parts]


def _tensor_names(name: str, tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """The group's name, with the position where it has several tensors."""
    return (name,) if len(tensors) == 1 else tuple(f"{name}[{i}]" for i in range(len(tensors)))


def split_groups(optimizer: Optimizer, units: Sequence[Unit]) -> list[int | None]:
    """Give every unit param groups of its own inside the optimizer, in place; the order of the states is not touched.

    Returns for every param group the index of its unit, None for weights with a scale of their own. All options are
    copied. A param group that held tensors of several units becomes several groups in the order in which they first
    appear in it; a unit whose tensors stood in several param groups (which may differ in momentum, say) keeps as many.
    """
    unit_of = {id(p): i for i, unit in enumerate(units) for p in unit.parameters}
    groups: list[dict[str, Any]] = []
    owners: list[int | None] = []
    for group in optimizer.param_groups:
        parts: dict[int | None, list[int]] = {}
        for position, p in enumerate(group["params"]):
            parts.setdefault(unit_of.get(id(p)), []).append(position)
        for owner, positions in parts.items():
            part = {key: value for key, value in group.items() if key not in ("params", "param_names")}
            part["params"] = [group["params"][i] for i in positions]
            if "param_names" in group:
                part["param_names"] = [group["param_names"][i] for i in positions]
            if owner is not None:
                part.pop("initial_lr", None)  # a scheduler of the past must not speak for the ELR
            if isinstance(part["lr"], Tensor):
                part["lr"] = part["lr"].clone()  # in-place changes must stay within a group
            groups.append(part)
            owners.append(owner)
    optimizer.param_groups[:] = groups
    return owners


def check_elr(elr: float, *, zero: bool = False) -> float:
    """Check that the ELR is positive and finite; ``zero``: the end of a schedule may be 0, a constant ELR may not."""
    try:
        value = float(elr)
    except (TypeError, ValueError):
        raise UserError(f"ELR {elr!r} is not a number; give a positive number or a function of the step") from None
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise UserError(f"ELR {value} is not a positive finite number; typical values lie between 1e-5 and 1")
    return value
