"""Write and read the state of a Sphere: the wrapped optimizer's, the ELRs, the radii, the step count."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.sphere.balance import Carried
from scaleinv.sphere.step import SphereSteps

#: state entries that have the shape of their parameter, by which a state of another network shows itself
_SHAPED = ("momentum_buffer", "exp_avg", "exp_avg_sq")


def _layout(sphere: SphereSteps) -> list[dict[str, Any]]:
    """Describe every unit: the shapes of its tensors and how many pieces they are cut into."""
    return [
        {
            "shapes": [list(p.shape) for p in unit.parameters],
            "pieces": [] if unit.cut is None else list(unit.cut.pieces(tuple(unit.parameters[0].shape))),
        }
        for unit in sphere.units
    ]


def write(sphere: SphereSteps) -> dict[str, Any]:
    """Give the state as plain numbers, lists, dicts and tensors."""
    options: list[dict[str, Any]] = [{k: v for k, v in g.items() if k != "params"} for g in sphere.param_groups]
    for unit, of_group in zip(sphere._unit_of_group, options):
        if unit is not None:  # an ELR; in param_groups it has to be called lr, which is where schedulers look
            of_group["elr"] = of_group.pop("lr")
    own: dict[str, Any] = {"steps": sphere._steps, "law": sphere.law, "granularity": sphere.granularity}
    own["radii"] = [unit.radius for unit in sphere.units]
    own["groups"] = options
    own["layout"] = _layout(sphere)
    if any(unit.waits for unit in sphere.units):
        own["waits"] = [unit.waits for unit in sphere.units]
    if any(unit.radii is not None for unit in sphere.units):
        own["pieces"] = [None if unit.radii is None else unit.radii.clone() for unit in sphere.units]
    if sphere.projection == "folded":
        own["carried"] = [(b.carried.radial, b.carried.square) for b in sphere._balances]
        own["drift"] = sphere.drift
    if sphere.masters is not None:
        own["masters"] = sphere.masters.state()
    if sphere.learned is not None:
        own["log_radii"] = [log.detach().clone() for log in sphere.learned.logs]
    if sphere._sizes is not None:
        own["sizes"] = dict(sphere._sizes.last)
    return {"optimizer": sphere.optimizer.state_dict(), "sphere": own}


def read(sphere: SphereSteps, state_dict: dict[str, Any]) -> None:
    """Restore what :func:`write` gave; everything is looked at before anything is changed."""
    try:
        inner, own = state_dict["optimizer"], state_dict["sphere"]
        radii, options = own["radii"], own["groups"]
        shape = (own["law"], own["granularity"], len(radii), len(options))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"this is not the state of a Sphere: {error!r} is missing; give what Sphere.state_dict() returned"
        ) from error
    mine = (sphere.law, sphere.granularity, len(sphere.units), len(sphere.param_groups))
    if shape != mine:
        raise UserError(
            f"the state is of another Sphere: (law, granularity, spheres, groups) {shape}, here {mine}; "
            "build this one with the same groups and granularity"
        )
    _refuse_layout(sphere, inner, own)
    sphere.optimizer.load_state_dict(inner)
    _restore_scalars(sphere, inner)
    waits = own.get("waits") or [False] * len(radii)
    pieces = own.get("pieces") or [None] * len(radii)
    sphere.units[:] = [
        replace(unit, radius=float(r), waits=w, radii=None if p is None else p.to(unit.parameters[0].device))
        for unit, r, w, p in zip(sphere.units, radii, waits, pieces)
    ]
    for balance, unit, carried in zip(sphere._balances, sphere.units, own.get("carried") or [(0.0, None)] * len(radii)):
        balance.unit, balance.carried = unit, Carried(*carried)
    for group, saved in zip(sphere.param_groups, options):
        group.update({"lr" if name == "elr" else name: value for name, value in saved.items()})
    if sphere.masters is not None:
        sphere.masters.load(own["masters"])
    if sphere.learned is not None:
        for log, value in zip(sphere.learned.logs, own["log_radii"]):
            log.data.copy_(value)
    if sphere._sizes is not None:
        sphere._sizes.last = dict(own.get("sizes") or {})
    sphere.drift = float(own.get("drift", 0.0))
    sphere._steps = int(own["steps"])
    sphere._pushed = sphere._present_rates()
    sphere._last_elr = [g["lr"] for g in sphere.param_groups]


def _refuse_layout(sphere: SphereSteps, inner: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise for a state whose tensors do not fit the weights here."""
    layout = _layout(sphere)
    for unit, stored, here in zip(sphere.units, own.get("layout") or layout, layout):
        if stored != here:
            raise UserError(
                f"the state is of another layout: {unit.name} has shapes {stored['shapes']} in pieces "
                f"{stored['pieces']} there, {here['shapes']} in {here['pieces']} here; load it into a Sphere over the "
                "same tensors"
            )
    groups = sphere.optimizer.param_groups
    stored_groups = inner.get("param_groups", [])
    counts, wanted = [len(g["params"]) for g in stored_groups], [len(g["params"]) for g in groups]
    if counts != wanted:
        raise UserError(
            f"the state is of another layout: param groups of {counts} tensors, here {wanted}; "
            "build the wrapped optimizer over the same parameters in the same groups"
        )
    numbers = [number for group in stored_groups for number in group["params"]]
    parameters = [p for group in groups for p in group["params"]]
    for number, p in zip(numbers, parameters):
        for key, value in inner["state"].get(number, {}).items():
            if key in _SHAPED and isinstance(value, Tensor) and value.shape != p.shape:
                raise UserError(
                    f"the state is of another layout: {key} has the shape {tuple(value.shape)} where a weight of the "
                    f"shape {tuple(p.shape)} is; load it into an optimizer over the same tensors in the same order"
                )
    for key, present in (("masters", sphere.masters), ("log_radii", sphere.learned)):
        if (key in own) != (present is not None):
            word = {"masters": "masters=True", "log_radii": "learn_radius"}[key]
            here_or_there = "there and not here" if key in own else "here and not there"
            raise UserError(f"the state is of another Sphere: {word} is set {here_or_there}; set it alike")


def _restore_scalars(sphere: SphereSteps, inner: dict[str, Any]) -> None:
    """Undo torch's cast of scalar state to the dtype of the weights: it changes NAdam's path in float64."""
    optimizer = sphere.optimizer
    numbers = [number for group in inner["param_groups"] for number in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, p in zip(numbers, parameters):
        for key, value in inner["state"].get(number, {}).items():
            if isinstance(value, Tensor) and value.ndim == 0 and optimizer.state[p][key].dtype != value.dtype:
                optimizer.state[p][key] = value.to(optimizer.state[p][key].device, copy=True)
