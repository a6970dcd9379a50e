"""Seed the global generators around the code of others, so that what it draws depends on (seed, purpose, step) alone.

A user's factory, dropout and the transforms of a data set draw from the global generators of torch, numpy and Python.
They are set before the code runs and put back afterwards.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from scaleinv.lab.random import GLOBAL, words

FACTORY, STEP, READ, PASS = 0, 1, 2, 3  #: purposes; a number once used keeps its meaning
_PURPOSES = 8
#: numbers of PASS below it are single passes that are made before a run; from it on, those of the steps of a run
FIRST_PASS = 8


def seed_of(seed: int, purpose: int, number: int) -> int:
    """Draw the seed of the global generators for (seed, purpose, number); in [0, 2^63)."""
    return int(words(GLOBAL, seed, number * _PURPOSES + purpose, 1)[0] >> np.uint64(1))


@contextmanager
def kept_generators() -> Iterator[None]:
    """Put the global generators back as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() and torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def seed_torch(seed: int, purpose: int, number: int) -> None:
    """Set torch's global generators: what networks draw from."""
    torch.manual_seed(seed_of(seed, purpose, number))


def seed_all(seed: int, purpose: int, number: int) -> None:
    """Set the global generators of torch, numpy and Python."""
    value = seed_of(seed, purpose, number)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002
    random.seed(value)


@contextmanager
def seeded(seed: int, purpose: int, number: int = 0) -> Iterator[None]:
    """Set the global generators within, and put them back afterwards.

    >>> with seeded(0, STEP, 3):
    ...     first = torch.rand(1)
    >>> with seeded(0, STEP, 3):
    ...     bool(torch.rand(1) == first)
    True
    """
    with kept_generators():
        seed_all(seed, purpose, number)
        yield
