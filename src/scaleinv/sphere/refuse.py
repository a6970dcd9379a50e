"""Refuse what a Sphere could not keep: each in one line with its remedy, before anything is changed."""

import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.sphere import shards
from scaleinv.sphere.cut import Cut
from scaleinv.sphere.traits import traits_of
from scaleinv.sphere.units import Unit
from scaleinv.symmetry.claims import KnownSlices, claim_of

HALF = (torch.float16, torch.bfloat16)
_EXACT = (torch.float32, torch.float64)


def refuse_inexact(
    optimizer: Optimizer,
    named: Mapping[str, Sequence[Tensor]],
    cuts: Mapping[str, Cut | None],
    word: str,
    masters: bool,
) -> None:
    """Raise where the promise (the function stays, the norm returns, the rate is the ELR) could not be kept."""
    for name, tensors in named.items():
        cut = cuts[name]
        for tensor in tensors:
            if tensor.dtype in HALF and not masters:
                raise UserError(
                    f"group {name!r} is in {tensor.dtype}, which rounds steps and norms off at 1e-3; pass masters=True "
                    "to train copies in float32, or keep the weights in float32 and compute under torch.autocast"
                )
            if tensor.dtype not in (*_EXACT, *HALF):
                raise UserError(f"group {name!r} is in {tensor.dtype}; weights in float32 or float64 are needed")
            if tensor.layout != torch.strided:
                raise UserError(f"group {name!r} is laid out as {tensor.layout}; dense weights are needed")
            if any(n > 1 and stride == 0 for n, stride in zip(tensor.shape, tensor.stride())):
                raise UserError(
                    f"group {name!r} is an expanded view of fewer numbers; pass a copy: tensor.contiguous()"
                )
            shards.refuse_layout(name, tensor)
        if (cut is not None or word == "tensor") and len(tensors) > 1:
            kind = word if cut is None else cut.name
            raise UserError(
                f"granularity {kind!r} is not exact for group {name!r}: its {len(tensors)} tensors have "
                "only one scale in common; use 'group' or 'total'"
            )
        if cut is not None:
            cut.refuse(name, tuple(tensors[0].shape))
    matrix_wise = [cut for cut in cuts.values() if cut is not None and cut.dim is not None]
    if matrix_wise and traits_of(optimizer).matrix_wise:
        raise UserError(
            f"granularity {matrix_wise[0].name!r} is not exact for {type(optimizer).__name__}, which updates a matrix "
            "as a whole; use 'tensor'"
        )


def refuse_overlap(named: Mapping[str, Sequence[Tensor]]) -> None:
    """Raise for a tensor, or a piece of memory, that stands in two groups."""
    flat = [(name, t) for name, tensors in named.items() for t in tensors]
    if len({id(t) for _, t in flat}) != len(flat):
        raise UserError("a tensor stands in two groups; groups on a sphere must not overlap: name each tensor once")
    plain = [(name, t) for name, t in flat if not shards.is_sharded(t) and t.layout == torch.strided and t.numel()]
    spans = sorted(
        (t.untyped_storage().data_ptr(), t.storage_offset(), t.storage_offset() + _extent(t), name)
        for name, t in plain
        if t.device.type != "meta"
    )
    for (storage, _, end, name), (other, start, _, second) in itertools.pairwise(spans):
        if storage == other and start < end:
            raise UserError(
                f"tensors of {name!r} and {second!r} are views of the same memory and would lie on two spheres; "
                "pass the one parameter that holds it"
            )


def _extent(t: Tensor) -> int:
    return 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride()))


def refuse_other_dimension(named: Mapping[str, Sequence[Tensor]], cuts: Mapping[str, Cut | None]) -> None:
    """Raise where :func:`~scaleinv.find_symmetries` said of these very tensors that other pieces of them are free.

    Pieces are brought to one norm on wrapping: of tensors whose pieces are not free one by one that is another network.
    """
    for name, tensors in named.items():
        cut = cuts[name]
        claim = claim_of(tensors[0]) if cut is not None else None
        if cut is None or claim is None or _named_by(claim, cut, tuple(tensors[0].shape)):
            continue
        if claim.dim is not None:
            word = Cut(dim=claim.dim).name
            found = f"each {word} (dimension {claim.dim})"
            remedy = f"use granularity {word!r}" if claim.dim < 2 else f"use granularity Cut(dim={claim.dim})"
        elif claim.blocks:
            found = (
                "the blocks " + ", ".join(f"{a}:{b}" for a, b in claim.blocks[:4]) + f" of dimension {claim.blocks_dim}"
            )
            remedy = f"use granularity Cut(dim={claim.blocks_dim}, ranges=...) with them"
        else:
            found, remedy = ("the whole tensor" if claim.single else "nothing"), "use granularity 'tensor'"
        raise UserError(
            f"find_symmetries found {found} of {claim.name!r} scale-invariant alone, not each {cut.name} along "
            f"dimension {cut.axis}: to bring these to one norm would change the network; {remedy}, or pass "
            "claimed=False to do it"
        )


