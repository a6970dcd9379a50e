"""Make a Problem of a network's factory and of examples with targets: classes, numbers, several labels."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.lab.classes import unequal_shares
from scaleinv.lab.global_random import READ, seeded
from scaleinv.lab.own_losses import LossSpec, loss_spec
from scaleinv.lab.problem import Judge, Measured, Split, SplitName, class_errors, default_call
from scaleinv.lab.references import Reference, object_of, reference_to, short_name
from scaleinv.lab.sources import HowRead, hash_of, read_source
from scaleinv.lab.splits import Held, examples_in
from scaleinv.text import count
from scaleinv.theory.guessing import chance_error, constant_loss

Factory = Callable[..., nn.Module]
#: more processes than that read nothing faster, and a machine starts no more
MOST_READERS = 256


class Supervised:
    """A network's factory, examples with targets, a loss and an error; see :func:`classification`."""

    kind = "classification"

    def __init__(
        self,
        factory: Any,
        args: Mapping[str, Any] | None,
        train: Split,
        test: Split | None,
        loss: LossSpec,
        error: Any,
        call: Callable[[nn.Module, Any], Any] | None,
        *,
        integer: bool,
        reading: HowRead,
        data_name: str,
        name: str | None,
        levels: tuple[int | None, float | None, float | None],
    ) -> None:
        self.factory, self.args = checked_factory(factory), dict(args or {})
        self.model_name, self.data_name, self.loss_name = short_name(factory), data_name, loss.name
        self.name = name or f"{self.model_name} on {data_name}"
        self.splits = {"train": train, "test": test}
        self.spec, self.integer = loss, integer
        self._error, self._call = error, call
        self.calls_plainly = call is None
        self.classes, self.chance_error, self.constant_loss = levels
        self.groups: dict[str, Any] = {}
        self.sources: dict[str, Reference] = {}  # by split, where the data can be loaded by name
        told = [self.kind, self.model_name, sorted(self.args.items()), _partial(factory), loss.description]
        told += [_name(error), _name(call), *(hash_of(split) for split in (train, test))]
        self.reading = reading
        changed = [_name(part) for part in (reading.augment, reading.collate) if part is not None]
        told += [changed] if changed else []
        self.fingerprint = hashlib.sha256(repr(told).encode()).hexdigest()
        self.judge = Judge(self._call or default_call, loss.measure, self.error, False)

    def model(self, generator: torch.Generator) -> nn.Module:
        """Call the factory; it draws from the global generators, which the lab has seeded."""
        return self.factory(**self.args)

    def split(self, name: SplitName) -> Split | None:
        """Give the examples."""
        return self.splits[name]

    def call(self, model: nn.Module, inputs: Any) -> Any:
        """Give the network's outputs."""
        return (self._call or default_call)(model, inputs)

    def loss(self, outputs: Any, targets: Any) -> Measured:
        """Give (sum, weight)."""
        return self.spec.total(outputs, targets)

    def error(self, outputs: Any, targets: Any) -> Measured | None:
        """Give (wrong, counted)."""
        if self._error is None:
            return class_errors(outputs, targets, self.spec.ignore) if self.integer else None
        if self._error is False:
            return None
        return as_counts(self._error(outputs, targets), examples_in(targets))

    def check_outputs(self, outputs: Any, targets: Any) -> None:
        """Refuse labels outside the classes that the network tells apart."""
        if not (self.integer and isinstance(outputs, Tensor) and outputs.ndim >= 2 and self._error is None):
            return
        for name, split in self.splits.items():
            labels = split.targets if isinstance(split, Held) else targets if name == "train" else None
            if not isinstance(labels, Tensor):
                continue
            counted = labels if self.spec.ignore is None else labels[labels != self.spec.ignore]
            if not len(counted):
                continue
            low, high, classes = int(counted.min()), int(counted.max()), outputs.shape[1]
            if low < 0 or high >= classes:
                one = "; for a single number give targets as float32, and loss bce for 0 and 1" * (classes == 1)
                raise UserError(
                    f"the {name} labels of {self.name} are {low} to {high}, and the model gives "
                    f"{count(classes, 'number')} for an example: labels are 0 to {classes - 1}{one}"
                )

    @property
    def recipe(self) -> dict[str, Any] | None:
        """How it is made again in another process, without its data; None: a part cannot be named."""
        named = {what: self.spec.reference if what == "loss" else reference_to(f) for what, f in self._parts().items()}
        if None in named.values():
            return None
        no_error = False if self._error is False else None
        told: dict[str, Any] = {"in_memory": self.reading.in_memory, "workers": self.reading.workers or None}
        parts: dict[str, Any] = {"args": self.args, "error": no_error, "call": None, **named}
        parts |= {name: value for name, value in told.items() if value is not None}
        return {"kind": self.kind, **parts, "name": self.name, "data_name": self.data_name}

    def _parts(self) -> dict[str, Any]:
        """Give what must have a name for another process: the model, the loss, and the functions that were given."""
        functions = {"error": self._error or None, "call": self._call}
        functions |= {"augment": self.reading.augment, "collate": self.reading.collate}
        return {"model": self.factory, "loss": self.spec, **{what: f for what, f in functions.items() if f is not None}}

    def why_not_elsewhere(self) -> str:
        """Say which part keeps it in this process."""
        for what, part in self._parts().items():
            if (self.spec.reference if what == "loss" else reference_to(part)) is None:
                return f"the {what} ({self.spec.name if what == 'loss' else short_name(part)})"
        return "a part of it"

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items() if split is not None)
        return f"<{self.kind} problem: {self.name}, loss {self.loss_name}, {sizes} examples>"


