"""Put groups of weights on spheres inside the wrapped optimizer: at the start, and groups that come later."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scaleinv.errors import StateError, UserError
from scaleinv.sphere.balance import Balance, refuse_folding
from scaleinv.sphere.cut import Cut, cuts_of
from scaleinv.sphere.refuse import OWNERS, check_membership, refuse_inexact, refuse_other_dimension, refuse_overlap
from scaleinv.sphere.ruler import Ruler
from scaleinv.sphere.step import SphereSteps
from scaleinv.sphere.units import Radius, check_elr, make_units, named_groups, split_groups


class GrowingSphere(SphereSteps):
    """Make the units of groups, mirror the wrapped optimizer's param groups, and take in groups that come later."""

    _zero: str
    _claimed: bool
    _keep_pieces: bool
    _constructing: bool

    def _make(
        self, named: Mapping[str, tuple[Tensor, ...]], cuts: Mapping[str, Cut | None], word: str, radius: Radius
    ) -> None:
        """Append the units of groups, with what measures and balances them."""
        literal = self.projection == "literal"
        if self.masters is not None:
            named = {name: self.masters.of(tensors) for name, tensors in named.items()}
        units = make_units(
            named,
            cuts,
            word,
            radius,
            literal=literal,
            keep_pieces=self._keep_pieces,
            wait=self._zero == "wait",
        )
        self.units += units
        self._rulers += [Ruler(unit.parameters, unit.cut, literal=literal) for unit in units]
        self._balances += [Balance(unit) for unit in units]
        if self.masters is not None:
            self.masters.give_weights()

    def _add_logs(self, logs: Sequence[Tensor], rate: float) -> None:
        group = {k: v for k, v in self.optimizer.param_groups[0].items() if k not in ("params", "param_names", "lr")}
        if any("param_names" in g for g in self.optimizer.param_groups):
            group["params"] = [(f"log radius {len(self._unit_of_group)}.{i}", log) for i, log in enumerate(logs)]
        else:
            group["params"] = list(logs)
        self.optimizer.add_param_group({**group, "lr": rate})
        self._unit_of_group.append(None)

    def _mirror(self, start: int, elr: float) -> list[dict[str, Any]]:
        """Describe the inner param groups from ``start`` on as groups of this optimizer."""
        model = {} if self.masters is None else {id(m): p for p, m in self.masters.pairs}
        groups = []
        for g, unit in list(zip(self.optimizer.param_groups, self._unit_of_group))[start:]:
            params = [model.get(id(p), p) for p in g["params"]]
            groups.append({"params": params, "lr": elr if unit is not None else float(g["lr"])})
            if unit is not None and self.units[unit].rest_lr is not None:
                groups[-1]["rest_lr"] = float(g["lr"])
        return groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters later; with the key ``groups`` (as for the class) some or all of them lie on new spheres.

        - ``param_group``: options of the wrapped optimizer. ``params`` may be left out where ``groups`` has them all.
          Beside ``groups``: ``elr`` (else the present one), ``granularity``, ``split`` and ``radius`` as for the class.
        """
        if self._constructing:
            super().add_param_group(param_group)
            return
        options = dict(param_group)
        own: dict[str, Any] = {
            key: options.pop(key) for key in ("groups", "elr", "granularity", "split", "radius") if key in options
        }
        count = len(self.optimizer.param_groups)
        if "groups" not in own:
            if own:
                raise UserError(f"{next(iter(own))!r} is for weights on spheres; name these under 'groups'")
            self._add_inner(options)
            self._unit_of_group.append(None)
            elr = 0.0
        else:
            elr = check_elr(own.get("elr", self.elr))
            if self._elr is not None and "elr" in own:
                raise UserError("the ELR is a function of the step here; leave 'elr' out")
            self._add_units(options, own)
        for group in self._mirror(count, elr):
            super().add_param_group(group)
            self._last_elr.append(group["lr"])
        self._pushed = self._present_rates()
        self._kept = None

    def _add_inner(self, options: dict[str, Any]) -> None:
        self.optimizer.add_param_group(options)
        if self.masters is not None:
            self.masters.add(self.optimizer, self.optimizer.param_groups[-1])

    def _add_units(self, options: dict[str, Any], own: dict[str, Any]) -> None:
        """Wrap groups that come later; nothing is added where anything is refused."""
        named = named_groups(own["groups"])
        flat = [t for tensors in named.values() for t in tensors]
        options.setdefault("params", flat)
        granularity = own.get("granularity", self.granularity if self.granularity != "mixed" else "group")
        word, cuts = cuts_of(granularity, own.get("split"), list(named))
        mine = {id(p) for unit in self.units for p in unit.parameters}
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(t) in mine for t in flat) or any(id(t) in known for t in flat):
            raise UserError("a tensor that is added is in the Sphere already; name new ones only")
        if not {id(t) for t in flat} <= {id(p) for p in _parameters_in(options["params"])}:
            raise UserError("'groups' names a tensor that is not among 'params'; leave 'params' out or add it there")
        if self.learned is not None:
            raise UserError("learn_radius knows the spheres of the start only; wrap all groups at once")
        decay = options.get("weight_decay", self.optimizer.defaults.get("weight_decay", 0))
        shown = torch.optim.SGD([{"params": flat, "weight_decay": decay}], lr=1.0)  # what the membership check reads
        refuse_overlap(named)
        check_membership(shown, named)
        refuse_inexact(self.optimizer, named, cuts, word, self.masters is not None)
        if self._claimed and not self._keep_pieces:
            refuse_other_dimension(named, cuts)
        if self.projection == "folded":
            refuse_folding(self.optimizer, cuts, plain=not self._keep_pieces)
        count = len(self.units)
        groups_before = len(self.optimizer.param_groups)
        self._add_inner(options)
        try:
            self._make(named, cuts, word, own.get("radius"))
        except (UserError, StateError):
            del self.optimizer.param_groups[groups_before:]
            raise
        if word == "total":
            self.units[count] = replace(self.units[count], name=f"total {count + 1}")
        self._unit_of_group = split_groups(self.optimizer, self.units)
        tensors = [t for unit in self.units for t in unit.parameters]
        self._known_owners = OWNERS.take(self, self.optimizer, tensors)


def _parameters_in(params: Any) -> list[Tensor]:
    flat = [params] if isinstance(params, Tensor) else list(params)
    return [p[1] if isinstance(p, tuple) else p for p in flat]
