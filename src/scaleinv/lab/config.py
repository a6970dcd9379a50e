"""What a run is: a frozen dataclass whose hash is the run's name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset, batches, load_dataset
from scaleinv.lab.losses import get_loss
from scaleinv.lab.models import DEFAULT_WIDTH, MODELS, VARIANTS
from scaleinv.lab.schedule import parse_schedule
from scaleinv.runfolder.files import read_json
from scaleinv.runfolder.layout import _BEFORE_CONFIG, FORMAT
from scaleinv.sphere.units import GRANULARITIES
from scaleinv.theory.guessing import chance_error, constant_loss

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


def read_config(folder: Path) -> RunConfig | None:
    """The config of a run folder; ``None`` where there is none. A damaged file is a :class:`UserError`."""
    path = folder / "config.json"
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise UserError(f"{path} is not the config of a run; choose another --out")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} has the format {content.get('format')}, this version writes {FORMAT}; choose another --out"
        )
    return RunConfig.from_dict(content["config"], str(path))


def _present(folder: Path, config: RunConfig) -> RunConfig | None:
    """The config that is there, if it is this run's; a :class:`UserError` if the folder is anything else."""
    if (folder / "sweep-config.json").exists():
        raise UserError(f"{folder} is the folder of a sweep; choose another --out for a single run")
    present = read_config(folder)
    if present is not None and present != config:
        raise UserError(f"{folder} holds another run ({_difference(present, config)}); choose another --out")
    if present is None and folder.exists():
        if not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder; choose another --out")
        if any(p.name not in _BEFORE_CONFIG for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a run folder; choose another --out")
    return present


def _difference(present: RunConfig, wanted: RunConfig) -> str:
    theirs, ours = present.to_dict(), wanted.to_dict()
    differ = [name for name in ours if theirs[name] != ours[name] and name not in DERIVED]
    parts = [f"{name} {theirs[name]} there, {ours[name]} here" for name in differ]
    return "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "")


DEFAULT_EPOCHS = 60


#: digits are few and small: at batch 128 regime 2 is only a factor 2 of ELR wide, at 16 about 10
_SMALL_BATCH, _BATCH = 16, 128


_SMALL_WIDTH = {"mlp": 64, "convnet": 8, "resnet18": 8}


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """Flags that mean the same to ``train`` and ``sweep``; ``None``: the default of the data set or the model."""

    data: str = "digits"
    """digits (built in), mnist, fashion-mnist, cifar10 or cifar100."""
    data_dir: Path | None = None
    """Folder of the data sets (default: the environment variable SCALEINV_DATA)."""
    subset: int | None = None
    """Train on the first N images only."""
    label_noise: float = 0.0
    """Fraction of train labels redrawn at random."""
    augment: bool = False
    """Random crops (padding 4) and horizontal flips."""
    model: str = "convnet"
    """mlp, convnet or resnet18."""
    variant: str = "si"
    """si: fully scale-invariant, last layer frozen. standard: affine norms, trained last layer."""
    normalization: str = "batch"
    """batch, layer or group: the layer after every weight. weight: weight normalization in its place."""
    norm_eps: float = 1e-5
    """eps of the normalization layers: it breaks the scale invariance of very small weights."""
    width: int | None = None
    """Width of the network (default: 32, on digits 8; mlp 64)."""
    head_norm: float = 10.0
    """Frobenius norm of the frozen last layer (variant si)."""
    loss: str = "ce"
    """ce: cross-entropy. mse: squared error on one-hot targets, mean over classes."""
    batch_size: int | None = None
    """Images a step (default: 128, on digits 16)."""
    epochs: int | None = None
    """Passes over the train set (default: 60)."""
    steps: int | None = None
    """Optimizer steps, in place of --epochs."""
    other_lr: float | None = None
    """Learning rate of weights with a scale of their own (default: si 0; standard --lr, or 0.1 on the sphere)."""
    optimizer: str = "sgd"
    """sgd; adam: weight decay as part of the gradient (L2); adamw: decoupled."""
    momentum: float = 0.0
    """Momentum of SGD."""
    gradient: str = "batch"
    """batch: a step each batch. full: a step each pass, BN over the whole set. accumulate: the same, BN by batch."""
    schedule: str = "constant"
    """Of the rate: constant, cosine, linear, step:0.1@0.5,0.75 or stages:0.5=0.1,0.75=0.01 (parts of the horizon)."""
    warmup: int = 0
    """Steps over which the rate first rises linearly."""
    fix_norm: bool = False
    """In the whole space: keep the norm of the scale-invariant weights at its initial value."""
    norm: float | None = None
    """Norm of the scale-invariant weights at the start (default: as initialised)."""
    granularity: str = "total"
    """What lies on one sphere: total (the papers), group, tensor or row."""
    evaluation: str = "exact"
    """exact: a pass over the data at evaluation epochs. online: train metrics from the training steps alone."""
    eval_every: int | None = None
    """Evaluate after every N epochs (default: epochs 0, 1, 2, 3, 4, 6, 8, 11, 16, ... and the last)."""
    recompute_bn: bool = False
    """Test with recomputed BN statistics as well at every evaluation, not only at the last."""
    record_steps: bool | None = None
    """Keep loss, norm, gradient and angle of every step (default: with --lr, not with --elr)."""
    keep_every: int | None = None
    """Keep the weights after every N epochs, for --from and for paths between them (default: the last alone)."""

    def load(self) -> Dataset:
        """The data set the settings name."""
        return load_dataset(self.data, data_dir=self.data_dir, subset=self.subset, label_noise=self.label_noise)

    def with_weight_decay(self, weight_decay: float) -> Settings:
        """The settings of one run."""
        common = {field.name: getattr(self, field.name) for field in dataclasses.fields(CommonSettings)}
        return Settings(**common, weight_decay=weight_decay)


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """What a user says about one run."""

    weight_decay: float = 0.0
    """Weight decay (in the whole space only, with --lr)."""


def check_names(settings: CommonSettings) -> None:
    """Refuse what can be refused before a data set is read."""
    if settings.model not in MODELS:
        raise UserError(f"unknown model {settings.model!r}; choose one of: {', '.join(MODELS)}")
    if settings.variant not in VARIANTS:
        raise UserError(f"unknown variant {settings.variant!r}; choose one of: {', '.join(VARIANTS)}")
    if settings.epochs is not None and settings.steps is not None:
        raise UserError(f"epochs {settings.epochs} and steps {settings.steps}: give one of the two")
    for name, value in (("epochs", settings.epochs), ("steps", settings.steps), ("width", settings.width)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} is not a positive number")


def resolve(
    settings: Settings,
    dataset: Dataset,
    *,
    elr: float | None,
    lr: float | None,
    seed: int,
    threads: int,
    start: str | None = None,
) -> RunConfig:
    """Fill every default and check the whole; equal configs then mean equal numbers. ``start``: see ``RunConfig``.

    The default ``other_lr`` is 0 for ``si`` (the last layer is frozen); for ``standard`` it is 0.1 on the sphere and
    follows ``lr`` (``None``) in the whole space.
    """
    check_names(settings)
    shares = dataset.shares()
    small = dataset.name == "digits"
    batch_size = settings.batch_size or (_SMALL_BATCH if small else _BATCH)
    if settings.batch_size is not None and settings.batch_size < 2:
        raise UserError(f"batch size {settings.batch_size} is too small: batch normalization needs two images")
    per_epoch = 1
    if settings.gradient == "batch":
        per_epoch = len(batches(len(dataset.train_labels), batch_size, seed=0, epoch=0))
    steps = settings.steps if settings.steps is not None else per_epoch * (settings.epochs or DEFAULT_EPOCHS)
    other_lr = settings.other_lr
    if other_lr is None:
        other_lr = 0.0 if settings.variant == "si" else (0.1 if lr is None else None)
    config = RunConfig(
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        model=settings.model,
        variant=settings.variant,
        normalization=settings.normalization,
        norm_eps=settings.norm_eps,
        width=settings.width or (_SMALL_WIDTH if small else DEFAULT_WIDTH)[settings.model],
        head_norm=settings.head_norm,
        loss=settings.loss,
        batch_size=batch_size,
        steps=steps,
        elr=elr,
        lr=lr,
        other_lr=other_lr,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        gradient=settings.gradient,
        schedule=settings.schedule,
        warmup=settings.warmup,
        fix_norm=settings.fix_norm,
        radius=settings.norm,
        start=start,
        granularity=settings.granularity,
        subset=settings.subset,
        label_noise=settings.label_noise,
        augment=settings.augment,
        seed=seed,
        evaluation=settings.evaluation,
        eval_every=settings.eval_every,
        recompute_bn=settings.recompute_bn,
        record_steps=lr is not None if settings.record_steps is None else settings.record_steps,
        keep_every=settings.keep_every,
        threads=threads,
        classes=dataset.classes,
        chance_error=chance_error(dataset.classes, shares),
        constant_loss=constant_loss(settings.loss, dataset.classes, shares),
    )
    check(config)
    return config