def _named_by(claim: KnownSlices, cut: Cut, shape: tuple[int, ...]) -> bool:
    """Whether the claim says that each piece of the cut has no scale, or says nothing about such pieces."""
    if cut.leading:
        return True  # the doctor looks at one dimension at a time
    if claim.dim is not None:
        return claim.dim == cut.axis
    if claim.blocks:
        return cut.axis == claim.blocks_dim and all(_is_union(span, set(claim.blocks)) for span in cut.spans(shape))
    return False


def _is_union(span: tuple[int, int], blocks: set[tuple[int, int]]) -> bool:
    inside = sorted(b for b in blocks if span[0] <= b[0] and b[1] <= span[1])
    return sum(b - a for a, b in inside) == span[1] - span[0]


def check_membership(optimizer: Optimizer, named: Mapping[str, Sequence[Tensor]]) -> None:
    """Raise for a wrapped tensor that is not the optimizer's, or that has weight decay."""
    group_of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    for name, tensors in named.items():
        for tensor in tensors:
            group = group_of.get(id(tensor))
            if group is None:
                raise UserError(f"a tensor of group {name!r} is not a parameter of the optimizer; add it there first")
            refuse_options(group, name)


def refuse_options(group: Mapping[str, Any], name: str) -> None:
    """Raise for options of a param group of wrapped tensors that no step on a sphere can have."""
    if group.get("weight_decay", 0):
        raise UserError(
            f"weight decay {group['weight_decay']} on group {name!r}: on a sphere it only sets another ELR; "
            "put weight_decay=0 for the wrapped tensors and choose the ELR instead"
        )
    if group.get("differentiable"):
        raise UserError(
            f"group {name!r} has differentiable=True: no gradient goes through a return to a sphere; leave it"
        )


def refuse_present(
    optimizer: Optimizer, units: Sequence[Unit], unit_of_group: Sequence[int | None], trained: bool
) -> None:
    """Raise before a step for what has become of the optimizer and the weights since they were wrapped.

    - ``trained``: whether the radii are trained.
    """
    groups = optimizer.param_groups
    if len(groups) != len(unit_of_group):
        raise UserError(
            f"the wrapped {type(optimizer).__name__} has {len(groups)} param groups, the Sphere knows "
            f"{len(unit_of_group)}; add groups by Sphere.add_param_group and remove none"
        )
    for group, index in zip(groups, unit_of_group):
        if index is None:
            continue
        unit = units[index]
        if group.get("weight_decay") or group.get("differentiable"):
            refuse_options(group, unit.name)
        for p in group["params"]:
            if p.dtype not in _EXACT:
                raise UserError(
                    f"{unit.name} has become {p.dtype} since it was wrapped; convert the model first and wrap it with "
                    "masters=True, or compute under torch.autocast"
                )
            if p.grad is not None and p.grad.is_sparse and (trained or group.get("momentum")):
                raise UserError(
                    f"the gradient of {unit.name} is sparse, and momentum and trained radii need all of it; build the "
                    "layer with sparse=False, or use SGD without momentum"
                )


class _Owners:
    """Remember which Sphere wraps an optimizer and which was the last to wrap a tensor, as long as both live."""

    def __init__(self) -> None:
        self._of_optimizer: dict[int, weakref.ref[object]] = {}
        self._of_tensor: dict[int, tuple[weakref.ref[Tensor], weakref.ref[object]]] = {}
        self.changes = 0

    def refuse_wrapped(self, optimizer: Optimizer) -> None:
        owner = self._of_optimizer.get(id(optimizer))
        alive = None if owner is None else owner()
        if alive is not None and getattr(alive, "optimizer", None) is optimizer:
            raise UserError(
                f"this {type(optimizer).__name__} is wrapped by a Sphere already; pass all groups to one Sphere, add "
                "later ones by its add_param_group, or make a new optimizer"
            )

    def take(self, sphere: object, optimizer: Optimizer, tensors: Sequence[Tensor]) -> int:
        """Note a new Sphere; returns the number of this change."""
        self.changes += 1
        me = weakref.ref(sphere)
        self._of_optimizer = {k: o for k, o in self._of_optimizer.items() if o() is not None}
        self._of_tensor = {k: (t, o) for k, (t, o) in self._of_tensor.items() if t() is not None and o() is not None}
        self._of_optimizer[id(optimizer)] = me
        self._of_tensor.update({id(t): (weakref.ref(t), me) for t in tensors})
        return self.changes

    def refuse_lost(self, sphere: object, tensors: Sequence[Tensor]) -> None:
        """Raise where another Sphere has wrapped one of the tensors since."""
        for t in tensors:
            known = self._of_tensor.get(id(t))
            other = known[1]() if known is not None and known[0]() is t else None
            if other is not None and other is not sphere:
                raise UserError(
                    f"a tensor of shape {tuple(t.shape)} lies on two spheres: another Sphere has wrapped it since; "
                    "step that one alone, or pass all groups to one Sphere"
                )


OWNERS = _Owners()
