"""Bases of circuits: known answers, and properties on random spaces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaleinv.symmetry.circuits import Irrational, canonical_basis, whole

MIXED = np.array([[1.3, 0.2, -0.7], [0.4, -1.1, 0.5], [-0.2, 0.9, 1.7]])


def test_relu_chain_gives_neighbours() -> None:
    # W1 b1 W2 b2 W3 b3 before a norm: hidden scales, and the stream {W3, b3}
    truth = [(1, 1, -1, 0, 0, 0), (0, 0, 1, 1, -1, 0), (0, 0, 0, 0, 1, 1)]
    assert canonical_basis(MIXED @ np.array(truth, dtype=float), [1, 1, 2, 2, 3, 3]) == truth


def test_of_equal_sets_the_last_used_stands() -> None:
    # emb + o with the pair v, o: emb + v is as short, but o is used later
    found = canonical_basis(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]), [1, 2, 3])
    assert set(found) == {(1, 0, 1), (0, 1, -1)}


def test_fractions_become_whole_numbers() -> None:
    assert canonical_basis(np.array([[0.5, -1 / 3, 0.0]]), [1, 2, 3]) == [(3, -2, 0)]


def test_what_is_not_rational_is_refused() -> None:
    with pytest.raises(Irrational, match="not a small fraction"):
        canonical_basis(np.array([[1.0, np.pi]]), [1, 2])


def _largest_circuit(vectors: np.ndarray, support: list[int], position: list[int]) -> int:
    """The largest exponent of the circuits of a row space that live on a part of a support, by exhaustion."""
    largest = 0
    for size in range(1, len(support) + 1):
        for part in itertools.combinations(support, size):
            outside = np.delete(vectors, part, axis=1)
            _, singular, right = np.linalg.svd(outside.T, full_matrices=True)
            null = right[int((singular > 1e-9).sum()) :]
            if len(null) == 1:
                (vector,) = null @ vectors
                vector[np.abs(vector) < 1e-9] = 0.0
                largest = max(largest, *map(abs, whole(vector / np.abs(vector[vector != 0]).min(), position)))
    return largest


@settings(max_examples=40, deadline=None)
@example(0, 4, 5)  # (2, 0, 1, 0, -3) in place of a circuit with a 4
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(5, 7))
def test_a_basis_of_circuits_of_the_same_space_whatever_the_coordinates(seed: int, d: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(d, n)).astype(float)
    vectors = vectors[: np.linalg.matrix_rank(vectors)] if np.linalg.matrix_rank(vectors) else np.eye(1, n)
    rank = int(np.linalg.matrix_rank(vectors))
    vectors = vectors[:rank] if np.linalg.matrix_rank(vectors[:rank]) == rank else np.eye(rank, n)
    position = list(rng.permutation(n))
    found = canonical_basis(vectors, position)
    again = canonical_basis(rng.normal(size=(rank, rank)) @ vectors, position)
    assert set(found) == set(again)  # the coordinates of the null space do not matter
    basis = np.array(found, dtype=float)
    assert np.linalg.matrix_rank(basis) == rank == np.linalg.matrix_rank(np.vstack([basis, vectors]))
    for vector in basis:  # no vector of the space lives on a part of a circuit's support
        outside = vectors[:, vector == 0]
        circuit = rank - (np.linalg.matrix_rank(outside) if outside.size else 0) == 1
        # a sum is taken only where it evens larger exponents out
        assert circuit or np.abs(vector).max() < _largest_circuit(vectors, np.flatnonzero(vector).tolist(), position)


def test_the_least_basis_by_exhaustion() -> None:
    # every circuit of a small space, greedily: the same sizes
    vectors = np.array([[1, 1, -1, 0, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 1, -1]], dtype=float)
    sizes = []
    for size in range(1, 7):
        for support in itertools.combinations(range(6), size):
            outside = np.delete(vectors, support, axis=1)
            if 3 - np.linalg.matrix_rank(outside) == 1:
                sizes.append(size)
    found = canonical_basis(vectors, list(range(6)))
    assert sorted(sum(1 for n in v if n) for v in found) <= sorted(sizes)[:6]
    assert min(sum(1 for n in v if n) for v in found) == min(sizes)


def test_exponents_of_one_are_preferred() -> None:
    """A gain in front of q, k and v, where q trades with k and v with o: no square of k."""
    gain, q, k, v, o = np.eye(5)
    space = np.stack([gain - q - k - v, q - k, v - o])
    mixed = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 1.0], [2.0, 0.0, 1.0]]) @ space
    assert canonical_basis(mixed, [1, 2, 3, 4, 5]) == [(1, -1, -1, -1, 0), (0, 1, -1, 0, 0), (0, 0, 0, 1, -1)]
