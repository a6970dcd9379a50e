"""Take examples in the forms people have them: arrays, map-style data sets, or the name of what gives them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from scaleinv.errors import UserError
from scaleinv.lab.global_random import READ, seeded
from scaleinv.lab.problem import Split
from scaleinv.lab.references import object_of, short_name
from scaleinv.lab.splits import Held, Streamed, leaves
from scaleinv.text import count, error_text

Augment = Callable[[Any, torch.Generator], Any]


@dataclass(frozen=True)
class HowRead:
    """How examples are read, as :func:`~scaleinv.lab.supervised.classification` takes it."""

    collate: Callable[[list[Any]], Any] | None = None
    in_memory: bool | None = None
    augment: Augment | None = None  # of the train split
    workers: int = 0  # processes that read ahead what is not held in memory


#: bytes of a data set that is held in memory by itself
MOST_HELD = 2**31
#: examples that are read twice to see whether they change from read to read
_TRIED = 8
_TARGETS = ("labels", "label", "targets", "target", "y")


def read_source(given: Any, what: str, reading: HowRead) -> tuple[Split, str, Any]:
    """Read one split: the split, what its data is called, and the name by which it can be loaded again (or None)."""
    if isinstance(given, (str, dict)):
        return _named(given, what, reading)
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return _arrays(given[0], given[1], what, reading.augment), "arrays", None
    if isinstance(given, (tuple, list)) and given and all(_is_array(one) for one in given):
        raise UserError(
            f"the {what} data is {count(len(given), 'array')}; give (inputs, targets), several inputs as one: "
            "((a, b), targets)"
        )
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, (Tensor, np.ndarray)):
        return _data_set(given, what, reading), type(given).__name__, None
    if isinstance(given, Iterable) and not isinstance(given, (Tensor, np.ndarray)):
        raise UserError(
            f"the {what} data ({type(given).__name__}) can only be iterated: which examples a step sees must follow "
            "from the seed and the step, so that runs share their order and resume after a kill; give a data set with "
            "__len__ and __getitem__"
        )
    raise UserError(f"the {what} data is {type(given).__name__}; give (inputs, targets) or a map-style data set")


def _named(name: Any, what: str, reading: HowRead) -> tuple[Split, str, Any]:
    found = object_of(name)
    with seeded(0, READ):
        try:
            found = found() if callable(found) and not hasattr(found, "__getitem__") else found
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name}() fails: {type(error).__name__}: {error}") from error
    both = isinstance(found, (tuple, list)) and len(found) == 2 and not _is_array(found[0])
    source: dict[str, Any] = {"ref": name}
    if isinstance(found, dict) and "train" in found:
        train, test = found["train"], found.get("test")
    elif isinstance(found, (tuple, list)) and len(found) == 4:
        train, test = found[:2], found[2:]
    elif both:
        train, test = found
    else:
        train, test = found, None
    split, _, _ = read_source(train, what, reading)
    if test is not None:
        source["test"] = read_source(test, "test", replace(reading, augment=None))[0]
    return split, short_name(name), source


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def as_tensor(value: Any, what: str) -> Any:
    """Take arrays as tensors: floating numbers as float32 (bfloat16 and float16 too), whole ones as int64."""
    if isinstance(value, dict):
        return {name: as_tensor(item, what) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(as_tensor(item, what) for item in value)
    try:
        tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(_writable(value), device="cpu")
    except (TypeError, ValueError) as error:
        words = np.asarray(value).dtype.kind in "US"
        why = "they are texts; number them: np.unique(labels, return_inverse=True)[1]" if words else error
        raise UserError(f"the {what} cannot be read as an array of numbers ({why})") from None
    if tensor.layout != torch.strided:
        raise UserError(f"the {what} are sparse; give them dense: x.to_dense()")
    if tensor.is_complex():
        raise UserError(f"the {what} are complex numbers; give their real and imaginary parts")
    wanted = torch.float32 if tensor.is_floating_point() else torch.int64
    if tensor.dtype == torch.uint8 and "inputs" in what and tensor.ndim > 1:
        raise UserError(f"the {what} are bytes (uint8); make floating numbers of them, such as x / 255")
    return tensor.to("cpu", wanted).contiguous()


def _writable(value: Any) -> Any:
    """Take an array; a copy of one that is only read (of pandas, of a file), of which torch warns."""
    array = np.asarray(value)
    return array if array.flags.writeable else array.copy()


def _arrays(inputs: Any, targets: Any, what: str, augment: Augment | None) -> Held:
    x, y = as_tensor(inputs, f"{what} inputs"), as_tensor(targets, f"{what} targets")
    counts = {len(t) if t.ndim else 0 for t in (*leaves(x), *leaves(y))}
    if len(counts) != 1:
        raise UserError(
            f"the {what} data has {len(leaves(x)[0])} inputs and {len(leaves(y)[0])} targets: one target an input"
        )
    if counts == {0}:
        raise UserError(f"the {what} data has no examples")
    for tensor in leaves(x):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.flatten(1).isfinite().all(1) if tensor.ndim > 1 else ~tensor.isfinite()).nonzero()[0])
            raise UserError(f"the {what} inputs hold NaN or infinity, first in example {bad}; remove or mend it")
    for tensor in leaves(y):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"the {what} targets hold NaN or infinity; remove those examples")
    return Held(x, y, augment)


def pair(batch: Any) -> tuple[Any, Any]:
    """Take inputs and targets from what a data set gives: a pair, or a dict with one of the usual names for targets."""
    if isinstance(batch, dict):
        name = next((name for name in _TARGETS if name in batch), None)
        if name is None:
            raise UserError(f"an example has {', '.join(batch)}, and none is called labels; give a collate function")
        rest = {key: value for key, value in batch.items() if key != name}
        return (next(iter(rest.values())) if len(rest) == 1 else rest), batch[name]
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise UserError(
        f"a batch is {type(batch).__name__}; examples must give (input, target), or give a collate function"
    )


def _data_set(data: Any, what: str, reading: HowRead) -> Split:
    if not len(data):
        raise UserError(f"the {what} data has no examples")
    streamed = Streamed(data, reading.collate or default_collate, _read_pair, reading.augment, reading.workers)
    try:
        few = slice(0, min(_TRIED, len(data)))
        reads = []
        for k in range(2):
            with seeded(k, READ, 1):
                reads.append(streamed.batch(few))
    except UserError:
        raise
    except Exception as error:
        why = error_text(error)
        raise UserError(
            f"examples of the {what} data cannot be put together: {why}; give a transform that makes tensors of one "
            "shape, or collate="
        ) from error
    same = all(torch.equal(a, b) for a, b in zip(leaves(reads[0]), leaves(reads[1])))
    size = sum(t.nbytes for t in leaves(reads[0])) / few.stop * len(data)
    if reading.in_memory or (reading.in_memory is None and same and size <= MOST_HELD):
        with seeded(0, READ):
            inputs, targets = streamed.batch(slice(0, len(data)))
        return _arrays(inputs, targets, what, reading.augment)
    return streamed


def _read_pair(batch: Any) -> tuple[Any, Any]:
    inputs, targets = pair(batch)
    return as_tensor(inputs, "inputs of examples"), as_tensor(targets, "targets of examples")


def hash_of(split: Split | None) -> str:
    """Compute the sha256 of a split, hexadecimal; of one that is not in memory of examples spread over it."""
    digest = hashlib.sha256()
    if split is None:
        return ""
    if isinstance(split, Held):
        parts = [*leaves(split.inputs), *leaves(split.targets)]
    else:
        n = len(split)
        numbers = sorted({round(k * (n - 1) / 63) for k in range(64)})
        with seeded(0, READ):
            parts = leaves(split.batch(torch.tensor(numbers, device="cpu")))
        digest.update(f"{n} examples ".encode())
    for tensor in parts:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
