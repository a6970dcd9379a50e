"""Say what the param groups of an optimizer do to a model, tensor by tensor, and which parameters it forgot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.symmetry.groups import given_or_found, matching
from scaleinv.symmetry.outputs import Outputs
from scaleinv.symmetry.result import Symmetries
from scaleinv.symmetry.roles import Role, listed, roles
from scaleinv.text import count, show
from scaleinv.theory import rates
from scaleinv.theory.optimizers import Measured, OptimizerTraits, traits_of_names


@dataclass(frozen=True)
class TensorReview:
    """What an optimizer does to one tensor; lr and weight decay are None where no group holds it."""

    name: str
    kind: str
    optimizer: str
    lr: float | None
    weight_decay: float | None
    elr: float | None  # of its scale-invariant group as it is now, by the law of the optimizer; None outside of one
    effect: str


@dataclass(frozen=True)
class OptimizerReview:
    """What the present groups of one or several optimizers do. ``str()`` of it is a report in words.

    findings: what is worth a change, a sentence each, worst first.  tensors: all tensors.  forgotten: parameters that
    require a gradient and are in no group.  frozen: parameters in a group that require none.  foreign: how many tensors
    of the groups are not the model's.
    """

    findings: tuple[str, ...]
    tensors: tuple[TensorReview, ...]
    forgotten: tuple[str, ...]
    frozen: tuple[str, ...]
    foreign: int

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers: what ``scaleinv doctor --json`` prints under ``optimizer``."""
        return {
            "findings": list(self.findings),
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "forgotten": list(self.forgotten),
            "frozen": list(self.frozen),
            "foreign": self.foreign,
        }

    def __str__(self) -> str:
        lines = list(self.findings) or ["nothing in these groups is worth a change"]
        for tensor in self.tensors:
            held = "in no group" if tensor.lr is None else f"lr {tensor.lr:g}, weight decay {tensor.weight_decay:g}"
            lines.append(f"  {tensor.name}: {held}: {tensor.effect}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Held:
    """The group that holds a tensor."""

    optimizer: str
    traits: OptimizerTraits
    group: Mapping[str, Any]

    @property
    def lr(self) -> float:
        return float(self.group["lr"])

    @property
    def decay(self) -> float:
        return float(self.group.get("weight_decay") or 0.0)


def review_optimizer(
    model: nn.Module,
    inputs: Any = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    seed: int = 0,
    outputs: Outputs = None,
    found: Symmetries | None = None,
) -> OptimizerReview:
    """Tell what an optimizer's present param groups do to each tensor, and which parameters it forgot.

    - ``model``, ``inputs``, ``seed``, ``outputs``: as for :func:`~scaleinv.find_symmetries`.
    - ``optimizer``: one, or several that share the model (Muon for matrices, AdamW for the rest). It is not changed.
    - ``found``: an answer of :func:`~scaleinv.find_symmetries` about this model; ``inputs`` are not needed then.
    - Raises UserError for an optimizer that is none, a model that cannot be probed, and an answer about another model.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    >>> adamw = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    >>> review_optimizer(net, torch.randn(16, 4), adamw).findings[0]
    'weight decay acts on 1 dead bias (0.bias): nothing else moves it; leave it undecayed'
    """
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or [])
    if not optimizers or not all(isinstance(one, Optimizer) for one in optimizers):
        raise UserError(f"optimizer is {type(optimizer).__name__}; give a torch.optim.Optimizer or a list of them")
    found = given_or_found(model, inputs, found, seed, outputs)
    named = matching(model, found)
    held = _held(optimizers)
    by_name = {name: held[id(p)] for name, p in named.items() if id(p) in held}
    every = {id(p) for p in model.parameters()}
    of = roles(found)
    forgotten = tuple(name for name, p in named.items() if p.requires_grad and name not in by_name)
    frozen = tuple(name for name, p in named.items() if not p.requires_grad and name in by_name)
    foreign = sum(key not in every for key in held)
    lines = [_forgotten(forgotten, named), _foreign(foreign), *_decay_findings(found, of, by_name)]
    tensors = tuple(_tensor(found, name, role, by_name.get(name), named[name]) for name, role in of.items())
    return OptimizerReview(tuple(filter(None, lines)), tensors, forgotten, frozen, foreign)


def _held(optimizers: Sequence[Optimizer]) -> dict[int, _Held]:
    result = {}
    for one in optimizers:
        traits = traits_of_names(kind.__name__ for kind in type(one).__mro__)
        for group in one.param_groups:
            for p in group["params"]:
                result[id(p)] = _Held(type(one).__name__, traits, group)
    return result


