"""Hold the examples of a split: in memory, or in a map-style data set that is read batch by batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.text import error_text

Indices = Tensor | slice


class MapStyle(Protocol):
    """A data set with a length whose examples are found by their number, as ``torch.utils.data.Dataset``."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class Held:
    """Inputs and targets in memory, first dimension examples. ``inputs, targets = held`` takes them apart."""

    inputs: Any  # a tensor, or tuples and dicts of tensors
    targets: Any
    augment: Callable[[Any, torch.Generator], Any] | None = None  # of the inputs of a training batch

    def __len__(self) -> int:
        return examples_in(self.targets)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.inputs, self.targets))

    def __getitem__(self, place: int) -> Any:
        return (self.inputs, self.targets)[place]

    def batch(
        self, indices: Indices, device: torch.device | None = None, generator: torch.Generator | None = None
    ) -> tuple[Any, Any]:
        """Take a batch; a slice gives views. ``generator``: of a training batch, drives :attr:`augment`."""
        inputs, targets = taken(self.inputs, indices), taken(self.targets, indices)
        if self.augment is not None and generator is not None:
            inputs = self.augment(inputs, generator)
        return inputs, targets

    def to(self, device: torch.device) -> "Held":
        """Hold the same on another device."""
        return Held(moved(self.inputs, device), moved(self.targets, device), self.augment)


@dataclass(frozen=True)
class Streamed:
    """A map-style data set whose examples are read when their batch comes."""

    data: MapStyle
    collate: Callable[[list[Any]], Any]
    pair: Callable[[Any], tuple[Any, Any]]
    augment: Callable[[Any, torch.Generator], Any] | None = None  # of the inputs of a training batch
    workers: int = 0  # processes that read the batches of training ahead

    def __len__(self) -> int:
        return len(self.data)

    def batch(
        self, indices: Indices, device: torch.device | None = None, generator: torch.Generator | None = None
    ) -> tuple[Any, Any]:
        """Read a batch. Random transforms draw from the global generators, which the lab seeds around every read."""
        return self.finished(self.read(indices), device, generator)

    def read(self, indices: Indices) -> tuple[Any, Any]:
        """Read the examples of a batch."""
        numbers = range(*indices.indices(len(self))) if isinstance(indices, slice) else indices.tolist()
        return self.pair(self.collate([self._example(int(k)) for k in numbers]))

    def _example(self, number: int) -> Any:
        try:
            return self.data[number]
        except UserError:
            raise
        except Exception as error:
            why = error_text(error)
            raise UserError(f"example {number} of the data cannot be read: {why}") from error

    def finished(
        self, read: tuple[Any, Any], device: torch.device | None, generator: torch.Generator | None
    ) -> tuple[Any, Any]:
        """Make of what was read what a step takes: on the device, augmented."""
        inputs, targets = read if device is None else (moved(read[0], device), moved(read[1], device))
        if self.augment is not None and generator is not None:
            inputs = self.augment(inputs, generator)
        return inputs, targets


def tree(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply ``change`` to every tensor of tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: tree(change, item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(tree(change, item) for item in value)
    return value


def taken(value: Any, indices: Indices) -> Any:
    """Take the examples of ``indices`` from every tensor."""
    if isinstance(value, Tensor):  # the usual case, with few calls a batch
        return _examples(value, indices)
    return tree(lambda t: _examples(t, indices), value)


def _examples(tensor: Tensor, indices: Indices) -> Tensor:
    """Take examples, laid out in memory as ``tensor[indices]`` has them, which takes thrice the time of a selection."""
    if isinstance(indices, slice) or not _in_order(tensor):
        return tensor[indices]
    return tensor.index_select(0, indices)


def _in_order(tensor: Tensor) -> bool:
    """Tell whether the last dimension is the nearest in memory, and so on, also where a dimension has one number."""
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride())):
        if stride != step:
            return False
        step *= size
    return True


def moved(value: Any, device: torch.device) -> Any:
    """Move every tensor; pinned memory is copied without waiting."""
    return tree(lambda t: t.to(device, non_blocking=t.is_pinned() if t.device.type == "cpu" else False), value)


def leaves(value: Any) -> list[Tensor]:
    """List every tensor of tuples, lists and dicts."""
    found: list[Tensor] = []
    tree(found.append, value)
    return found


def examples_in(value: Any) -> int:
    """Count the examples: the first dimension of the first tensor."""
    return len(cast(Sequence[Any], value)) if isinstance(value, Tensor) else len(leaves(value)[0])
