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
- ``row``, ``column``: every row (output filter, neuron; first dimension) or column (second dimension) on its own
  sphere; ``block`` with ``split=n``: n equal runs of rows (heads, the three parts of a fused qkv). A
  :class:`~scaleinv.sphere.Cut` says anything else (experts in one tensor, a part of a tensor), and a mapping gives
  every group a granularity of its own. One learning rate serves a whole tensor only if its pieces have one norm, so on
  wrapping every piece is scaled to the root mean square of the norms of the pieces; the norm of the tensor is
  unchanged. The pieces must be scale-invariant one by one: a norm over channels (batch norm) gives that to rows, a norm
  over features (layer norm) to none. What ``find_symmetries`` found of these very tensors is remembered, and another
  dimension is refused. Refused as well: groups of several tensors, tensors of fewer than two dimensions and optimizers
  that treat a matrix as a whole (Muon).

Projection. ``exact`` measures the norm at every step; a step of plain SGD is balanced (:mod:`scaleinv.sphere.balance`),
so that it comes out on the sphere and the projection costs no pass of its own. ``folded`` trusts that and measures once
in ``correct_every`` steps (SGD and weights that are scale-invariant only). ``literal`` follows the formula operation by
operation, a few times slower; it differs from ``exact`` in the last bits.

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
``torch.autocast`` the weights are float32, as they should be; with ``masters=True`` weights in bfloat16 or float16 are
the roundings of float32 copies, which lie on the spheres.

Distributed. Under DDP nothing changes. Of a DTensor (FSDP2 and tensor parallelism) every process moves its shard, and
norms are sums over the shards: wrap after ``fully_shard`` or ``parallelize_module``.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import StateError, UserError
from scaleinv.sphere import hyperball, state
from scaleinv.sphere.balance import Balance, refuse_folding
from scaleinv.sphere.cut import Cut, cuts_of
from scaleinv.sphere.grow import GrowingSphere
from scaleinv.sphere.learned import Radii
from scaleinv.sphere.masters import Masters
from scaleinv.sphere.rate import Elr
from scaleinv.sphere.refuse import (
    OWNERS,
    check_membership,
    refuse_inexact,
    refuse_other_dimension,
    refuse_overlap,
)
from scaleinv.sphere.ruler import Ruler
from scaleinv.sphere.step import leave_steps_out_of_graphs
from scaleinv.sphere.traits import choose_law, traits_of
from scaleinv.sphere.units import Groups, Radius, Unit, check_elr, named_groups, split_groups
from scaleinv.theory.rates import Law


