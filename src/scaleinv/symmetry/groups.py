"""Make parameter groups for an optimizer from what the doctor finds, each with its reason."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from scaleinv.errors import UserError
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.outputs import Outputs
from scaleinv.symmetry.result import Symmetries
from scaleinv.symmetry.roles import Kind, Role, roles
from scaleinv.text import count

#: the groups in the order in which an optimizer gets them
_ORDER: tuple[Kind, ...] = ("scale-invariant", "own scale", "gains and biases", "dead", "undecided")


class ParamGroups(list[dict[str, Any]]):
    """Parameter groups that every torch optimizer takes, and why each tensor is where it is.

    An item is ``{"params": [...], "lr": ..., "weight_decay": ..., "name": ...}``. ``tensors`` has the names of each
    item's tensors, ``roles`` a :class:`~scaleinv.symmetry.roles.Role` of every tensor of the model, ``frozen`` those
    left out because they do not require a gradient. ``str()`` of it is a report in words.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        tensors: Iterable[tuple[str, ...]],
        of: dict[str, Role],
        frozen: tuple[str, ...],
        found: Symmetries,
    ) -> None:
        super().__init__(groups)
        self.tensors, self.roles, self.frozen, self.found = list(tensors), of, frozen, found

    def __str__(self) -> str:
        lines = []
        for group, names in zip(self, self.tensors):
            what = f"{group['name']}: {count(len(names), 'tensor')}"
            lines.append(f"{what}, lr {group['lr']:g}, weight decay {group['weight_decay']:g}")
            for reason, members in grouped({name: self.roles[name].reason for name in names}):
                lines.append(f"  {', '.join(members)}: {reason}")
        if self.frozen:
            lines.append(f"left out, since they require no gradient: {', '.join(self.frozen)}")
        return "\n".join(lines)

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain numbers, names and reasons: what ``scaleinv doctor --json`` prints under ``groups``."""
        return [
            {key: value for key, value in group.items() if key != "params"}
            | {"tensors": {name: self.roles[name].reason for name in names}}
            for group, names in zip(self, self.tensors)
        ]


def param_groups(
    model: nn.Module,
    inputs: Any = None,
    *,
    lr: float,
    weight_decay: float,
    decay_gains: bool = False,
    seed: int = 0,
    outputs: Outputs = None,
    found: Symmetries | None = None,
) -> ParamGroups:
    """Make the parameter groups of a model for a torch optimizer, with the reason for each tensor's weight decay.

    Scale-invariant weights and matrices with a scale of their own are decayed; gains, biases and dead tensors are not.
    A bias that is scale-invariant only together with a matrix goes with the matrix: decay on a part of a joint group
    turns it, and so changes the function. Frozen parameters are left out, tied ones occur once.

    - ``model``, ``inputs``, ``seed``, ``outputs``: as for :func:`~scaleinv.find_symmetries`.
    - ``lr``: learning rate of every group, > 0.  ``weight_decay``: of those that are decayed, >= 0.
    - ``decay_gains``: decay gains and biases too, all but the dead ones.
    - ``found``: an answer of :func:`~scaleinv.find_symmetries` about this model; ``inputs`` are not needed then.
    - Raises UserError for numbers out of range, a model that cannot be probed, and an answer about another model.

    Sources: decay on scale-invariant weights acts through the ELR alone (van Laarhoven, arXiv 1706.05350; Zhang et al.,
    1810.12281). Gains and biases: docs/howto/groups.md.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    >>> groups = param_groups(net, torch.randn(16, 4), lr=0.1, weight_decay=0.01)
    >>> [(group["name"], names) for group, names in zip(groups, groups.tensors)][:2]
    [('scale-invariant', ('0.weight',)), ('own scale', ('3.weight',))]
    >>> optimizer = torch.optim.SGD(groups, momentum=0.9)
    """
    if not 0 < lr < math.inf:
        raise UserError(f"lr {lr} is not a positive number; give the learning rate you train with")
    if not 0 <= weight_decay < math.inf:
        raise UserError(f"weight_decay {weight_decay} is not a number of at least 0")
    found = given_or_found(model, inputs, found, seed, outputs)
    named = matching(model, found)
    of = roles(found)
    chosen: dict[tuple[Kind, bool], list[str]] = {}
    for name, role in of.items():
        if named[name].requires_grad:
            decay = role.decay or (decay_gains and role.kind == "gains and biases")
            chosen.setdefault((role.kind, decay), []).append(name)
    order = sorted(chosen, key=lambda key: (_ORDER.index(key[0]), not key[1]))
    groups = [
        {
            "params": [named[name] for name in chosen[kind, decay]],
            "lr": lr,
            "weight_decay": weight_decay if decay else 0.0,
            "name": kind,
        }
        for kind, decay in order
    ]
    if not groups:
        raise UserError(f"no parameter of {type(model).__name__} requires a gradient, so there is nothing to optimize")
    frozen = tuple(name for name in of if not named[name].requires_grad)
    return ParamGroups(groups, (tuple(chosen[key]) for key in order), of, frozen, found)


def given_or_found(model: nn.Module, inputs: Any, found: Symmetries | None, seed: int, outputs: Outputs) -> Symmetries:
    """Return ``found``, or else what :func:`find_symmetries` finds with ``inputs``."""
    if found is not None:
        return found
    if inputs is None:
        raise UserError("inputs is None; give inputs of the right shape, or found=find_symmetries(model, inputs)")
    return find_symmetries(model, inputs, seed=seed, defect=False, outputs=outputs)


def matching(model: nn.Module, found: Symmetries) -> dict[str, nn.Parameter]:
    """Give the model's parameters by name; UserError where ``found`` is about another model."""
    named = {name: p for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
    # FullyShardedDataParallel puts a part into each name, and this process's share into each tensor
    part = "_fsdp_wrapped_module."
    sharded = any(part in name for name in named)
    if sharded:
        named = {name.replace(part, "").replace("_orig_mod.", ""): p for name, p in named.items()}
    if any(name.endswith("_flat_param") for name in named):
        raise UserError(
            "FullyShardedDataParallel has joined the parameters, which no groups can tell apart; "
            "wrap the model with use_orig_params=True, or make the groups before"
        )
    for name in {*found.shapes, *named}:
        known = name in named and name in found.shapes
        if not known or (not sharded and tuple(named[name].shape) != found.shapes[name]):
            raise UserError(f"found is about another model: parameter {name!r} differs; ask find_symmetries again")
    return named


def grouped(reasons: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Collect the names that share a reason, in order of the first name."""
    result: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        result.setdefault(reason, []).append(name)
    return list(result.items())