def checked_factory(factory: Any) -> Factory:
    """Take a factory, its name, or a class; refuse a network that is made already."""
    if isinstance(factory, (str, dict)):
        factory = object_of(factory)
    if isinstance(factory, nn.Module):
        raise UserError(
            f"the model is a {type(factory).__name__} that is made already; give the function or class that makes it, "
            "so that every run and seed has a start of its own"
        )
    if not callable(factory):
        raise UserError(f"the model is {type(factory).__name__}; give a function or class that makes a torch.nn.Module")
    return factory  # type: ignore[no-any-return]


def as_counts(found: Any, count: int) -> Measured | None:
    """Read what an error function gives: (wrong, counted), a truth value an answer, or the fraction of the batch."""
    if found is None:
        return None
    if isinstance(found, (tuple, list)):
        return _tensor(found[0]), found[1]
    value = _tensor(found)
    if value.dtype == torch.bool:
        return value.sum(), value.numel()
    return value.detach().float().mean() * count, float(count)


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")


def classification(
    model: Any,
    train: Any,
    test: Any = None,
    *,
    loss: Any = None,
    error: Any = None,
    args: Mapping[str, Any] | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
    augment: Callable[[Any, torch.Generator], Any] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    in_memory: bool | None = None,
    read_workers: int = 0,
    name: str | None = None,
) -> Supervised:
    """Make a Problem of a network and examples with targets.

    - ``model``: a factory of an ``nn.Module`` (function, class, ``functools.partial``) or its name ``FILE.py:NAME``;
      ``args``: its keyword arguments. It may draw from torch's global generator.
    - ``train``, ``test``: (inputs, targets) as tensors or numpy arrays, first dimension examples; or a map-style data
      set, or the name of what gives either. Inputs: floating numbers of any shape, or tokens. Targets: whole numbers
      (classes), or floating ones (regression, several labels): then there is no error, and regimes are judged by the
      loss.
    - ``loss``: a name (ce, mse, bce, l1, huber), a torch.nn loss or any callable (outputs, targets) -> mean over the
      batch. None: ce for classes, else mse. The level of a constant answer is measured.
    - ``error``: (outputs, targets) -> truth value an answer, fraction of the batch, or (wrong, counted). None: the
      largest output is the answer, for classes; False: none.
    - ``call``: (model, inputs) -> outputs, where it is not ``model(inputs)``.
    - ``augment``: (inputs, generator) -> inputs of a training batch. A data set with a random transform needs none.
    - ``collate``: makes a batch of a data set's examples (default: torch's). ``in_memory``: hold a data set in memory
      (default: if its examples do not change from read to read and fit into 2 GiB). ``read_workers``: processes that
      read the train batches of one that is not held ahead, at most one a core; the numbers are the same for any.
    - ``name``: for titles.
    - UserError where examples and targets do not fit together, inputs are not finite, or a data set cannot be indexed.

    >>> x, y = torch.randn(64, 5), torch.arange(64) % 3
    >>> make = functools.partial(nn.Linear, 5, 3)
    >>> problem = classification(make, (x, y))
    >>> problem.name, round(problem.chance_error, 3)
    ('Linear on arrays', 0.667)
    """
    if isinstance(read_workers, bool) or not isinstance(read_workers, int) or not 0 <= read_workers <= MOST_READERS:
        raise UserError(f"read_workers {read_workers!r} is not a number of processes from 0 to {MOST_READERS}")
    reading = HowRead(_function(collate), in_memory, _function(augment), read_workers)
    train_split, data_name, source = read_source(train, "train", reading)
    test_split, _, test_source = (
        (None, "", None) if test is None else read_source(test, "test", replace(reading, augment=None))
    )
    if test is None and isinstance(source, dict) and "test" in source:
        test_split = source.pop("test")
    with seeded(0, READ):  # a transform may draw
        targets = train_split.targets if isinstance(train_split, Held) else train_split.batch(slice(0, 1))[1]
    integer = isinstance(targets, Tensor) and not targets.is_floating_point()
    spec = loss_spec(loss, integer)
    levels = _levels(targets, spec, integer and error is None and isinstance(train_split, Held))
    problem = Supervised(
        model, args, train_split, test_split, spec, _function(error), _function(call),
        integer=integer, reading=reading, data_name=data_name, name=name, levels=levels,
    )  # fmt: skip
    problem.sources = {"train": source, "test": test_source}
    return problem


def _function(given: Any) -> Any:
    return object_of(given) if isinstance(given, (str, dict)) else given


def _levels(targets: Any, loss: LossSpec, known: bool) -> tuple[int | None, float | None, float | None]:
    """Find the number of classes that occur, chance error and constant loss in closed form; None: to be measured."""
    if not known:
        return None, None, None
    labels = targets.flatten()
    labels = labels if loss.ignore is None else labels[labels != loss.ignore]
    if not len(labels):
        raise UserError("all train targets are ignored by the loss: there is nothing to learn")
    if int(labels.min()) < 0:
        raise UserError(f"the labels begin at {int(labels.min())}; labels are 0, 1, 2, ...")
    present = labels.unique()
    if len(present) < 2:
        raise UserError(f"all train labels are {int(present[0])}: at least two classes are needed to tell apart")
    numbered = torch.searchsorted(present, labels)
    shares = unequal_shares(numbered, len(present))
    closed = constant_loss("ce", len(present), shares) if loss.name == "ce" else None
    return len(present), chance_error(len(present), shares), closed


def _name(part: Any) -> str:
    return "" if part is None else short_name(part)


def _partial(factory: Any) -> str:
    """Describe the arguments of a partial."""
    if not isinstance(factory, functools.partial):
        return ""
    return repr((factory.args, sorted(factory.keywords.items())))
