r"""Train on the sphere: the effective learning rate (ELR) is the hyper-parameter, the norm never moves.

:class:`Sphere` wraps a torch optimizer. Before a step it sets the learning rate of the wrapped weights from the ELR by
the law of the optimizer; after the step it returns them to their sphere (Kodryan et al. 2022, eq. 6)::

    x_hat = x - lr * update(x),    x' = x_hat * rho / ||x_hat||

Law. ``lr = elr rho^2`` by the law ``sgd``, where the gradient grows as 1/rho (SGD with or without momentum), and
``lr = elr rho`` by the law ``normalised``, where the update does not grow with the gradient (Adam and kin, Lion, Muon).
The ELR then decides the path on the sphere whatever its radius, up to the ``eps`` of the optimizer (and except for the
first five steps of RAdam, which are plain momentum).

Granularity (what lies on one sphere):

- ``total``: all wrapped tensors together, the papers' case. The individual ELRs of the groups move freely.
- ``group``: every group on its own sphere; all groups get the same ELR.
- ``tensor``: every tensor on its own sphere; refused for groups of several tensors, which have only one scale in
  common.
- ``row``: every row (output filter, neuron; first dimension) on its own sphere. One learning rate serves a whole tensor
  only if its rows have one norm, so on wrapping every row is scaled to the root mean square of the row norms of its
  tensor; the norm of the tensor is unchanged. The rows must be scale-invariant one by one, which a norm over channels
  (batch norm) gives and a norm over features (layer norm) does not: ask ``find_symmetries(model, inputs).row``. Refused
  for groups of several tensors, for tensors of fewer than two dimensions and for optimizers that treat a matrix as a
  whole (Muon).

Momentum. By the law ``sgd`` a buffer that averages gradients (``momentum_buffer``, ``exp_avg``) belongs to the tangent
space of the old point. After the step it is projected on the tangent space at the new point and rescaled to the norm it
had. For SGD with momentum (without Nesterov's) this is exact parallel transport along the step, with Nesterov's up to
second order in the angle. By the law ``normalised`` the averages are left alone: their entries are divided by their own
size (Adam) or reduced to a sign (Lion), and a multiple of the weights taken off an entry that never had a gradient
would become a full step. Their radial part is of the order of the angle turned within their memory, and the step is
pressed back to the sphere anyway. Second moments need nothing: the radius, hence their unit, has not changed.

Param groups. Those of the wrapped optimizer are split so that no group holds tensors of two spheres; every part keeps
all options of the group it comes from. ``sphere.param_groups`` mirrors them one to one and holds the ELR of wrapped
groups (``lr`` of the others) under ``"lr"``; other options (momentum, betas, ...) are read and changed in
``sphere.optimizer.param_groups``.

Weights must be float32 or float64: half precision rounds away what the sphere is there to control. Under
``torch.autocast`` the weights are float32, as they should be.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv import geometry
from scaleinv.errors import StateError, UserError
from scaleinv.sphere.traits import choose_law, traits_of
from scaleinv.sphere.units import (
    GRANULARITIES,
    Groups,
    Unit,
    check_elr,
    check_membership,
    make_units,
    named_groups,
    refuse_inexact,
    split_groups,
)
from scaleinv.theory.rates import Law
from scaleinv.theory.rates import lr as learning_rate_of

#: a projection shorter than so many roundings of what it projects has no direction
_ROUNDINGS = 16
_LARGEST_RATE = 3.4e38
#: on an accelerator the flag that something went wrong is read once in so many steps
_DEFERRED_CHECK_EVERY = 100

Elr = float | Callable[[int], float]


class Sphere(Optimizer):
    r"""Keep groups of scale-invariant weights on spheres while a torch optimizer trains them.

    Args:
        optimizer: any ``torch.optim`` optimizer that holds the wrapped tensors. Its own ``lr`` of these is ignored from
            now on, that of all other parameters is kept. Its param groups are split so that every sphere has a group
            of its own; other options of the groups are copied. Weight decay on wrapped tensors is refused.
        groups: scale-invariant tensors: a mapping from names to lists of tensors, or a list of tensors or of lists.
        elr: the effective learning rate, in 1/step for unit gradients at the unit sphere: a number > 0, or a function
            of the number of steps done. It stands in ``sphere.param_groups[i]["lr"]``, so a torch LR scheduler attached
            to the *Sphere* schedules it (and the plain ``lr`` of the other groups; give ``LambdaLR`` a list of
            functions to treat them apart). A scheduler on the wrapped optimizer is refused.
        granularity: ``total``, ``group``, ``tensor`` or ``row``; see the module's text.
        law: ``sgd`` or ``normalised``; needed only where :mod:`scaleinv.theory.optimizers` does not know the optimizer.
        radius: put every sphere at this radius first (the network's function does not change); default: as it is.
        check: ``step`` looks for non-finite gradients before every step and for zero or non-finite norms after it, and
            keeps a copy of the weights to go back to; ``deferred`` keeps none and reads a flag once in 100 steps,
            without waiting for the device in between. Default: ``step`` on a CPU, else ``deferred``.

    Raises:
        UserError: for arguments that make no sense (each says why).
        StateError: from :meth:`step`: a gradient is not finite, or the step leads to a norm that is zero or not finite.
            With ``check="step"`` all weights are as they were before the step, bit for bit; where a gradient was the
            reason, the optimizer's averages are as well.

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
        groups: Groups,
        elr: Elr,
        *,
        granularity: str = "total",
        law: str | None = None,
        radius: float | None = None,
        check: Literal["step", "deferred"] | None = None,
    ) -> None:
        if isinstance(optimizer, Sphere) or not isinstance(optimizer, Optimizer):
            hint = "pass all groups to one Sphere" if isinstance(optimizer, Sphere) else "pass a torch.optim optimizer"
            raise UserError(f"a {type(optimizer).__name__} cannot be wrapped; {hint}")
        if granularity not in GRANULARITIES:
            raise UserError(f"unknown granularity {granularity!r}; choose one of: {', '.join(GRANULARITIES)}")
        if check not in (None, "step", "deferred"):
            raise UserError(f"unknown check {check!r}; choose step or deferred")
        named = named_groups(groups)
        self.law: Law = choose_law(optimizer, law)
        #: optimizer state that averages gradients and so has to follow the weights around the sphere
        self._averages = traits_of(optimizer).gradient_averages
        self.granularity = granularity
        refuse_inexact(optimizer, named, granularity)
        check_membership(optimizer, named)
        self.optimizer = optimizer
        self._elr = elr if callable(elr) else None
        self._steps = 0
        first = check_elr(elr(0) if callable(elr) else elr)
        self.units: list[Unit] = make_units(named, granularity, radius)
        tensors = [t for unit in self.units for t in unit.parameters]
        self.check = check or ("step" if all(t.device.type == "cpu" for t in tensors) else "deferred")
        self._bad: Tensor | None = None
        self._kept: list[Tensor] | None = None
        #: for every inner param group the index of its unit, None for weights with a scale of their own
        self._unit_of_group: list[int | None] = split_groups(optimizer, self.units)
        mirror = [
            {"params": list(g["params"]), "lr": first if unit is not None else float(g["lr"])}
            for g, unit in zip(optimizer.param_groups, self._unit_of_group)
        ]
        self._constructing = True
        super().__init__(mirror, {"lr": first})
        self._constructing = False
        self._last_elr: list[float] = [g["lr"] for g in self.param_groups]
        self._pushed: list[float | None] = self._present_rates()

    # -- the rate ------------------------------------------------------------------------------------------------------

    @property
    def elr(self) -> float:
        """The ELR of the next step (of the first sphere, should a scheduler treat them differently)."""
        if self._elr is not None:
            return check_elr(self._elr(self._steps), zero=True)
        index = next(i for i, unit in enumerate(self._unit_of_group) if unit is not None)
        return float(self.param_groups[index]["lr"])

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return self._steps

    def learning_rate(self, unit: int, elr: float) -> float:
        """Compute the learning rate that acts as ``elr`` on a sphere, by :func:`scaleinv.theory.rates.lr`."""
        return float(learning_rate_of(elr, self.units[unit].radius, self.law))

    def _present_rates(self) -> list[float | None]:
        """Read the rates inside the wrapped optimizer; None where reading one would wait for an accelerator."""
        rates = [g["lr"] for g in self.optimizer.param_groups]
        return [None if isinstance(r, Tensor) and r.device.type != "cpu" else float(r) for r in rates]

    def _push_rates(self) -> None:
        inner = self.optimizer.param_groups
        scheduled = None if self._elr is None else check_elr(self._elr(self._steps), zero=True)
        elr_of_unit: dict[int, float] = {}
        for before, now in zip(self._pushed, self._present_rates()):
            if before != now:
                raise UserError(
                    f"the lr of the wrapped optimizer was changed from {before} to {now} by something else; "
                    "attach the scheduler to the Sphere: there it schedules the ELR"
                )
        for i, unit in enumerate(self._unit_of_group):
            group = self.param_groups[i]
            rate = group["lr"]
            if unit is not None:
                if scheduled is not None:
                    if rate != self._last_elr[i]:
                        raise UserError("a function of the step and a scheduler both set the ELR; use one of the two")
                    group["lr"] = self._last_elr[i] = scheduled
                elr = check_elr(group["lr"], zero=True)
                if elr_of_unit.setdefault(unit, elr) != elr:
                    raise UserError(
                        f"one sphere ({self.units[unit].name}) got the two ELRs {elr_of_unit[unit]} and {elr}; "
                        "use granularity 'group' for different rates"
                    )
                rate = self.learning_rate(unit, elr)
                if rate > _LARGEST_RATE:
                    raise UserError(
                        f"ELR {elr:g} at the radius {self.units[unit].radius:g} needs the learning rate "
                        f"{rate:g}, beyond float32; choose a smaller ELR or radius"
                    )
            if isinstance(inner[i]["lr"], Tensor):
                inner[i]["lr"].fill_(rate)
            else:
                inner[i]["lr"] = rate
        self._pushed = self._present_rates()

    # -- the step ------------------------------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step of the wrapped optimizer at the present ELR, then return to the spheres.

        ``closure``, if given, is called once before the step, as by the wrapped optimizers themselves.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._push_rates()
        with torch.no_grad():
            if self.check == "step":
                self._check_gradients()
                self._keep_weights()
            self.optimizer.step()
            self._return_to_spheres()
        self._steps += 1
        if self.check == "deferred" and self._steps % _DEFERRED_CHECK_EVERY == 0:
            self.check_now()
        return loss

    def _check_gradients(self) -> None:
        for unit in self.units:
            named = [(name, p.grad) for name, p in zip(unit.names, unit.parameters) if p.grad is not None]
            # torch's own norm: only whether it is finite matters
            if named and not math.isfinite(torch.stack(torch._foreach_norm([g for _, g in named])).sum().item()):
                what = f"the norm of the gradient of {unit.name} is too large for its dtype"
                for name, gradient in reversed(named):
                    if not bool(torch.isfinite(gradient).all()):
                        what = f"the gradient of {name} (shape {tuple(gradient.shape)}) is not finite"
                raise StateError(f"{what} at step {self._steps}")

    def _keep_weights(self) -> None:
        """Copy all weights, so that a step that ends nowhere can be taken back."""
        weights = [p for g in self.optimizer.param_groups for p in g["params"]]
        if self._kept is None:
            self._kept = [torch.empty_like(w) for w in weights]
        torch._foreach_copy_(self._kept, weights)

    def _sizes(self, tensors: list[Tensor]) -> Tensor:
        """Norm of all, or norms of the rows."""
        return geometry.row_norms(tensors[0]) if self.granularity == "row" else geometry.norm(tensors)

    def _multiply(self, tensors: list[Tensor], factor: Tensor) -> None:
        if self.granularity == "row":
            tensors[0].mul_(factor)
        else:
            torch._foreach_mul_(tensors, factor)

    def _return_to_spheres(self) -> None:
        for unit in self.units:
            weights = list(unit.parameters)
            sizes = self._sizes(weights)
            if self.check != "step":
                good = (torch.isfinite(sizes) & (sizes > 0)).all()
                self._bad = ~good if self._bad is None else self._bad.to(good.device) | ~good
            elif not (sizes.min().item() > 0 and math.isfinite(sizes.max().item())):
                self._take_back(unit)
            self._multiply(weights, unit.radius / sizes)
            if self.law == "sgd":
                self._transport(unit)

    def _take_back(self, unit: Unit) -> None:
        """Name what went wrong, restore all weights, raise."""
        bad = [name for name, w in zip(unit.names, unit.parameters) if not bool(torch.isfinite(w).all())]
        if self._kept is not None:
            torch._foreach_copy_([p for g in self.optimizer.param_groups for p in g["params"]], self._kept)
        raise StateError(
            f"step {self._steps} at ELR {self.elr:g} leaves {(bad or [unit.name])[0]} with a zero or non-finite norm; "
            "the weights are as they were before it, the optimizer's averages are not"
        )

    def _transport(self, unit: Unit) -> None:
        """Project averaged gradients on the new tangent space and rescale them to the norm they had."""
        state = self.optimizer.state
        for key in self._averages:
            held = [(p, state[p][key]) for p in unit.parameters if p in state and state[p].get(key) is not None]
            if not held:
                continue
            weights, buffers = [p for p, _ in held], [b for _, b in held]
            before = self._sizes(buffers)
            if self.granularity == "row":
                weight, buffer = weights[0], buffers[0]
                dims = tuple(range(1, weight.ndim))
                buffer.sub_(weight * ((buffer * weight).sum(dims, keepdim=True) / unit.radius**2))
            else:
                geometry.project_tangent_(buffers, weights)
            after = self._sizes(buffers)
            noise = _ROUNDINGS * torch.finfo(buffers[0].dtype).eps
            self._multiply(buffers, torch.where(after > noise * before, before / after, torch.ones_like(after)))

    def check_now(self) -> None:
        """Wait for the device and raise :class:`StateError` if any step since the last check met a bad norm."""
        if self._bad is not None and bool(self._bad):
            self._bad = None
            raise StateError(
                f"within the {_DEFERRED_CHECK_EVERY} steps before step {self._steps} a norm became zero or not finite; "
                "use check='step' to stop before the step that does it"
            )
        self._bad = None

    # -- the rest of an optimizer -------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, as the wrapped optimizer does."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with a scale of their own; wrapped tensors are chosen at construction only."""
        if not self._constructing:
            self.optimizer.add_param_group(param_group)
            added = self.optimizer.param_groups[-1]
            self._unit_of_group.append(None)
            self._pushed = self._present_rates()
            self._last_elr.append(float(added["lr"]))
            self._kept = None
            param_group = {"params": list(added["params"]), "lr": float(added["lr"])}
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Give all that a resumed run needs: the wrapped optimizer's state, the ELRs, the radii, the step count."""
        self.check_now()
        options: list[dict[str, Any]] = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        for unit, of_group in zip(self._unit_of_group, options):
            if unit is not None:  # an ELR; in param_groups it has to be called lr, which is where schedulers look
                of_group["elr"] = of_group.pop("lr")
        own = {"steps": self._steps, "law": self.law, "granularity": self.granularity}
        radii = [unit.radius for unit in self.units]
        return {"optimizer": self.optimizer.state_dict(), "sphere": {**own, "radii": radii, "groups": options}}

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
            raise UserError(f"the state is of another Sphere: (law, granularity, spheres, groups) {shape}, here {mine}")
        self.optimizer.load_state_dict(inner)
        self._restore_scalars(inner)
        self.units = [replace(unit, radius=float(radius)) for unit, radius in zip(self.units, radii)]
        for group, saved in zip(self.param_groups, options):
            group.update({"lr" if name == "elr" else name: value for name, value in saved.items()})
        self._steps = int(own["steps"])
        self._pushed = self._present_rates()
        self._last_elr = [g["lr"] for g in self.param_groups]

    def _restore_scalars(self, inner: dict[str, Any]) -> None:
        """Undo torch's cast of scalar state to the dtype of the weights: it changes NAdam's path in float64."""
        numbers = [number for group in inner["param_groups"] for number in group["params"]]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for number, p in zip(numbers, parameters):
            for key, value in inner["state"].get(number, {}).items():
                if isinstance(value, Tensor) and value.ndim == 0 and self.optimizer.state[p][key].dtype != value.dtype:
                    self.optimizer.state[p][key] = value.to(self.optimizer.state[p][key].device, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        # as torch's optimizers: without hooks, and without the "step" by which a scheduler replaces the method: in a
        # copy that would step the original
        dropped = ("step", "_kept")
        state = {k: v for k, v in self.__dict__.items() if k not in dropped and not k.startswith("_optimizer_")}
        return {**state, "_kept": None}

    def __repr__(self) -> str:
        shown = [f"{unit.name} (rho {unit.radius:.4g}, {len(unit.parameters)} tensors)" for unit in self.units[:4]]
        if len(self.units) > 4:
            shown.append(f"and {len(self.units) - 4} more")
        kind, spheres = type(self.optimizer).__name__, ", ".join(shown)
        return f"Sphere({kind}, elr={self.elr:g}, law={self.law}, {self.granularity}: {spheres})"
