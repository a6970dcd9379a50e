"""What a run is: a frozen dataclass whose hash is the run's name. Every field is declared once; no torch.

A field of :class:`RunFields` is at the same time a flag of the command line (its docstring is the help text), part of
what a user says (:class:`Settings`) and part of what a run stores (:class:`RunConfig`). Its type holds its check: the
choices of a ``Literal``, or a :class:`Rule`. :func:`scaleinv.lab.resolve.resolve` makes a config from settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from scaleinv.errors import UserError
from scaleinv.lab.schedule import parse_schedule
from scaleinv.runfolder.layout import BEFORE_CONFIG, FORMATS_READ, NUMBERS, SWEEP_CONFIG
from scaleinv.runfolder.seal import checking, read_sealed
from scaleinv.runfolder.stored import DERIVED, complete
from scaleinv.text import near

MODELS = ("mlp", "convnet", "resnet18")
Variant = Literal["si", "standard"]
Normalization = Literal["batch", "layer", "group", "weight"]
DATA_SETS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")
#: the first two of the package's networks, all of data of one's own
LOSSES = ("ce", "mse", "bce", "l1", "huber")
OPTIMIZERS = ("sgd", "adam", "adamw")
Gradient = Literal["batch", "full", "accumulate"]
Granularity = Literal["total", "group", "tensor", "row"]
Evaluation = Literal["exact", "online"]

#: fields of a config that came later: stored, and part of the identity, only where they are used
LATER = ("problem", "weights", "optimizer_args", "law", "device", "nondeterministic")
#: what is said of the package's own networks and data sets alone
PACKAGE_ONLY = ("data", "subset", "label_noise", "augment", "model", "normalization", "norm_eps", "width", "loss")

#: of torch.optim, besides OPTIMIZERS; LBFGS evaluates the loss several times a step
OPTIMIZERS_OF_TORCH = (
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop",
    "SGD", "SparseAdam",
)  # fmt: skip

#: of the package: Muon for matrices and AdamW for the rest
OPTIMIZERS_OF_LAB = ("MuonAdamW",)
CLASSES = OPTIMIZERS_OF_TORCH + OPTIMIZERS_OF_LAB

#: torch refuses a factor beyond float32, 3e38; on the sphere it is elr rho^2
LARGEST_RATE = 1e30
DEFAULT_EPOCHS = 60


@dataclass(frozen=True)
class Rule:
    """A check of a number, and what is asked for in words: ``momentum 2 is not a number in [0, 1)``."""

    holds: Callable[[float], bool]  # of NaN it must be False
    words: str


@dataclass(frozen=True)
class Names:
    """Names that a text may be; one with a colon names an object of the user's (:mod:`scaleinv.plugins`)."""

    known: tuple[str, ...]
    own: str = "FILE.py:NAME"
    checked: bool = True  # False: whoever takes the name refuses an unknown one


#: at a tenth of a millisecond a step, three years; counts stay far within 64 bits
MOST_STEPS = 10**12
#: of a process: beyond some thousands the system starts no more, and torch dies without a word
MOST_THREADS = 1024
#: a tensor of width^2 float32 numbers is then 16 TiB
MOST_WIDTH = 2**21
#: a norm whose square float32 holds, and whose square's inverse it holds
LARGEST_NORM, LEAST_NORM = 1e15, 1e-15


