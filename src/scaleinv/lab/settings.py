"""What a user says about a run, with defaults that work; :func:`resolve` turns it into a :class:`RunConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, check
from scaleinv.lab.data import Dataset, batches, load_dataset
from scaleinv.lab.models import DEFAULT_WIDTH, MODELS, VARIANTS

DEFAULT_EPOCHS = 60
#: digits are few and small: at batch 128 regime 2 is only a factor 2 of ELR wide, at 16 about 10
_SMALL_BATCH, _BATCH = 16, 128
_SMALL_WIDTH = {"mlp": 64, "convnet": 8, "resnet18": 8}


@dataclass(frozen=True)
class Settings:
    """Flags shared by ``train`` and ``sweep``; ``None`` means: the default of the data set or the model."""

    data: str = "digits"
    data_dir: Path | None = None
    subset: int | None = None
    label_noise: float = 0.0
    augment: bool = False
    model: str = "convnet"
    variant: str = "si"
    norm: str = "batch"
    width: int | None = None
    head_norm: float = 10.0
    loss: str = "ce"
    batch_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    other_lr: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    granularity: str = "total"
    evaluation: str = "exact"
    eval_every: int | None = None
    recompute_bn: bool = False

    def load(self) -> Dataset:
        """The data set the settings name."""
        return load_dataset(self.data, data_dir=self.data_dir, subset=self.subset, label_noise=self.label_noise)


def check_names(settings: Settings) -> None:
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
    settings: Settings, dataset: Dataset, *, elr: float | None, lr: float | None, seed: int, threads: int
) -> RunConfig:
    """Fill every default and check the whole; equal configs then mean equal numbers.

    The default ``other_lr`` is 0 for ``si`` (the last layer is frozen) and 0.1 on the sphere, ``lr`` in the whole space, for ``standard``.
    """
    check_names(settings)
    small = settings.data == "digits"
    batch_size = settings.batch_size or (_SMALL_BATCH if small else _BATCH)
    if settings.batch_size is not None and settings.batch_size < 2:
        raise UserError(f"batch size {settings.batch_size} is too small: batch normalization needs two images in a batch")
    per_epoch = len(batches(len(dataset.train_labels), batch_size, seed=0, epoch=0))
    steps = settings.steps if settings.steps is not None else per_epoch * (settings.epochs or DEFAULT_EPOCHS)
    other_lr = settings.other_lr
    if other_lr is None:
        other_lr = 0.0 if settings.variant == "si" else (0.1 if lr is None else lr)
    config = RunConfig(
        data=settings.data,
        data_fingerprint=dataset.fingerprint,
        model=settings.model,
        variant=settings.variant,
        norm=settings.norm,
        width=settings.width or (_SMALL_WIDTH if small else DEFAULT_WIDTH)[settings.model],
        head_norm=settings.head_norm,
        loss=settings.loss,
        batch_size=batch_size,
        steps=steps,
        elr=elr,
        lr=lr,
        other_lr=other_lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        granularity=settings.granularity,
        subset=settings.subset,
        label_noise=settings.label_noise,
        augment=settings.augment,
        seed=seed,
        evaluation=settings.evaluation,
        eval_every=settings.eval_every,
        recompute_bn=settings.recompute_bn,
        threads=threads,
    )
    check(config)
    return config
