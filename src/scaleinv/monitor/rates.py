"""How an optimizer treats its tensors: learning rate, weight decay, law and clock, by the traits of its class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.runfolder.files import plain
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of
from scaleinv.theory.known_optimizers import stated
from scaleinv.theory.optimizers import DECAYS
from scaleinv.theory.rates import LAWS
from scaleinv.theory.traits import OptimizerTraits


@dataclass(frozen=True)
class Rates:
    """How the optimizer treats a tensor: learning rate, weight decay, law and where the decay acts."""

    lr: float
    wd: float  # in units of the learning rate: lr wd is what a step takes away, whatever the kind of decay is
    law: str  # sgd | normalised | relative | measured; of a group whose tensors differ: mixed
    direct: bool = True  # the decay is added to the update itself, not passed through a normalisation
    sign: float = 1.0  # -1 for ``maximize``
    pace: float = 1.0  # by how much lr counts in 1/(lr wd), see scaleinv.theory.optimizers
    memory: float = 0.0  # momentum that the decay passes through
    gain: float = 1.0  # 1 - dampening
    nesterov: bool = False

    @property
    def shrink(self) -> float:
        """What decay takes from log rho in a step, in the long run."""
        return self.lr * self.wd * self.pace if self.direct else math.nan


@dataclass(frozen=True)
class Stated:
    """What a user has said of the optimizer instead of what its name says; None: nothing."""

    law: str | None = None
    decay: str | None = None

    def __post_init__(self) -> None:
        if self.law is not None and self.law not in (*LAWS, "measured"):
            raise UserError(f"law={self.law!r}: choose one of: {', '.join((*LAWS, 'measured'))}, or leave it out")
        if self.decay is not None and self.decay not in DECAYS:
            raise UserError(f"decay={self.decay!r}: choose one of: {', '.join(DECAYS)}, or leave it out")

    def traits(self, optimizer: Optimizer, group: Mapping[str, Any] | None = None) -> OptimizerTraits:
        """Give the traits of the optimizer in one of its param groups."""
        return stated(traits_of(engine(optimizer), group), self.law, self.decay)


NOTHING_STATED = Stated()


def common(rates: Sequence[Rates]) -> Rates:
    """Merge the rates of a group's tensors: NaN where they differ; laws that differ are ``mixed``."""
    first = rates[0]
    if all(r is first or r == first for r in rates[1:]):
        return first
    merged: dict[str, Any] = {}
    for name in ("lr", "wd", "sign", "pace", "memory", "gain"):
        values = {getattr(r, name) for r in rates}
        merged[name] = values.pop() if len(values) == 1 else math.nan
    law = first.law if len({r.law for r in rates}) == 1 else "mixed"
    return Rates(law=law, direct=all(r.direct for r in rates), nesterov=first.nesterov, **merged)


#: wrappers that only pass ``step`` on, by the package of their class
_PASS_ON = ("accelerate.", "lightning.", "pytorch_lightning.", "lightning_fabric.")


def unwrap(optimizer: Optimizer) -> Optimizer:
    """Find the optimizer whose ``step`` moves the weights.

    Inside the wrappers of Accelerate and Lightning, and in SAM, whose ``second_step`` calls its ``base_optimizer``. A
    Sphere, a Lookahead and other optimizers that move the weights themselves are taken as they are.
    """
    while not isinstance(optimizer, Sphere):
        inner = getattr(optimizer, "optimizer", None)
        if not (isinstance(inner, Optimizer) and type(optimizer).__module__.startswith(_PASS_ON)):
            inner = getattr(optimizer, "base_optimizer", None)
            if not (isinstance(inner, Optimizer) and hasattr(optimizer, "second_step")):
                break
        optimizer = inner
    return optimizer