_STEPS = Rule(lambda n: 1 <= n <= MOST_STEPS, "a positive whole number up to 1e12 (three years, at 0.1 ms a step)")
_EVERY = Rule(lambda n: 1 <= n <= MOST_STEPS, "a positive number of epochs up to 1e12")
_CHANNELS = Rule(lambda n: 1 <= n <= MOST_WIDTH, f"a positive number of channels up to {MOST_WIDTH}")
_BATCH = Rule(lambda n: 2 <= n < 2**31, "at least 2: normalization needs two images; and below 2^31")
_THREADS = Rule(lambda n: 1 <= n <= MOST_THREADS, f"a number of threads from 1 to {MOST_THREADS}; torch dies of more")
_WARMUP = Rule(lambda n: 0 <= n <= MOST_STEPS, "a number of steps from 0 to 1e12")
_POSITIVE = Rule(lambda x: 0 < x < math.inf, "a positive number")
_NORM = Rule(lambda x: LEAST_NORM <= x <= LARGEST_NORM, "a positive number, 1e-15 to 1e15: float32 holds its square")
_EPS = Rule(lambda x: 1e-38 <= x <= 1e30, "a number from 1e-38, float32's least, to 1e30; the papers use 1e-5")
_HEAD = Rule(lambda x: 0 <= x <= LARGEST_NORM, "a number from 0 to 1e15: float32 holds its square")
_RATE = Rule(lambda x: 0 <= x <= LARGEST_RATE, f"a number from 0 to {LARGEST_RATE:g}")
_FRACTION = Rule(lambda x: 0 < x < 1, "a fraction between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RunFields:
    """What a user can say of a run and what its config keeps; ``None``: the default of the data set or the model."""

    data: Annotated[str, Names(DATA_SETS, checked=False)] = "digits"
    """digits (built in), mnist, fashion-mnist, cifar10, cifar100, or your own: PACKAGE.MODULE:NAME or FILE.py:NAME."""
    subset: int | None = None
    """Train on the first N images only."""
    label_noise: float = 0.0
    """Fraction of train labels redrawn at random."""
    augment: bool = False
    """Random crops (padding 4) and horizontal flips."""
    model: Annotated[str, Names(MODELS, "FILE.py:FACTORY")] = "convnet"
    """Network: mlp, convnet, resnet18, or your own: PACKAGE.MODULE:FACTORY or FILE.py:FACTORY."""
    variant: Variant | None = None
    """si: fully scale-invariant, last layer frozen. standard: affine norms, trained last layer; a model of your own as
    it is (default: si; standard for a model of your own)."""
    normalization: Normalization = "batch"
    """batch, layer or group: the layer after every weight. weight: weight normalization in its place."""
    norm_eps: Annotated[float, _EPS] = 1e-5
    """eps of the normalization layers: it breaks the scale invariance of very small weights."""
    width: Annotated[int | None, _CHANNELS] = None
    """Width of the network (default: 32, on digits 8; mlp 64)."""
    head_norm: Annotated[float, _HEAD] = 10.0
    """Frobenius norm of the frozen last layer (variant si)."""
    loss: Annotated[str, Names(LOSSES)] = "ce"
    """ce: cross-entropy. mse: squared error on one-hot targets, mean over classes. For data of your own also bce, l1 or
    huber (floating targets), or FILE.py:NAME."""
    batch_size: Annotated[int | None, _BATCH] = None
    """Images a step (default: 128, on digits 16)."""
    steps: Annotated[int | None, _STEPS] = None
    """Optimizer steps, in place of --epochs."""
    other_lr: Annotated[float | None, _RATE] = None
    """Learning rate of weights with a scale of their own (default: si 0; standard --lr, or 0.1 on the sphere)."""
    optimizer: Annotated[str, Names(OPTIMIZERS, "FILE.py:CLASS")] = "sgd"
    """sgd, adam (weight decay as part of the gradient, L2), adamw (decoupled), another of torch.optim by its class
    name, MuonAdamW (Muon for the scale-invariant matrices, AdamW for the rest), or FILE.py:CLASS."""
    optimizer_args: str = ""
    """Arguments of another optimizer: NAME=VALUE,NAME=VALUE."""
    momentum: Annotated[float, Rule(lambda m: 0 <= m < 1, "a number in [0, 1)")] = 0.0
    """Momentum of SGD."""
    gradient: Gradient = "batch"
    """batch: a step each batch. full: a step each pass, BN over the whole set. accumulate: the same, BN by batch."""
    schedule: str = "constant"
    """Of the rate: constant, cosine, linear, step:0.1@0.5,0.75 or stages:0.5=0.1,0.75=0.01 (parts of the horizon)."""
    warmup: Annotated[int, _WARMUP] = 0
    """Steps over which the rate first rises linearly."""
    fix_norm: bool = False
    """In the whole space: keep the norm of the scale-invariant weights at its initial value."""
    granularity: Granularity = "total"
    """What lies on one sphere. total: all scale-invariant weights together, as in the papers."""
    evaluation: Evaluation = "exact"
    """exact: a pass over the data at evaluation epochs. online: train metrics from the training steps alone."""
    eval_every: Annotated[int | None, _EVERY] = None
    """Evaluate after every N epochs (default: epochs 0, 1, 2, 3, 4, 6, 8, 11, 16, ... and the last)."""
    recompute_bn: bool = False
    """Test with recomputed BN statistics as well at every evaluation, not only at the last."""
    record_steps: bool | None = None
    """Keep loss, norm, gradient and angle of every step (default: with --lr, not with --elr)."""
    keep_every: Annotated[int | None, _EVERY] = None
    """Keep the weights after every N epochs, for --from and for paths between them (default: the last alone)."""
    nondeterministic: bool = False
    """On a GPU: allow kernels that add up in any order; runs are then not repeated bit for bit."""


@dataclass(frozen=True, kw_only=True)
class CommonSettings(RunFields):
    """What a user says that means the same to ``train`` and to ``sweep``."""

    data_dir: Path | None = None
    """Folder of the data sets (default: the environment variable SCALEINV_DATA, else the cache directory)."""
    epochs: Annotated[int | None, _STEPS] = None
    """Passes over the train set (default: 60)."""
    norm: Annotated[float | None, _NORM] = None
    """Norm of the scale-invariant weights at the start (default: as initialised)."""

    def with_weight_decay(self, weight_decay: float) -> Settings:
        """The settings of one run."""
        common = {one.name: getattr(self, one.name) for one in dataclasses.fields(CommonSettings)}
        return Settings(**common, weight_decay=weight_decay)


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """What a user says about one run."""

    weight_decay: Annotated[float, _RATE] = 0.0
    """Weight decay (in the whole space only, with --lr)."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunFields):
    """Everything that decides a run's numbers, and nothing else; all defaults are filled in."""

    variant: Variant
    data_fingerprint: str  # of the examples used; of all of a problem of one's own
    width: Annotated[int | None, _CHANNELS]
    batch_size: Annotated[int, _BATCH]
    steps: Annotated[int, _STEPS]  # the horizon
    record_steps: bool
    elr: Annotated[float | None, _POSITIVE]  # on the sphere ...
    lr: Annotated[float | None, _POSITIVE]  # ... or in the whole space
    weight_decay: Annotated[float, _RATE]  # in the whole space only
    radius: Annotated[float | None, _POSITIVE]  # initial norm of the scale-invariant weights; None: as drawn
    start: str | None  # sha256 of the weights it starts from; None: as drawn
    #: of the initialisation, the head, the batch order, the noise and the augmentation
    seed: Annotated[int, Rule(lambda n: 0 <= n < 2**63, "a whole number from 0 to 2^63 - 1")]
    threads: Annotated[int, _THREADS]  # reductions are split over threads, so their number is part of the numbers
    classes: Annotated[int | None, Rule(lambda n: n >= 2, "at least two classes to tell apart")] = field(compare=False)
    #: of the best constant answer; None: not known (the loss: not for this loss)
    chance_error: Annotated[float | None, _FRACTION] = field(compare=False)
    constant_loss: Annotated[float | None, _POSITIVE] = field(compare=False)
    # fields that came later: no part of a config that does not use them
    problem: str | None = None  # the name of a problem of one's own
    weights: str | None = None  # sha256 of the weights that its factory gives for the seed
    optimizer_args: str = ""  # arguments of an optimizer beside lr, momentum and weight decay: JSON, keys sorted
    law: str | None = None  # of an optimizer that the package does not know: sgd | normalised, as measured
    device: str = "cpu"  # its type: cuda and mps compute other roundings

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():  # 1 and 1.0 are one config
            value = getattr(self, name)
            if float in hint.kinds and type(value) is int:
                object.__setattr__(self, name, float(value))

    def identity(self) -> str:
        """The run's name: a hash over all fields but the derived ones and the version of the numbers; 16 hex digits."""
        fields = {name: value for name, value in self.to_dict().items() if name not in DERIVED}
        text = json.dumps({"format": NUMBERS, **fields}, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; without the later fields that are not used."""
        later = {one.name: one.default for one in dataclasses.fields(self) if one.name in LATER}
        return {n: v for n, v in dataclasses.asdict(self).items() if n not in later or v != later[n]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any], where: str = "config.json") -> RunConfig:
        """The inverse of :meth:`to_dict`; refuses unknown, missing, mistyped and non-finite values."""
        hints, fields = _hints(cls), complete(fields)
        if unknown := [name for name in fields if name not in hints]:
            raise UserError(f"{where}: unknown field {unknown[0]!r}; was it written by another version of scaleinv?")
        for name, hint in hints.items():
            if name in LATER and name not in fields:
                continue
            if name not in fields:
                why = "; was it written by another version of scaleinv?"
                if name == "classes":
                    why = f", and {fields.get('data')!r} is no data set of scaleinv: "
                    why += 'add the number of classes to "config", as "classes": N'
                raise UserError(f"{where}: field {name!r} is missing{why}")
            hint.check_type(where, name, fields[name])
            if fields[name] is None and name in ("width", "classes") and fields.get("problem") is None:
                raise UserError(f"{where}: {name} is None; a value of type int is needed")
        return cls(**fields)


@dataclass(frozen=True)
class _Hint:
    """The type of a field, taken apart."""

    kinds: frozenset[type]  # str, int, float, bool, NoneType
    choices: tuple[str, ...] = ()  # of a Literal, or of Names
    rule: Rule | None = None
    own: str = ""  # the form of a name of the user's own, where one may be given

    def check(self, name: str, value: Any) -> None:
        """Refuse a value of the right type that is not allowed."""
        flag = name.replace("_", "-")
        if self.choices and not self._is_known(name, value):
            own = f", or {self.own}" if self.own else ""
            raise UserError(
                f"unknown {flag} {value!r}{near(str(value), self.choices)}; "
                f"choose one of: {', '.join(self.choices)}{own}"
            )
        if self.rule is not None and value is not None and not self.rule.holds(value):
            raise UserError(f"{flag} {value} is not {self.rule.words}")

    def _is_known(self, name: str, value: Any) -> bool:
        if value in self.choices or (value is None and NoneType in self.kinds):
            return True
        return bool(self.own) and (":" in str(value) or (name == "optimizer" and value in CLASSES))

    def check_type(self, where: str, name: str, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"{where}: {name} is {value}, not a finite number; mend the file or start in another folder"
            )
        if type(value) not in self.kinds and not (type(value) is int and float in self.kinds):
            wanted = " | ".join(sorted(kind.__name__.removesuffix("Type") for kind in self.kinds))
            raise UserError(f"{where}: {name} is {value!r}; a value of type {wanted} is needed")


_KNOWN: dict[type, dict[str, _Hint]] = {}


def _hints(kind: type[RunFields]) -> dict[str, _Hint]:
    """The fields of a class of settings by name."""
    if kind not in _KNOWN:
        types = get_type_hints(kind, include_extras=True)
        _KNOWN[kind] = {one.name: _taken_apart(types[one.name]) for one in dataclasses.fields(kind)}
    return _KNOWN[kind]


def _taken_apart(hint: Any) -> _Hint:
    rule = names = None
    if get_origin(hint) is Annotated:
        rule = next((extra for extra in hint.__metadata__ if isinstance(extra, Rule)), None)
        names = next((extra for extra in hint.__metadata__ if isinstance(extra, Names) and extra.checked), None)
        hint = get_args(hint)[0]
    if names is not None:
        return _Hint(frozenset({str}), names.known, rule, names.own)
    if get_origin(hint) is Literal:
        return _Hint(frozenset({str}), get_args(hint), rule)
    parts = get_args(hint) or (hint,)
    literal = next((get_args(part) for part in parts if get_origin(part) is Literal), ())
    kinds = {str if get_origin(part) is Literal else NoneType if part is None else part for part in parts}
    return _Hint(frozenset(kinds), literal, rule)


def check_settings(settings: CommonSettings) -> None:
    """Refuse what can be refused before a data set is read."""
    for name, hint in _hints(type(settings)).items():
        hint.check(name, getattr(settings, name))
    parse_schedule(settings.schedule)
    if settings.epochs is not None and settings.steps is not None:
        raise UserError(f"epochs {settings.epochs} and steps {settings.steps}: give one of the two")


def check(config: RunConfig) -> None:
    """Refuse values that make no sense, each in one line."""
    if (config.elr is None) == (config.lr is None):
        raise UserError("give one of --elr (train on the sphere) and --lr (train in the whole space)")
    for name, hint in _hints(RunConfig).items():
        if config.problem is None or name not in PACKAGE_ONLY:
            hint.check(name, getattr(config, name))
    rate = config.elr or config.lr or 0.0
    if rate > LARGEST_RATE:
        name = "elr" if config.elr is not None else "lr"
        raise UserError(f"{name} {rate:g} is beyond float32 weights; choose at most {LARGEST_RATE:g}")
    if config.other_lr is None and config.lr is None:
        raise UserError("other-lr is missing: on the sphere there is no --lr to stand for it")
    if config.elr is not None and config.weight_decay:
        raise UserError(
            f"weight decay {config.weight_decay} on the sphere only sets another ELR; "
            "leave it out, or use --lr for the whole space"
        )
    if config.momentum and config.optimizer in OPTIMIZERS[1:]:
        raise UserError(f"momentum {config.momentum} is SGD's; {config.optimizer} averages with betas 0.9 and 0.999")
    parse_schedule(config.schedule)
    if not 0 <= config.warmup <= config.steps:
        raise UserError(f"warmup {config.warmup} is not a number of steps from 0 to the horizon, {config.steps}")
    if config.fix_norm and config.elr is not None:
        raise UserError("fix-norm is for the whole space (--lr): on the sphere (--elr) the norm is fixed anyway")


def read_config(folder: Path) -> RunConfig | None:
    """The config of a run folder; ``None`` where there is none. A damaged file is a :class:`UserError`."""
    path = folder / "config.json"
    if not path.exists():
        return None
    content = read_sealed(path)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise UserError(f"{path} is not the config of a run; choose another --out")
    if content.get("format") not in FORMATS_READ:
        raise UserError(
            f"{path} has the format {content.get('format')}, this version reads "
            f"{' and '.join(map(str, FORMATS_READ))}; choose another --out"
        )
    config = RunConfig.from_dict(content["config"], str(path))
    held = content.get("identity")
    if checking() and isinstance(held, str) and held != config.identity():
        raise UserError(
            f"{path} was changed after the run began: it is named {held}, and its config is that of "
            f"{config.identity()}; put back what was changed, or train another run in another --out"
        )
    return config


def present_config(folder: Path, config: RunConfig) -> RunConfig | None:
    """The config that is there, if it is this run's; a :class:`UserError` if the folder is anything else."""
    if (folder / SWEEP_CONFIG).exists():
        raise UserError(f"{folder} is the folder of a sweep; choose another --out for a single run")
    present = read_config(folder)
    if present is not None and present != config:
        raise UserError(f"{folder} holds another run ({_difference(present, config)}); choose another --out")
    if present is None and folder.exists():
        if not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder; choose another --out")
        if any(p.name not in BEFORE_CONFIG for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a run folder; choose another --out")
    return present


def _difference(present: RunConfig, wanted: RunConfig) -> str:
    theirs, ours = dataclasses.asdict(present), dataclasses.asdict(wanted)
    differ = [name for name in ours if theirs[name] != ours[name] and name not in DERIVED]
    parts = [f"{name} {_short(theirs[name])} there, {_short(ours[name])} here" for name in differ]
    return "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "")


def _short(value: Any) -> Any:
    """Cut a checksum to the digits that tell it from another."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else value
