r"""Train on the sphere: the effective learning rate (ELR) is the hyper-parameter, the norm never moves.

:class:`Sphere` wraps a torch optimizer. Before a step it sets the learning rate of the wrapped weights from the ELR by the
law of the optimizer; after the step it returns them to their sphere (Kodryan et al. 2022, eq. 6)::

    x_hat = x - lr * update(x),    x' = x_hat * rho / ||x_hat||

Law (how fast ``lr`` turns a weight of norm ``rho``):

=============  ==================  ==========================================================================
law            learning rate       optimizers
=============  ==================  ==========================================================================
``sgd``        ``lr = elr rho^2``  the gradient grows as 1/rho: SGD with or without momentum
``normalised`` ``lr = elr rho``    the update does not grow with the gradient: Adam and kin, Lion, Muon
=============  ==================  ==========================================================================

Granularity (what lies on one sphere):

- ``total``: all wrapped tensors together, the papers' case. The individual ELRs of the groups move freely.
- ``group``: every group on its own sphere; all groups get the same ELR.
- ``tensor``: every tensor on its own sphere; refused for groups of several tensors, which have only one scale in common.
- ``row``: every row (output filter, neuron; first dimension) on its own sphere. One learning rate serves a whole tensor only if
  its rows have one norm, so on wrapping every row is scaled to the root mean square of the row norms of its tensor; the norm of
  the tensor is unchanged. The rows must be scale-invariant one by one, which a norm over channels (batch norm) gives and
  a norm over features (layer norm) does not: ask ``find_symmetries(model, inputs).row``. Refused for groups of several tensors,
  for tensors of fewer than two dimensions and for optimizers that treat a matrix as a whole (Muon).

Momentum. A buffer that averages gradients (``momentum_buffer``, ``exp_avg``) belongs to the tangent space of the old point.
After the step it is projected on the tangent space at the new point and rescaled to the norm it had. For SGD with momentum this
is exact parallel transport along the step. Second moments are left alone: the radius, hence their unit, has not changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv import geometry
from scaleinv.errors import StateError, UserError

__all__ = ["GRANULARITIES", "LAWS", "Law", "Sphere", "Unit", "optimizer_law"]

Law = Literal["sgd", "normalised"]
LAWS: tuple[Law, ...] = ("sgd", "normalised")
GRANULARITIES = ("total", "group", "tensor", "row")

_SGD = ("SGD",)
_NORMALISED = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "Muon", "Lion")
_MATRIX_WISE = ("Muon",)
#: optimizer state that averages gradients and so has to follow the weights around the sphere
_GRADIENT_AVERAGES = ("momentum_buffer", "exp_avg")
#: above this effective step size a float32 step may overflow, so the weights are kept until the step is known to be good
_RISKY_STEP = 1e3
#: on an accelerator the flag that something went wrong is read once in so many steps
_DEFERRED_CHECK_EVERY = 100

Elr = float | Callable[[int], float]


def optimizer_law(optimizer: Optimizer) -> Law | None:
    """The law of an optimizer or of what it is a subclass of; ``None`` where it is not known.

    >>> optimizer_law(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    'sgd'
    """
    names = [kind.__name__ for kind in type(optimizer).__mro__]
    if any(name in _SGD for name in names):
        return "sgd"
    if any(name in _NORMALISED for name in names):
        return "normalised"
    return None


@dataclass(frozen=True)
class Unit:
    """What lies on one sphere together."""

    name: str
    names: tuple[str, ...]  # of the tensors, for messages
    parameters: tuple[Tensor, ...] = field(repr=False)
    radius: float  # of the whole unit; of one row for ``row``


def _named_groups(
    groups: Mapping[str, Sequence[Tensor]] | Iterable[Tensor | Sequence[Tensor]],
) -> dict[str, tuple[Tensor, ...]]:
    if isinstance(groups, Mapping):
        named = {name: tuple(tensors) for name, tensors in groups.items()}
    else:
        sequences = [(g,) if isinstance(g, Tensor) else tuple(g) for g in groups]
        named = {f"group {i}": tensors for i, tensors in enumerate(sequences)}
    if not named or any(not tensors for tensors in named.values()):
        raise UserError("Sphere needs at least one group, and no empty one: pass the scale-invariant tensors of the model")
    for name, tensors in named.items():
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise UserError(
                    f"group {name!r} holds {type(tensor).__name__} {tensor!r}, not a parameter; "
                    "find_symmetries(model, inputs).parameters(model) gives groups of parameters"
                )
    flat = [id(t) for tensors in named.values() for t in tensors]
    if len(set(flat)) != len(flat):
        raise UserError("a tensor stands in two groups; groups on a sphere must not overlap")
    return named


class Sphere(Optimizer):
    r"""Keep groups of scale-invariant weights on spheres while a torch optimizer trains them.

    Args:
        optimizer: any ``torch.optim`` optimizer that holds the wrapped tensors. Its own ``lr`` of these is ignored from now on,
            that of all other parameters is kept. Its param groups are split so that every sphere has a group of its own;
            other options of the groups are copied. Weight decay on wrapped tensors is refused.
        groups: scale-invariant tensors: a mapping from names to lists of tensors, or a list of tensors or of lists.
        elr: the effective learning rate, in 1/step for unit gradients at the unit sphere: a number > 0, or a function of the
            number of steps done. It stands in ``sphere.param_groups[i]["lr"]``, so a torch LR scheduler attached to the *Sphere*
            schedules it (and the plain ``lr`` of the other groups). A scheduler on the wrapped optimizer is refused.
        granularity: ``total``, ``group``, ``tensor`` or ``row``; see the module's text.
        law: ``sgd`` or ``normalised``; needed only where :func:`optimizer_law` does not know the optimizer.
        radius: put every sphere at this radius first (the network's function does not change); default: as it is.
        check: ``step`` looks for zero or non-finite norms before and after every step (no cost on a CPU); ``deferred`` reads a flag
            once in 100 steps, without waiting for the device in between. Default: ``step`` on a CPU, else ``deferred``.

    Raises:
        UserError: for arguments that make no sense (each says why).
        StateError: from :meth:`step`: the gradient or the norm of a tensor is zero or not finite. With ``check="step"`` the
            weights are as they were before the step.

    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> sphere = Sphere(torch.optim.SGD([weight], lr=1.0), [weight], elr=0.1)
    >>> weight.grad = torch.tensor([-0.8, 0.6])
    >>> sphere.step()
    >>> round(weight.norm().item(), 6), sphere.optimizer.param_groups[0]["lr"]
    (5.0, 2.5)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        groups: Mapping[str, Sequence[Tensor]] | Iterable[Tensor | Sequence[Tensor]],
        elr: Elr,
        *,
        granularity: str = "total",
        law: str | None = None,
        radius: float | None = None,
        check: Literal["step", "deferred"] | None = None,
    ) -> None:
        named = _named_groups(groups)
        if granularity not in GRANULARITIES:
            raise UserError(f"unknown granularity {granularity!r}; choose one of: {', '.join(GRANULARITIES)}")
        self.law: Law = self._choose_law(optimizer, law)
        self.granularity = granularity
        self._refuse_inexact(optimizer, named)
        self.optimizer = optimizer
        self._elr = elr if callable(elr) else None
        self._steps = 0
        first = _check_elr(elr(0) if callable(elr) else elr)
        self._check_membership(named)
        self.units: list[Unit] = self._make_units(named, radius)
        tensors = [t for unit in self.units for t in unit.parameters]
        self.check = check or ("step" if all(t.device.type == "cpu" for t in tensors) else "deferred")
        self._bad: Tensor | None = None
        #: for every inner param group the index of its unit, None for weights with a scale of their own
        self._unit_of_group: list[int | None] = self._split_groups()
        mirror = [
            {"params": list(g["params"]), "lr": first if unit is not None else g["lr"]}
            for g, unit in zip(optimizer.param_groups, self._unit_of_group)
        ]
        self._constructing = True
        super().__init__(mirror, {"lr": first})
        self._constructing = False
        self._last_elr: list[float] = [g["lr"] for g in self.param_groups]
        self._pushed: list[Any] = [g["lr"] for g in optimizer.param_groups]

    # -- construction --------------------------------------------------------------------------------------------------

    @staticmethod
    def _choose_law(optimizer: Optimizer, law: str | None) -> Law:
        name = type(optimizer).__name__
        if name == "LBFGS":
            raise UserError("LBFGS evaluates the loss several times within a step and cannot be kept on a sphere in between")
        if law is not None:
            for known in LAWS:
                if law == known:
                    return known
            raise UserError(f"unknown law {law!r}; choose sgd (lr = elr rho^2) or normalised (lr = elr rho)")
        found = optimizer_law(optimizer)
        if found is None:
            raise UserError(
                f"the law of {name} is not known; pass law='sgd' if its update grows with the gradient, else law='normalised'"
            )
        return found

    def _refuse_inexact(self, optimizer: Optimizer, named: dict[str, tuple[Tensor, ...]]) -> None:
        if self.granularity not in ("tensor", "row"):
            return
        for name, tensors in named.items():
            if len(tensors) > 1:
                raise UserError(
                    f"granularity {self.granularity!r} is not exact for group {name!r}: its {len(tensors)} tensors have only one "
                    "scale in common; use 'group' or 'total'"
                )
            if self.granularity == "row" and tensors[0].ndim < 2:
                raise UserError(f"granularity 'row' needs tensors with rows; {name!r} has the shape {tuple(tensors[0].shape)}")
        kind = type(optimizer).__name__
        if self.granularity == "row" and kind in _MATRIX_WISE:
            raise UserError(f"granularity 'row' is not exact for {kind}, which updates a matrix as a whole; use 'tensor'")

    def _check_membership(self, named: dict[str, tuple[Tensor, ...]]) -> None:
        group_of = {id(p): g for g in self.optimizer.param_groups for p in g["params"]}
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

    def _make_units(self, named: dict[str, tuple[Tensor, ...]], radius: float | None) -> list[Unit]:
        if radius is not None and not (math.isfinite(radius) and radius > 0):
            raise UserError(f"radius {radius} is not a positive number")
        for name, tensors in named.items():
            for index, tensor in enumerate(tensors):
                size = float(torch.linalg.vector_norm(tensor.detach().double()))
                if not math.isfinite(size) or (size == 0 and (self.granularity == "tensor" or len(tensors) == 1)):
                    raise StateError(f"tensor {index} of group {name!r} has the norm {size}; it has no direction on a sphere")
        if self.granularity == "total":
            everything = tuple(t for tensors in named.values() for t in tensors)
            sets = {"total": everything}
        else:
            sets = named
        units = []
        for name, tensors in sets.items():
            names = _tensor_names(named) if self.granularity == "total" else _tensor_names({name: tensors})
            with torch.no_grad():
                if self.granularity == "row":
                    wanted = self._equalise_rows(name, tensors[0], radius)
                else:
                    present = math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))
                    if present == 0:
                        raise StateError(f"group {name!r} has the norm 0; it has no direction on a sphere")
                    wanted = present if radius is None else float(radius)
                    if radius is not None:
                        torch._foreach_mul_(list(tensors), wanted / present)
            units.append(Unit(name, names, tensors, wanted))
        return units

    @staticmethod
    def _equalise_rows(name: str, tensor: Tensor, radius: float | None) -> float:
        norms = _row_norms(tensor.detach().double())
        if not bool((norms > 0).all()):
            dead = int((norms.flatten() == 0).nonzero()[0])
            raise StateError(f"row {dead} of {name!r} has the norm 0; it has no direction on a sphere")
        wanted = float(norms.square().mean().sqrt()) if radius is None else float(radius)
        tensor.mul_((wanted / norms).to(tensor.dtype))
        return wanted

    def _split_groups(self) -> list[int | None]:
        """Give every unit param groups of its own inside the wrapped optimizer; the order of states is not touched."""
        unit_of = {id(p): i for i, unit in enumerate(self.units) for p in unit.parameters}
        groups: list[dict[str, Any]] = []
        owners: list[int | None] = []
        for group in self.optimizer.param_groups:
            parts: dict[int | None, list[int]] = {}
            for position, p in enumerate(group["params"]):
                parts.setdefault(unit_of.get(id(p)), []).append(position)
            for owner, positions in parts.items():
                part = {key: value for key, value in group.items() if key not in ("params", "param_names")}
                part["params"] = [group["params"][i] for i in positions]
                if "param_names" in group:
                    part["param_names"] = [group["param_names"][i] for i in positions]
                if owner is not None:
                    # a scheduler of the past must not speak for the ELR
                    part.pop("initial_lr", None)
                groups.append(part)
                owners.append(owner)
        self.optimizer.param_groups[:] = groups
        return owners

    # -- the rate ------------------------------------------------------------------------------------------------------

    @property
    def elr(self) -> float:
        """The ELR of the next step (of the first sphere, should a scheduler treat them differently)."""
        if self._elr is not None:
            return _check_elr(self._elr(self._steps), zero=True)
        index = next(i for i, unit in enumerate(self._unit_of_group) if unit is not None)
        return float(self.param_groups[index]["lr"])

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._steps

    def learning_rate(self, unit: int, elr: float) -> float:
        """The learning rate that acts as ``elr`` on the sphere of ``unit``: ``elr rho^2`` or ``elr rho`` by the law."""
        radius = self.units[unit].radius
        return elr * radius * radius if self.law == "sgd" else elr * radius

    def _push_rates(self) -> None:
        inner = self.optimizer.param_groups
        scheduled = None if self._elr is None else _check_elr(self._elr(self._steps), zero=True)
        elr_of_unit: dict[int, float] = {}
        for i, unit in enumerate(self._unit_of_group):
            group = self.param_groups[i]
            if inner[i]["lr"] is not self._pushed[i] and inner[i]["lr"] != self._pushed[i]:
                raise UserError(
                    f"the lr of the wrapped optimizer was changed from {self._pushed[i]} to {inner[i]['lr']} by something else; "
                    "attach the scheduler to the Sphere: there it schedules the ELR"
                )
            if unit is None:
                inner[i]["lr"] = group["lr"]
            else:
                if scheduled is not None:
                    if group["lr"] != self._last_elr[i]:
                        raise UserError("the ELR is a function of the step and a scheduler changes it as well; use one of the two")
                    group["lr"] = self._last_elr[i] = scheduled
                elr = _check_elr(group["lr"], zero=True)
                if elr_of_unit.setdefault(unit, elr) != elr:
                    raise UserError(
                        f"one sphere ({self.units[unit].name}) got the two ELRs {elr_of_unit[unit]} and {elr}; "
                        "use granularity 'group' for different rates"
                    )
                rate = self.learning_rate(unit, elr)
                present = inner[i]["lr"]
                if isinstance(present, Tensor):
                    present.fill_(rate)
                else:
                    inner[i]["lr"] = rate
            self._pushed[i] = inner[i]["lr"]

    # -- the step ------------------------------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of the wrapped optimizer at the present ELR, then back to the spheres.

        ``closure``, if given, is called once before the step, as by the wrapped optimizers themselves.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._push_rates()
        with torch.no_grad():
            keep = self._check_gradients() if self.check == "step" else None
            self.optimizer.step()
            self._return_to_spheres(keep)
        self._steps += 1
        if self.check == "deferred" and self._steps % _DEFERRED_CHECK_EVERY == 0:
            self.check_now()
        return loss

    def _check_gradients(self) -> list[Tensor] | None:
        """Refuse non-finite gradients; for a step so large that it may overflow return a copy of the weights."""
        worst = 0.0
        for index, unit in enumerate(self.units):
            gradients = [p.grad for p in unit.parameters if p.grad is not None]
            if not gradients:
                continue
            size = float(geometry.norm(gradients))
            if not math.isfinite(size):
                self._name_culprit(unit, "gradient", [p.grad for p in unit.parameters])
            rate = float(next(g["lr"] for g, u in zip(self.optimizer.param_groups, self._unit_of_group) if u == index))
            worst = max(worst, rate * size / unit.radius if self.law == "sgd" else rate / unit.radius)
        if worst < _RISKY_STEP:
            return None
        return [p.clone() for unit in self.units for p in unit.parameters]

    def _name_culprit(self, unit: Unit, what: str, tensors: Sequence[Tensor | None]) -> None:
        for name, tensor in zip(unit.names, tensors):
            if tensor is not None and not bool(torch.isfinite(tensor).all()):
                raise StateError(f"the {what} of {name} (shape {tuple(tensor.shape)}) is not finite at step {self._steps}")
        raise StateError(f"the norm of the {what} of {unit.name} is not a finite number at step {self._steps}")

    def _return_to_spheres(self, keep: list[Tensor] | None) -> None:
        failed: Unit | None = None
        for unit in self.units:
            weights = list(unit.parameters)
            if self.granularity == "row":
                sizes = _row_norms(weights[0])
                good = (torch.isfinite(sizes) & (sizes > 0)).all()
            else:
                sizes = geometry.norm(weights)
                good = torch.isfinite(sizes) & (sizes > 0)
            if self.check == "step":
                if not bool(good):
                    failed = unit
                    break
            else:
                self._bad = ~good if self._bad is None else self._bad.to(good.device) | ~good
            scale = unit.radius / sizes
            if self.granularity == "row":
                weights[0].mul_(scale)
            else:
                torch._foreach_mul_(weights, scale)
            self._transport(unit)
        if failed is not None:
            if keep is not None:
                everything = [p for unit in self.units for p in unit.parameters]
                torch._foreach_copy_(everything, keep)
            raise StateError(
                f"the step {self._steps} leaves {failed.name} with a zero or non-finite norm "
                f"(ELR {self.elr:g}); " + ("the weights are as they were" if keep is not None else "the weights are lost")
            )

    def _transport(self, unit: Unit) -> None:
        """Project averaged gradients on the new tangent space and rescale them to the norm they had."""
        state = self.optimizer.state
        for key in _GRADIENT_AVERAGES:
            held = [(p, state[p][key]) for p in unit.parameters if p in state and state[p].get(key) is not None]
            if not held:
                continue
            weights, buffers = [p for p, _ in held], [b for _, b in held]
            if self.granularity == "row":
                weight, buffer = weights[0], buffers[0]
                before = _row_norms(buffer)
                dims = tuple(range(1, weight.ndim))
                buffer.sub_(weight * ((buffer * weight).sum(dims, keepdim=True) / unit.radius**2))
                after = _row_norms(buffer)
                buffer.mul_(torch.where(after > 0, before / after, torch.ones_like(after)))
            else:
                before = geometry.norm(buffers)
                geometry.project_tangent_(buffers, weights)
                after = geometry.norm(buffers)
                torch._foreach_mul_(buffers, torch.where(after > 0, before / after, torch.ones_like(after)))

    def check_now(self) -> None:
        """Wait for the device and raise :class:`StateError` if any step since the last check met a bad norm."""
        if self._bad is not None and bool(self._bad):
            self._bad = None
            raise StateError(
                f"a weight lost its finite, non-zero norm within the {_DEFERRED_CHECK_EVERY} steps before step {self._steps}; "
                "use check='step' to stop before the step that does it"
            )
        self._bad = None

    # -- the rest of an optimizer ---------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the wrapped optimizer's."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with a scale of their own; wrapped tensors are chosen at construction only."""
        if not self._constructing:
            self.optimizer.add_param_group(param_group)
            added = self.optimizer.param_groups[-1]
            self._unit_of_group.append(None)
            self._pushed.append(added["lr"])
            self._last_elr.append(added["lr"])
            param_group = {"params": list(added["params"]), "lr": added["lr"]}
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, exactly: the wrapped optimizer's state, the ELRs, the radii, the step count."""
        self.check_now()
        options = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        return {
            "optimizer": self.optimizer.state_dict(),
            "sphere": {
                "steps": self._steps,
                "law": self.law,
                "granularity": self.granularity,
                "radii": [unit.radius for unit in self.units],
                "groups": options,
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, on a Sphere built the same way."""
        try:
            inner, own = state_dict["optimizer"], state_dict["sphere"]
            radii, options = own["radii"], own["groups"]
            shape = (own["law"], own["granularity"], len(radii), len(options))
        except (KeyError, TypeError) as error:
            raise UserError(f"this is not the state of a Sphere: {error!r} is missing") from error
        mine = (self.law, self.granularity, len(self.units), len(self.param_groups))
        if shape != mine:
            raise UserError(f"the state is of a Sphere with (law, granularity, spheres, groups) = {shape}, this one has {mine}")
        self.optimizer.load_state_dict(inner)
        self.units = [
            Unit(unit.name, unit.names, unit.parameters, float(radius)) for unit, radius in zip(self.units, radii)
        ]
        for group, saved in zip(self.param_groups, options):
            group.update(saved)
        self._steps = int(own["steps"])
        self._pushed = [g["lr"] for g in self.optimizer.param_groups]
        self._last_elr = [g["lr"] for g in self.param_groups]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __repr__(self) -> str:
        spheres = ", ".join(f"{unit.name} (rho {unit.radius:.4g}, {len(unit.parameters)} tensors)" for unit in self.units[:4])
        more = f", and {len(self.units) - 4} more" if len(self.units) > 4 else ""
        return f"Sphere({type(self.optimizer).__name__}, elr={self.elr:g}, law={self.law}, {self.granularity}: {spheres}{more})"


def _row_norms(tensor: Tensor) -> Tensor:
    """Norms along the first dimension, in a shape that broadcasts against ``tensor``."""
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)


def _tensor_names(named: Mapping[str, Sequence[Tensor]]) -> tuple[str, ...]:
    """One name a tensor: its group's, with the position where the group has several."""
    return tuple(
        name if len(tensors) == 1 else f"{name}[{i}]" for name, tensors in named.items() for i in range(len(tensors))
    )


def _check_elr(elr: float, *, zero: bool = False) -> float:
    """``zero``: the end of a schedule may be 0, a constant ELR may not."""
    value = float(elr)
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise UserError(f"ELR {value} is not a positive finite number; typical values lie between 1e-5 and 1")
    return value
