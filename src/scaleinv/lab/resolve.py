"""Make the config of a run from what a user says: fill every default and check the whole."""

import dataclasses

from scaleinv.lab.config import DEFAULT_EPOCHS, CommonSettings, RunConfig, RunFields, Settings, check, check_settings
from scaleinv.lab.data import Dataset, eval_batches, load_dataset
from scaleinv.lab.models import DEFAULT_WIDTH
from scaleinv.theory.guessing import chance_error, constant_loss

#: digits are few and small: at batch 128 regime 2 is only a factor 2 of ELR wide, at 16 about 10
_SMALL_BATCH, _BATCH = 16, 128
_SMALL_WIDTH = {"mlp": 64, "convnet": 8, "resnet18": 8}


def load_data(settings: CommonSettings) -> Dataset:
    """Load the data set the settings name."""
    return load_dataset(
        settings.data, data_dir=settings.data_dir, subset=settings.subset, label_noise=settings.label_noise
    )


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
    """Make the config of a run; equal configs mean equal numbers. ``start``: see ``RunConfig``.

    The default ``other_lr`` is 0 for ``si`` (the last layer is frozen); for ``standard`` it is 0.1 on the sphere and
    follows ``lr`` (``None``) in the whole space.
    """
    check_settings(settings)
    said = {one.name: getattr(settings, one.name) for one in dataclasses.fields(RunFields)}
    shares, small = dataset.shares(), dataset.name == "digits"
    batch_size = settings.batch_size or (_SMALL_BATCH if small else _BATCH)
    per_epoch = 1 if settings.gradient != "batch" else len(eval_batches(len(dataset.train_labels), batch_size))
    other_lr = settings.other_lr
    if other_lr is None:
        other_lr = 0.0 if settings.variant == "si" else (0.1 if lr is None else None)
    filled = {
        "data": dataset.name,
        "width": settings.width or (_SMALL_WIDTH if small else DEFAULT_WIDTH)[settings.model],
        "batch_size": batch_size,
        "steps": settings.steps if settings.steps is not None else per_epoch * (settings.epochs or DEFAULT_EPOCHS),
        "other_lr": other_lr,
        "record_steps": lr is not None if settings.record_steps is None else settings.record_steps,
    }
    config = RunConfig(
        **said | filled,
        data_fingerprint=dataset.fingerprint,
        elr=elr,
        lr=lr,
        weight_decay=settings.weight_decay,
        radius=settings.norm,
        start=start,
        seed=seed,
        threads=threads,
        classes=dataset.classes,
        chance_error=chance_error(dataset.classes, shares),
        constant_loss=constant_loss(settings.loss, dataset.classes, shares),
    )
    check(config)
    return config
