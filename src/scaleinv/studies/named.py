"""Make the problem that the flags of a command name."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from scaleinv.errors import UserError
from scaleinv.lab.config import PACKAGE_ONLY, CommonSettings, RunFields, check_settings
from scaleinv.lab.data import Dataset
from scaleinv.lab.models import build_model
from scaleinv.lab.problem import Problem
from scaleinv.lab.recipe import own_problem
from scaleinv.lab.resolve import load_data
from scaleinv.lab.splits import Held
from scaleinv.lab.supervised import Supervised, classification

Said = TypeVar("Said", bound=CommonSettings)


def named_source(settings: Said, problem: str | None, arguments: Mapping[str, Any]) -> tuple[Said, Dataset | Problem]:
    """Make the data set or the Problem that is named, and the settings without what belongs to it.

    - ``problem``: FILE.py:NAME of a Problem. ``arguments``: of the problem or of one's own model.
    - UserError for names that do not go together.
    """
    check_settings(settings)
    own_model, own_data, own_loss = (":" in getattr(settings, name) for name in ("model", "data", "loss"))
    if problem is not None:
        for name in ("model", "data", "loss"):
            if getattr(settings, name) != _default(name):
                raise UserError(
                    f"--{name} and --problem: a problem has a model, data and a loss of its own; leave it out"
                )
        return settings, own_problem(problem, arguments)
    if not (own_model or own_data or own_loss):
        if arguments:
            raise UserError("--model-args are for a --model or --problem of your own")
        return settings, load_data(settings)
    loss = None if settings.loss == _default("loss") else settings.loss
    data: Any = settings.data
    train: Any = data
    test: Any = None
    called: str | None = None
    if not own_data:
        held = load_data(settings)
        train, test = (held.train_images, held.train_labels), (held.test_images, held.test_labels)
        called = held.name
    if own_model:
        made = classification(settings.model, train, test, loss=loss, args=arguments)
    else:
        if arguments:
            raise UserError("--model-args are for a --model or --problem of your own")
        settings, made = _package_model(settings, train, test, loss)
    if called is not None:
        made.data_name, made.name = called, f"{made.model_name} on {called}"
    plain = {one: _default(one) for one in PACKAGE_ONLY if one not in ("model", "data", "loss")}
    return dataclasses.replace(settings, **plain), made


def _package_model(settings: Said, train: Any, test: Any, loss: Any) -> tuple[Said, Supervised]:
    """Put a network of the package before one's own data or loss; its head and inputs follow from the data."""
    probe = classification(nn.Identity, train, test, loss=loss, error=False)
    split = probe.splits["train"]
    if not isinstance(split, Held) or not isinstance(split.inputs, torch.Tensor) or split.targets.is_floating_point():
        raise UserError(
            f"--model {settings.model} is for images and classes; give a model of your own: FILE.py:FACTORY"
        )
    classes = int(split.targets.max()) + 1
    factory = functools.partial(
        package_network,
        name=settings.model,
        in_shape=list(split.inputs.shape[1:]),
        classes=classes,
        width=settings.width,
        norm=settings.normalization,
        norm_eps=settings.norm_eps,
    )
    made = classification(factory, train, test, loss=loss)
    made.model_name = settings.model
    made.name = f"{settings.model} on {made.data_name}"
    return dataclasses.replace(settings, variant=settings.variant or "si"), made


def package_network(**arguments: Any) -> nn.Module:
    """Make a network of the package in its standard form, drawn from the global generator."""
    draw = torch.Generator(device="cpu").manual_seed(int(torch.randint(2**62, (1,), device="cpu")))
    in_shape = tuple(arguments.pop("in_shape"))
    return build_model(arguments.pop("name"), variant="standard", in_shape=in_shape, generator=draw, **arguments)


def _default(name: str) -> Any:
    return next(one.default for one in dataclasses.fields(RunFields) if one.name == name)