def _forgotten(names: Sequence[str], named: Mapping[str, nn.Parameter]) -> str:
    if not names:
        return ""
    size = sum(named[name].numel() for name in names)
    return f"{count(len(names), 'parameter')} in no group ({listed(names)}; {size} numbers): never trained"


def _foreign(number: int) -> str:
    if not number:
        return ""
    what = f"{count(number, 'tensor')} of the groups {'is' if number == 1 else 'are'} not the model's"
    return f"{what}: the optimizer was made for another copy, or before the parameters were replaced"


def _decay_findings(found: Symmetries, of: Mapping[str, Role], held: Mapping[str, _Held]) -> list[str]:
    """What the weight decay of the groups does, by kind."""
    decayed = {name for name, h in held.items() if h.decay > 0 and h.lr > 0}
    lines = []
    dead = [name for name in found.dead if name in decayed]
    if dead:
        biases = all(found.is_affine((name,)) for name in dead)
        what = count(len(dead), "dead bias", "dead biases") if biases else count(len(dead), "dead tensor")
        them = "it" if len(dead) == 1 else "them"
        lines.append(f"weight decay acts on {what} ({listed(dead)}): nothing else moves {them}; leave {them} undecayed")
    for tensors in found.joint:
        inside = [name for name in tensors if name in held]
        some = [name for name in inside if name in decayed]
        rates_here = {(held[name].lr * held[name].decay) for name in inside}
        if some and len(rates_here) > 1 and not found.is_affine(tensors):
            left = [name for name in inside if name not in decayed]
            other = f", not on {listed(left)}" if left else ", at different rates"
            lines.append(
                f"weight decay acts on {len(some)} of {len(tensors)} tensors that are scale-invariant together "
                f"({listed(some)}{other}): it does not only set their ELR, it changes the function"
            )
    bare = [n for n, role in of.items() if role.kind == "scale-invariant" and n in held and n not in decayed]
    whole = [n for n in bare if not of[n].together or not decayed & set(of[n].together)]
    if whole:
        lines.append(
            f"no weight decay on {count(len(whole), 'scale-invariant tensor')} ({listed(whole)}): nothing bounds the "
            "norm, so the ELR falls as it grows; decay them, or hold the norm with scaleinv.Sphere"
        )
    gains = [n for n, role in of.items() if role.kind == "gains and biases" and n in decayed]
    if gains:
        what = count(len(gains), "gain or bias", "gains and biases")
        lines.append(f"weight decay acts on {what} ({listed(gains)}): usual practice leaves them out, see each")
    return lines


def _tensor(found: Symmetries, name: str, role: Role, held: _Held | None, p: nn.Parameter) -> TensorReview:
    if held is None:
        effect = "never trained" if p.requires_grad else "frozen"
        return TensorReview(name, role.kind, "", None, None, None, effect)
    elr = None
    tensors = role.together or (name,)
    if role.kind == "scale-invariant" and held.traits.law is not None and (rho := found.norm(tensors)) > 0:
        elr = float(rates.elr(held.lr, rho, held.traits.law))
    return TensorReview(name, role.kind, held.optimizer, held.lr, held.decay, elr, _effect(role, held, p))


def _effect(role: Role, held: _Held, p: nn.Parameter) -> str:
    if not p.requires_grad:
        return "frozen: the optimizer never moves it"
    if held.decay == 0:
        if role.kind == "scale-invariant":
            return "the norm only grows and the ELR falls"
        return "never moves" if role.kind == "dead" else "no decay"
    if role.kind == "dead":
        return "only decay moves it"
    if role.kind != "scale-invariant":
        return role.reason
    rest = None
    if held.traits.equilibrium is not None and held.lr * held.decay < 1:
        rest = held.traits.equilibrium(held.group, held.lr, held.decay, Measured(dimension=max(2, p.numel())))
    if rest is None or not math.isfinite(float(rest.angle)):
        return "decay sets the ELR"
    return (
        f"decay sets the ELR: at rest {show(float(rest.angle))} rad a step, "
        f"reached in some {show(float(rest.time_scale), 2)} steps"
    )


def builtin_optimizer(name: str, model: nn.Module, lr: float | None, weight_decay: float | None) -> Optimizer | None:
    """Make one of torch's optimizers by its name, over all trained parameters; None if torch has none of that name.

    lr, weight_decay: None leaves torch's default. Raises UserError where torch refuses them.
    """
    known = {key.lower(): value for key, value in vars(torch.optim).items() if isinstance(value, type)}
    kind = known.get(name.lower())
    if kind is None or kind is Optimizer or not issubclass(kind, Optimizer):
        return None
    given = {"lr": lr, "weight_decay": weight_decay}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    try:
        return kind([p for p in model.parameters() if p.requires_grad], **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"torch.optim.{kind.__name__} of this model fails: {error}") from error