def engine(optimizer: Optimizer) -> Optimizer:
    """Find the optimizer that holds learning rates, decay and state: the wrapped one of a Sphere or a Lookahead."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, Optimizer) else optimizer


def law_of(optimizer: Optimizer, said: Stated = NOTHING_STATED) -> str:
    """Name the law: ``sgd``, ``normalised``, ``relative`` or, for an optimizer that is not known, ``measured``."""
    return optimizer.law if isinstance(optimizer, Sphere) else said.traits(optimizer).law or "measured"


class RateBook:
    """Reads how optimizers treat their tensors, and knows what their options do not say: the largest learning rate so
    far, and factors that a step was measured to hide.
    """

    def __init__(self, said: Stated = NOTHING_STATED) -> None:
        self.said = said
        self._largest: dict[tuple[int, int], float] = {}
        #: by (id of the optimizer, place of the param group) what its steps multiply the learning rate by
        self.hidden: dict[tuple[int, int], float] = {}
        # by id of the optimizer: what its options were when its rates were read last, and these
        self._last: dict[int, tuple[Any, dict[int, Rates]]] = {}

    def rates(self, optimizer: Optimizer) -> dict[int, Rates]:
        """Map the id of each tensor to its rates at this moment; the same dict as before where nothing has changed."""
        inner = engine(optimizer)
        options = None if isinstance(optimizer, Sphere) else self._options(inner)
        last = self._last.get(id(inner))
        if last is not None and options is not None and last[0] == options:
            return last[1]
        result: dict[int, Rates] = {}
        for place, group in enumerate(inner.param_groups):
            one = self._of_group(optimizer, (id(inner), place), group)
            result.update(dict.fromkeys(map(id, group["params"]), one))
        self._last[id(inner)] = options, result
        return result

    def _options(self, inner: Optimizer) -> Any:
        """List all that the rates depend on; None where a value may change and stay the same object (a tensor)."""
        found: list[Any] = [list(self.hidden.items())]
        for group in inner.param_groups:
            for name, value in group.items():
                if name == "params":
                    found.append(list(map(id, value)))
                elif all(type(one) in _FIXED for one in (value if type(value) is tuple else (value,))):
                    found.append((name, value))
                elif name != "param_names":
                    return None
        return found

    def _of_group(self, optimizer: Optimizer, key: tuple[int, int], group: Mapping[str, Any]) -> Rates:
        traits = self.said.traits(optimizer, group)
        law = optimizer.law if isinstance(optimizer, Sphere) else traits.law or "measured"
        lr = _number(group.get("lr", math.nan))
        largest = [
            _number(group[k] or 0.0) for k in ("max_lr", "lr_max", "max_lr_snapshot", "initial_lr") if k in group
        ]
        most = self._largest[key] = max([lr, self._largest.get(key, 0.0), *largest])
        factor = 1.0 if traits.rate_factor is None else float(traits.rate_factor(group))
        lr *= factor * self.hidden.get(key, 1.0)
        pace = traits.clock(group)
        if pace is not None and traits.share is not None:
            pace /= traits.share(group)  # wd has it
        memory = 0.0 if traits.decay_memory is None else float(traits.decay_memory(group))
        return Rates(
            lr,
            traits.shrinks(group, lr, _number(group.get("weight_decay", 0.0) or 0.0), most),
            law,
            pace is not None,
            -1.0 if group.get("maximize") else 1.0,
            1.0 if pace is None else pace,
            memory,
            1.0 - _number(group.get("dampening") or 0.0) if memory else 1.0,
            bool(group.get("nesterov")) and memory > 0,
        )


#: types of options whose values do not change within
_FIXED = (int, float, bool, str, type(None))


def _number(value: Any) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def rates(optimizer: Optimizer, said: Stated = NOTHING_STATED) -> dict[int, Rates]:
    """Map the id of each tensor to its rates at this moment."""
    return RateBook(said).rates(optimizer)


def description(optimizer: Optimizer, said: Stated = NOTHING_STATED) -> dict[str, Any]:
    """Describe an optimizer for config.json: its class, law and decay, and every param group's options and clock; of a
    Sphere also its ELR and what lies on one sphere.
    """
    inner = engine(optimizer)
    on_spheres = (
        {id(p) for unit in optimizer.units for p in unit.parameters} if isinstance(optimizer, Sphere) else set()
    )
    groups = []
    for group in inner.param_groups:
        shown = {k: plain(v) for k, v in group.items() if k not in ("params", "param_names") and _simple(v)}
        if any(id(p) in on_spheres for p in group["params"]):
            shown.pop("lr", None)  # it is nobody's: the ELR and the radius decide
            shown["elr"] = plain(getattr(optimizer, "elr", None))
        groups.append({**shown, "clock": plain(said.traits(optimizer, group).clock(group))})
    found: dict[str, Any] = {
        "class": type(inner).__name__,
        "law": law_of(optimizer, said),
        "decay": said.traits(optimizer).decay,
        "groups": groups,
    }
    if isinstance(optimizer, Sphere):
        radii = {unit.name: plain(unit.radius) for unit in optimizer.units}
        found["sphere"] = {"elr": plain(optimizer.elr), "granularity": optimizer.granularity, "radii": radii}
    elif inner is not optimizer:
        found["wrapper"] = type(optimizer).__name__
    return found


def with_factor(rates: Rates, factor: float) -> Rates:
    """Multiply the learning rate."""
    return replace(rates, lr=rates.lr * factor)


def _simple(value: Any) -> bool:
    return isinstance(value, (int, float, bool, str, tuple, list))
