"""Draw random words that depend on (purpose, seed, index) alone: no state to carry, none to restore on resume.

Philox 4x64 is a counter-based generator: a 128-bit key and a 256-bit counter name one block of its stream. The key is
(seed, index), the top word of the counter is the purpose, so two different triples never share a stream; collisions
between, say, (seed 1, epoch 2) and (seed 2, epoch 1), which sums and products of seeds have, cannot happen. NumPy
promises the raw words of its bit generators for all versions; it promises nothing for its shuffles, so none is used.
"""

import numpy as np
import numpy.typing as npt
import torch

from scaleinv.errors import UserError

BATCHES, NOISE, DIGITS, AUGMENT, GLOBAL = 1, 2, 3, 4, 5  #: purposes; a number once used keeps its meaning
#: what a stream of :func:`generator` is for; a number once used keeps its meaning
INIT, HEAD, REFERENCE, TRANSFORM = 1, 2, 3, 4

_WORD = 1 << 64


def words(purpose: int, seed: int, index: int, count: int) -> npt.NDArray[np.uint64]:
    """Draw ``count`` random 64-bit words for (purpose, seed, index); each of the three is in [0, 2^64)."""
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < _WORD:
            raise UserError(f"{name} {value} is outside [0, 2^64); choose a non-negative integer")
    # built with an explicit dtype: a list with a word above 2^63 would become float64
    key = np.array([seed, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def permutation(purpose: int, seed: int, index: int, n: int) -> npt.NDArray[np.int64]:
    """Draw a uniform permutation of range(n): the order of n random words (ties, 2^-64 a pair, by position)."""
    return np.argsort(words(purpose, seed, index, n), kind="stable").astype(np.int64, copy=False)


def below(bound: int, random: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Turn words into integers in [0, bound), bound < 2^16, by their upper 32 bits; relative bias below 2^-16."""
    scaled: npt.NDArray[np.uint64] = (random >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)
    return scaled.astype(np.int64)


def generator(seed: int, *purpose: int) -> torch.Generator:
    """Make a generator whose stream depends on (seed, purpose) alone; no two share one."""
    state = np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
