"""What a run is: a frozen dataclass whose hash is the run's name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaleinv.errors import UserError
from scaleinv.theory.guessing import chance_error, constant_loss

#: changed whenever the same config would give other numbers
FORMAT = 3

#: torch refuses a factor beyond float32, 3e38; on the sphere it is elr rho^2
LARGEST_RATE = 1e30
EVALUATION_MODES = ("exact", "online")
OPTIMIZERS = ("sgd", "adam", "adamw")
GRADIENTS = ("batch", "full", "accumulate")
#: decided by the images, the labels and the loss, so no part of the identity or of what makes two configs differ
DERIVED = ("classes", "chance_error", "constant_loss")
#: of the package's own data sets, for configs that were written before their classes were part of them
_OWN_CLASSES = {"digits": 10, "mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, and nothing else. :func:`resolve` builds it and fills defaults."""

    data: str
    data_fingerprint: str  # of the images and labels used
    model: str
    variant: str  # si | standard
    normalization: str  # batch | layer | group | weight
    norm_eps: float
    width: int
    head_norm: float
    loss: str  # ce | mse
    batch_size: int
    steps: int  # the horizon, in optimizer steps
    elr: float | None  # on the sphere ...
    lr: float | None  # ... or in the whole space
    other_lr: float | None  # of weights with a scale of their own; None: lr
    optimizer: str  # sgd | adam (weight decay in the gradient) | adamw (decoupled)
    momentum: float  # of sgd
    weight_decay: float  # in the whole space only
    gradient: str  # batch | full (one step an epoch, full-batch BN) | accumulate (one step an epoch, BN by mini-batch)
    schedule: str  # of the rate over the horizon, see lab/schedule.py
    warmup: int  # steps over which the rate rises linearly
    fix_norm: bool  # in the whole space: back to the initial norm after every step
    radius: float | None  # initial norm of the scale-invariant weights; None: as drawn
    start: str | None  # sha256 of the weights it starts from; None: as drawn
    granularity: str
    subset: int | None
    label_noise: float
    augment: bool
    seed: int  # of the initialisation, the head, the batch order, the noise and the augmentation
    evaluation: str  # exact | online
    eval_every: int | None  # epochs; None: log-spaced
    recompute_bn: bool  # test metrics with recomputed BN statistics at every evaluation (always at the last)
    record_steps: bool  # keep loss, rho^2, g and angle of every step
    keep_every: int | None  # epochs between weights that are kept; None: the last alone
    threads: int  # reductions are split over threads, so their number is part of the numbers
    classes: int = field(compare=False)
    chance_error: float | None = field(compare=False)  # of the best constant answer; None: not known
    constant_loss: float | None = field(compare=False)  # of the best constant answer; None: not known for this loss

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):  # 1 and 1.0 are one config
            value = getattr(self, one.name)
            if "float" in str(one.type) and type(value) is int:
                object.__setattr__(self, one.name, float(value))

    def identity(self) -> str:
        """The run's name: a hash over all fields but the derived ones and the format's version; 16 hex digits."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in DERIVED}
        text = json.dumps({"format": FORMAT, **fields}, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any], where: str = "config.json") -> RunConfig:
        """The inverse of :meth:`to_dict`; refuses unknown, missing, mistyped and non-finite values."""
        known, fields = {f.name: f for f in dataclasses.fields(cls)}, complete(fields)
        for name in fields:
            if name not in known:
                raise UserError(f"{where}: unknown field {name!r}; was it written by another version of scaleinv?")
        for name, one in known.items():
            if name == "classes" and name not in fields:
                raise UserError(
                    f"{where}: field 'classes' is missing, and {fields.get('data')!r} is no data set of scaleinv: "
                    'add the number of classes to "config", as "classes": N'
                )
            if name not in fields:
                raise UserError(f"{where}: field {name!r} is missing; was it written by another version of scaleinv?")
            _check_type(where, name, fields[name], str(one.type))
        return cls(**fields)


def complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json, with those of DERIVED that are not there and follow from the others.

    An older config has none of them. Its classes are known if its data set is one of the package's own; taken as
    equally frequent they decide, with the name of the loss, the rest. A field that is there is left as it is, null too.
    """
    found = dict(fields)
    data, classes = found.get("data"), found.get("classes")
    if "classes" not in found and isinstance(data, str) and data in _OWN_CLASSES:
        found["classes"] = classes = _OWN_CLASSES[data]
    if type(classes) is int and classes >= 2:
        found.setdefault("chance_error", chance_error(classes))
        if isinstance(found.get("loss"), str):
            found.setdefault("constant_loss", constant_loss(found["loss"], classes))
    return found


