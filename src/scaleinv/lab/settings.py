"""What a user says about a run, with defaults that work; :func:`resolve` turns it into a :class:`RunConfig`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, check
from scaleinv.lab.data import Dataset, batches, load_dataset
from scaleinv.lab.models import DEFAULT_WIDTH, MODELS, VARIANTS
from scaleinv.theory.guessing import chance_error, constant_loss

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