class Sphere(GrowingSphere):
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
        granularity: ``total``, ``group``, ``tensor``, ``row``, ``column``, ``block``, a
            :class:`~scaleinv.sphere.Cut`, or a mapping from the names of the groups to these; see the module's text.
        split: for ``block``: how many equal blocks the first dimension has; a number, or one for each group by name.
        law: ``sgd`` or ``normalised``; needed only where :mod:`scaleinv.theory.optimizers` does not know the optimizer.
        radius: put every sphere at this radius first (the network's function does not change); default: as it is.
        normalise_update: fix the size of the step as well. True: every step turns every sphere by ``elr`` radians.
            ``published``: the form of the hyperball papers (:mod:`scaleinv.sphere.hyperball`). Pieces keep norms of
            their own, and the law plays no part.
        learn_radius: train the radii too, at this rate of their logarithms (:mod:`scaleinv.sphere.learned`).
        projection: ``exact``, ``folded`` or ``literal``; see the module's text.
        correct_every: ``folded`` measures norms once in so many steps; :attr:`drift` is the largest error it found.
        zero: what to do with weights whose norm is zero: ``refuse``, or ``wait`` for the direction of their first step
            (their ``radius`` must be given).
        masters: train float32 copies of the optimizer's parameters in half precision.
        claimed: refuse pieces that :func:`~scaleinv.find_symmetries` found not to be free. False: fix their norms
            nevertheless.
        check: ``step`` looks for non-finite gradients before every step and for zero or non-finite norms after it, and
            can take a step back; ``deferred`` cannot, and reads a flag once in 100 steps, without waiting for the
            device in between. Default: ``step`` on a CPU, else ``deferred``.

    Raises:
        UserError: for arguments that make no sense (each says why).
        StateError: from :meth:`step`: a gradient is not finite, or the step leads to a norm that is zero or not finite.
            With ``check="step"`` all weights are as they were before the step, bit for bit; where a gradient was the
            reason, the optimizer's averages are as well.

    >>> import torch
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
        granularity: str | Cut | Mapping[str, str | Cut] = "total",
        split: int | Mapping[str, int] | None = None,
        law: str | None = None,
        radius: Radius = None,
        normalise_update: hyperball.Normalise = False,
        learn_radius: float | None = None,
        projection: Literal["exact", "folded", "literal"] = "exact",
        correct_every: int = 16,
        zero: Literal["refuse", "wait"] = "refuse",
        masters: bool = False,
        claimed: bool = True,
        check: Literal["step", "deferred"] | None = None,
    ) -> None:
        if isinstance(optimizer, Sphere) or not isinstance(optimizer, Optimizer):
            hint = "pass all groups to one Sphere" if isinstance(optimizer, Sphere) else "pass a torch.optim optimizer"
            raise UserError(f"a {type(optimizer).__name__} cannot be wrapped; {hint}")
        leave_steps_out_of_graphs()
        hyperball.check_normalise(normalise_update)
        _check_words(check=check, projection=projection, zero=zero)
        if isinstance(correct_every, bool) or not isinstance(correct_every, int) or correct_every < 1:
            raise UserError(f"correct_every={correct_every!r}: a whole number of steps, at least 1")
        named = named_groups(groups)
        word, cuts = cuts_of(granularity, split, list(named))
        known = traits_of(optimizer)
        if normalise_update and law is None and known.law is None:
            law = "normalised"  # decides nothing but what becomes of averages
        self.law: Law = choose_law(optimizer, law)
        #: optimizer state that averages gradients and so has to follow the weights around the sphere
        self._averages = known.gradient_averages
        self.granularity, self.projection, self.normalise_update = word, projection, normalise_update
        self.correct_every, self._keep_pieces = correct_every, bool(normalise_update or learn_radius is not None)
        self._zero, self._claimed = zero, claimed
        number = isinstance(learn_radius, (int, float)) and math.isfinite(learn_radius) and learn_radius > 0
        if learn_radius is not None and not number:
            raise UserError(f"learn_radius {learn_radius} is not a positive rate; leave it out to keep the radii")
        if learn_radius is not None and known.matrix_wise:
            kind = type(optimizer).__name__
            raise UserError(f"learn_radius gives {kind} radii to train, which are no matrices; wrap an AdamW for these")
        refuse_overlap(named)
        refuse_inexact(optimizer, named, cuts, word, masters)
        check_membership(optimizer, named)
        if claimed and not self._keep_pieces:
            refuse_other_dimension(named, cuts)
        OWNERS.refuse_wrapped(optimizer)
        if projection == "folded":
            refuse_folding(optimizer, cuts, plain=not self._keep_pieces)
        first = check_elr(elr(0) if callable(elr) else elr)
        self.optimizer = optimizer
        self._elr = elr if callable(elr) else None
        self._steps = 0
        self.drift = 0.0
        #: float32 copies of weights in half precision
        self.masters = Masters(optimizer) if masters else None
        self.units: list[Unit] = []
        self._rulers: list[Ruler] = []
        self._balances: list[Balance] = []
        self._unit_of_group: list[int | None] = []
        try:
            self._make(named, cuts, word, radius)
        except (UserError, StateError):
            if self.masters is not None:
                self.masters.undo(optimizer)
            raise
        tensors = [t for unit in self.units for t in unit.parameters]
        self.check = check or ("step" if all(t.device.type == "cpu" for t in tensors) else "deferred")
        self._bad: Tensor | None = None
        self._kept: list[Tensor] | None = None
        #: for every inner param group the index of its unit, None for weights with a scale of their own
        self._unit_of_group = split_groups(optimizer, self.units)
        self._sizes = hyperball.Sizes(optimizer) if normalise_update else None
        self.learned: Radii | None = None
        if learn_radius is not None:
            self.learned = Radii(self.units, self._rulers)
            self._add_logs(self.learned.logs, learn_radius)
        self._constructing = True
        super().__init__(self._mirror(0, first), {"lr": first})
        self._constructing = False
        self._last_elr: list[float] = [g["lr"] for g in self.param_groups]
        self._pushed: list[float | None] = self._present_rates()
        self._known_owners = OWNERS.take(self, optimizer, tensors)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, as the wrapped optimizer does."""
        self.optimizer.zero_grad(set_to_none)
        if self.masters is not None:
            super().zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Give all that a resumed run needs: the wrapped optimizer's state, the ELRs, the radii, the step count."""
        self.check_now()
        return state.write(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, on a Sphere built the same way; nothing changes where it is refused."""
        state.read(self, state_dict)

    def __getstate__(self) -> dict[str, Any]:
        # as torch's optimizers: without hooks, and without the "step" by which a scheduler replaces the method: in a
        # copy that would step the original
        dropped = ("step", "_kept")
        kept = {k: v for k, v in self.__dict__.items() if k not in dropped and not k.startswith("_optimizer_")}
        return {**kept, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        leave_steps_out_of_graphs()
        super().__setstate__(state)

    def __repr__(self) -> str:
        shown = [f"{unit.name} (rho {unit.radius:.4g}, {len(unit.parameters)} tensors)" for unit in self.units[:4]]
        if len(self.units) > 4:
            shown.append(f"and {len(self.units) - 4} more")
        kind, spheres = type(self.optimizer).__name__, ", ".join(shown)
        return f"Sphere({kind}, elr={self.elr:g}, law={self.law}, {self.granularity}: {spheres})"


def _check_words(**given: str | None) -> None:
    allowed = {
        "check": ("step", "deferred"),
        "projection": ("exact", "folded", "literal"),
        "zero": ("refuse", "wait"),
    }
    for name, value in given.items():
        if value not in allowed[name] and not (name == "check" and value is None):
            raise UserError(f"unknown {name} {value!r}; choose one of: {', '.join(allowed[name])}")