def _check_type(where: str, name: str, value: Any, kind: str) -> None:
    allowed = [part.strip() for part in kind.split("|")]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {name} is {value}, not a finite number; mend the file or start in another folder")
    actual = "None" if value is None else type(value).__name__
    if actual == "int" and "float" in allowed:
        return
    if actual not in allowed:
        raise UserError(f"{where}: {name} is {value!r}; a value of type {kind} is needed")


def check(config: RunConfig) -> None:
    """Refuse values that make no sense, each in one line."""
    from scaleinv.lab.losses import get_loss
    from scaleinv.lab.schedule import parse_schedule
    from scaleinv.sphere import GRANULARITIES

    get_loss(config.loss)
    if (config.elr is None) == (config.lr is None):
        raise UserError("give one of --elr (train on the sphere) and --lr (train in the whole space)")
    for name, value in (("elr", config.elr), ("lr", config.lr)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} {value} is not a positive number")
        if value is not None and value > LARGEST_RATE:
            raise UserError(f"{name} {value:g} is beyond float32 weights; choose at most {LARGEST_RATE:g}")
    for name, number in (("other-lr", config.other_lr), ("weight-decay", config.weight_decay)):
        if number is not None and not 0 <= number <= LARGEST_RATE:  # NaN fails too
            raise UserError(f"{name} {number} is not a number from 0 to {LARGEST_RATE:g}")
    if config.other_lr is None and config.lr is None:
        raise UserError("other-lr is missing: on the sphere there is no --lr to stand for it")
    if config.elr is not None and config.weight_decay:
        raise UserError(
            f"weight decay {config.weight_decay} on the sphere only sets another ELR; "
            "leave it out, or use --lr for the whole space"
        )
    if not 0 <= config.momentum < 1:
        raise UserError(f"momentum {config.momentum} is not in [0, 1)")
    if config.optimizer not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {config.optimizer!r}; choose one of: {', '.join(OPTIMIZERS)}")
    if config.momentum and config.optimizer != "sgd":
        raise UserError(f"momentum {config.momentum} is SGD's; {config.optimizer} averages with betas 0.9 and 0.999")
    if config.gradient not in GRADIENTS:
        raise UserError(f"unknown gradient {config.gradient!r}; choose one of: {', '.join(GRADIENTS)}")
    parse_schedule(config.schedule)
    if not 0 <= config.warmup <= config.steps:
        raise UserError(f"warmup {config.warmup} is not a number of steps from 0 to the horizon, {config.steps}")
    if config.fix_norm and config.elr is not None:
        raise UserError("fix-norm is for the whole space (--lr): on the sphere (--elr) the norm is fixed anyway")
    if config.radius is not None and not (math.isfinite(config.radius) and config.radius > 0):
        raise UserError(f"norm {config.radius} is not a positive number; give the norm the weights shall start with")
    if config.granularity not in GRANULARITIES:
        raise UserError(f"unknown granularity {config.granularity!r}; choose one of: {', '.join(GRANULARITIES)}")
    if config.evaluation not in EVALUATION_MODES:
        raise UserError(f"unknown evaluation mode {config.evaluation!r}; choose exact or online")
    for name, count in (("steps", config.steps), ("batch-size", config.batch_size), ("threads", config.threads)):
        least = 2 if name == "batch-size" else 1
        if count < least:
            raise UserError(f"{name} {count} is less than {least}")
    if config.classes < 2:
        raise UserError(f"classes {config.classes}: a data set needs at least two classes to tell apart")
    if config.chance_error is not None and not 0 < config.chance_error < 1:
        raise UserError(f"chance error {config.chance_error} is not a fraction between 0 and 1")
    if config.constant_loss is not None and not 0 < config.constant_loss < math.inf:
        raise UserError(f"constant loss {config.constant_loss} is not a positive number")
    for name, every in (("eval-every", config.eval_every), ("keep-every", config.keep_every)):
        if every is not None and every < 1:
            raise UserError(f"{name} {every} is not a positive number of epochs")
    if not 0 <= config.seed < 2**63:
        raise UserError(f"seed {config.seed} is impossible; choose 0 to 2^63 - 1")
