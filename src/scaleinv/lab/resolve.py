"""Make the config of a run from what a user says: fill every default and check the whole."""

import dataclasses
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.checks import checked
from scaleinv.lab.config import (
    DEFAULT_EPOCHS,
    PACKAGE_ONLY,
    CommonSettings,
    RunConfig,
    RunFields,
    Settings,
    check,
    check_settings,
)
from scaleinv.lab.constant import constant_level
from scaleinv.lab.data import Dataset, eval_batches, load_dataset
from scaleinv.lab.models import DEFAULT_WIDTH
from scaleinv.lab.optimizers import with_law
from scaleinv.lab.problem import Problem
from scaleinv.theory.guessing import chance_error, constant_loss

#: digits are few and small: at batch 128 regime 2 is only a factor 2 of ELR wide, at 16 about 10
_SMALL_BATCH, _BATCH = 16, 128
#: a set of fewer examples is small
_FEW = 5000
_SMALL_WIDTH = {"mlp": 64, "convnet": 8, "resnet18": 8}


def load_data(settings: CommonSettings) -> Dataset:
    """Load the data set the settings name."""
    return load_dataset(
        settings.data, data_dir=settings.data_dir, subset=settings.subset, label_noise=settings.label_noise
    )


def resolve(
    settings: Settings,
    source: Dataset | Problem,
    *,
    elr: float | None,
    lr: float | None,
    seed: int,
    threads: int,
    start: str | None = None,
    device: str = "cpu",
) -> RunConfig:
    """Make the config of a run; equal configs mean equal numbers. ``start``: see ``RunConfig``.

    ``source``: a data set of the package, or a Problem. The default ``other_lr`` is 0 for ``si`` (the last layer is
    frozen); for ``standard`` it is 0.1 on the sphere and follows ``lr`` (``None``) in the whole space.
    """
    check_settings(settings)
    package = isinstance(source, Dataset)
    variant = settings.variant or ("si" if package else "standard")
    other_lr = settings.other_lr
    if other_lr is None:
        other_lr = 0.0 if variant == "si" else (0.1 if lr is None else None)
    said = {one.name: getattr(settings, one.name) for one in dataclasses.fields(RunFields)}
    said |= {
        "variant": variant,
        "other_lr": other_lr,
        "record_steps": lr is not None if settings.record_steps is None else settings.record_steps,
        "elr": elr,
        "lr": lr,
        "weight_decay": settings.weight_decay,
        "radius": settings.norm,
        "start": start,
        "seed": seed,
        "threads": threads,
        "device": device.partition(":")[0],
        "nondeterministic": settings.nondeterministic and device.startswith("cuda"),
        "optimizer_args": settings.optimizer_args,
    }
    said |= (
        _of_package(settings, source)
        if isinstance(source, Dataset)
        else _of_own(settings, source, variant, seed, other_lr)
    )
    count, batch_size = said.pop("examples"), said["batch_size"]
    per_epoch = 1 if settings.gradient != "batch" else len(eval_batches(count, batch_size))
    said["steps"] = settings.steps if settings.steps is not None else per_epoch * (settings.epochs or DEFAULT_EPOCHS)
    config = RunConfig(**said)
    check(config)
    return with_law(config)


def _of_package(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """Fill what belongs to a data set and a network of the package."""
    shares, small = dataset.shares(), dataset.name == "digits"
    return {
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "width": settings.width or (_SMALL_WIDTH if small else DEFAULT_WIDTH)[settings.model],
        "batch_size": settings.batch_size or (_SMALL_BATCH if small else _BATCH),
        "classes": dataset.classes,
        "chance_error": chance_error(dataset.classes, shares),
        "constant_loss": constant_loss(settings.loss, dataset.classes, shares),
        "examples": len(dataset.train_labels),
    }


def _of_own(settings: Settings, problem: Problem, variant: str, seed: int, other_lr: float | None) -> dict[str, Any]:
    """Fill what belongs to a problem of one's own, and refuse what is said of the package's networks alone."""
    defaults = {one.name: one.default for one in dataclasses.fields(RunFields)}
    for name in PACKAGE_ONLY:
        if name not in ("data", "model", "loss") and getattr(settings, name) != defaults[name]:
            raise UserError(
                f"{name.replace('_', '-')} is for the networks and data sets of the package, not {problem.name}"
            )
    train = problem.split("train")
    if train is None:
        raise UserError(f"the problem {problem.name} has no train split")
    batch_size = settings.batch_size or (_SMALL_BATCH if len(train) < _FEW else _BATCH)
    first = checked(problem, seed, variant, settings.head_norm, batch_size, other_lr)
    return {
        "data": str(getattr(problem, "data_name", problem.name)),
        "model": str(getattr(problem, "model_name", problem.name)),
        "loss": str(getattr(problem, "loss_name", "own")),
        "normalization": "own",
        "width": None,
        "problem": problem.name,
        "data_fingerprint": problem.fingerprint,
        "weights": first.weights,
        "batch_size": batch_size,
        "classes": getattr(problem, "classes", None),
        "chance_error": problem.chance_error,
        "constant_loss": constant_level(problem, first.outputs),
        "examples": len(train),
    }
