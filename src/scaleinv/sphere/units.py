"""Find what lies on each sphere of a :class:`scaleinv.Sphere`, with its radius, and give it param groups of its own."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv import geometry
from scaleinv.errors import StateError, UserError
from scaleinv.sphere import shards
from scaleinv.sphere.cut import GRANULARITIES, Cut
from scaleinv.sphere.ruler import Ruler

__all__ = ["GRANULARITIES", "Groups", "Radius", "Unit", "check_elr", "make_units", "named_groups", "split_groups"]

Groups = Mapping[str, Sequence[Tensor]] | Iterable[Tensor | Sequence[Tensor]]
Radius = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Unit:
    """What lies on one sphere together; of a cut tensor, pieces that lie on spheres of one kind."""

    name: str
    names: tuple[str, ...]  # of the tensors, for messages
    parameters: tuple[Tensor, ...] = field(repr=False)
    radius: float  # of the whole unit; of one piece where the tensor is cut (their root mean square, if they differ)
    cut: Cut | None = None
    radii: Tensor | None = field(default=None, repr=False)  # of every piece, where they differ
    waits: bool = False  # something in it is zero and waits for its first direction
    rest_lr: float | None = None  # of the slices outside the ranges of the cut


def named_groups(groups: Groups) -> dict[str, tuple[Tensor, ...]]:
    """Name the groups, each a tuple of tensors; a tensor stands for a group of its own."""
    if isinstance(groups, Tensor):
        groups = [groups]
    if not isinstance(groups, Iterable):
        raise UserError(
            f"groups={groups!r}: give a mapping from names to lists of tensors, or a list of tensors; "
            "find_symmetries(model, inputs).parameters(model) is one"
        )
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
    return named


def _wanted_radius(radius: Radius, name: str) -> float | None:
    wanted = radius.get(name) if isinstance(radius, Mapping) else radius
    return None if wanted is None else float(wanted)


def _check_radius(radius: Radius, names: Iterable[str]) -> None:
    values = dict(radius) if isinstance(radius, Mapping) else {"": radius}
    unknown = sorted(set(values) - {"", *names})
    if unknown:
        raise UserError(f"radius names {unknown[0]!r}, which is no group; the groups are: {', '.join(names)}")
    for value in values.values():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value) and value > 0):
            raise UserError(f"radius {value} is not a positive number")


@torch.no_grad()
def make_units(
    named: Mapping[str, tuple[Tensor, ...]],
    cuts: Mapping[str, Cut | None],
    word: str,
    radius: Radius,
    *,
    literal: bool = False,
    keep_pieces: bool = False,
    wait: bool = False,
) -> list[Unit]:
    """Make the units with their radii; rescale weights where ``radius`` or a cut asks for it, after all checks.

    - ``keep_pieces``: leave pieces at norms of their own instead of bringing them to one.
    - ``wait``: let weights of norm zero wait for their first direction; their radius must be given.
    """
    _check_radius(radius, named)
    if word == "total" and isinstance(radius, Mapping):
        raise UserError("granularity 'total' has one sphere: give radius= as a number")
    whole: dict[str, list[float]] = {}
    pieces: dict[str, Tensor] = {}
    waiting: set[str] = set()
    for name, tensors in named.items():
        local = [shards.local(t).double() for t in tensors]
        if local[0].device.type == "meta":
            raise UserError(f"group {name!r} is on the meta device, without numbers; wrap after to_empty and the start")
        rulers = [Ruler([t], None, literal=True) for t in tensors]
        sizes = whole[name] = [_norm(ruler, t) for ruler, t in zip(rulers, local)]
        zero = math.hypot(*sizes) == 0
        for index, size in enumerate(sizes):
            if not math.isfinite(size) or (zero and not wait):
                what = f"tensor {index} of group {name!r} has the norm {size}"
                raise StateError(f"{what}: no direction on a sphere{_remedy(size)}")
        cut = cuts[name]
        if cut is not None:
            plain = cut == Cut() and not shards.is_sharded(tensors[0])
            ruler = Ruler(tensors, cut, literal=literal)
            pieces[name] = geometry.row_norms(local[0]).flatten() if plain else ruler.norms(local)
            zero = not bool((pieces[name] > 0).all())
            if zero and not wait:
                dead = int((pieces[name].flatten() == 0).nonzero()[0])
                raise StateError(f"{cut.part(dead)} of {name!r} has the norm 0: no direction on a sphere{_remedy(0.0)}")
        if zero:
            waiting.add(name)
            if _wanted_radius(radius, name) is None:
                raise UserError(
                    f"group {name!r} is zero and waits for its first direction, so the norm it is to have is not "
                    "known; give radius="
                )
    if word == "total":
        return [_total(named, whole, _wanted_radius(radius, "total"), bool(waiting))]
    units = []
    for name, tensors in named.items():
        cut, wanted, names = cuts[name], _wanted_radius(radius, name), tensor_names(name, tensors)
        waits = name in waiting
        if cut is None:
            size = math.hypot(*whole[name])
            if wanted is not None and size > 0:
                torch._foreach_mul_([shards.local(t) for t in tensors], wanted / size)
            units.append(Unit(name, names, tensors, size if wanted is None else wanted, waits=waits))
            continue
        found = pieces[name]
        rms = float(found.square().mean().sqrt())
        ruler = Ruler(tensors, cut, literal=literal)
        here = shards.local(tensors[0])
        if wanted is None and keep_pieces:
            units.append(Unit(name, names, tensors, rms, cut, found.to(_at_least_float32(here.dtype))))
            continue
        size = rms if wanted is None else wanted
        factor = torch.where(found > 0, size / found, torch.ones_like(found))
        ruler.multiply([here], factor.to(here.dtype))
        rest = 0.0 if ruler.pieces is not None and ruler.pieces.rest else None
        units.append(Unit(name, names, tensors, size, cut, waits=waits, rest_lr=rest))
    return units


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _norm(ruler: Ruler, local: Tensor) -> float:
    if ruler.sharded:
        return float(ruler.norms([local]))
    return float(torch.linalg.vector_norm(local))


def _remedy(size: float) -> str:
    if size != 0:
        return "; wrap weights that are finite"
    return "; wrap after the first step, initialise it otherwise, or pass zero='wait' and a radius"


def _total(
    named: Mapping[str, tuple[Tensor, ...]], sizes: Mapping[str, list[float]], radius: float | None, waits: bool
) -> Unit:
    everything = tuple(t for tensors in named.values() for t in tensors)
    names = tuple(n for name, tensors in named.items() for n in tensor_names(name, tensors))
    size = math.hypot(*(s for found in sizes.values() for s in found))
    if radius is not None and size > 0:
        torch._foreach_mul_([shards.local(t) for t in everything], radius / size)
    return Unit("total", names, everything, size if radius is None else radius, waits=waits)


def tensor_names(name: str, tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """Name the tensors of a group: the group's name, with the position where it has several."""
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
        if isinstance(elr, bool):
            raise TypeError
        value = float(elr)
    except (TypeError, ValueError):
        raise UserError(f"ELR {elr!r} is not a number; give a positive number or a function of the step") from None
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise UserError(f"ELR {value} is not a positive finite number; typical values lie between 1e-5 and 1")
    return value
