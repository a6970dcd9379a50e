"""From a null space to the rescalings a person would name: minimal supports, small whole exponents, one fixed choice.

The null space N (vectors of exponents, one per tensor) is a rational subspace. Its vectors of minimal support are the
circuits of a matroid: no part of such a symmetry is a symmetry. There may be very many; this file picks a basis of N
made of circuits, the least in the order of :func:`rank_key`, which is what reads best: few tensors, small exponents,
neighbours in the forward pass, and among equals the tensors used last.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LARGEST_DENOMINATOR = 12


class Irrational(ValueError):
    """The null space has no basis of small fractions, so it is not a space of rescaling symmetries."""


def snap(matrix: Array, tolerance: float) -> Array:
    """Round every entry to the nearest fraction with a denominator of at most 12; raise Irrational if one is far off."""
    result = np.empty_like(matrix)
    for at, value in np.ndenumerate(matrix):
        near = Fraction(float(value)).limit_denominator(_LARGEST_DENOMINATOR)
        if abs(float(near) - value) > tolerance * max(1.0, abs(value)):
            raise Irrational(f"exponent {value:.6g} is not a small fraction")
        result[at] = float(near)
    return result


def echelon(rows: Array, order: list[int], tolerance: float = 1e-7) -> Array:
    """Reduced row echelon form with pivots taken in the given order of columns; each row is then a circuit."""
    a = np.array(rows, dtype=np.float64)
    done = 0
    for column in order:
        if done == len(a):
            break
        best = done + int(np.argmax(np.abs(a[done:, column])))
        if abs(a[best, column]) < tolerance:
            continue
        a[[done, best]] = a[[best, done]]
        a[done] /= a[done, column]
        others = np.arange(len(a)) != done
        a[others] -= np.outer(a[others, column], a[done])
        done += 1
    a = a[:done]
    a[np.abs(a) < tolerance] = 0.0
    return a


def whole(vector: Array, position: list[int]) -> tuple[int, ...]:
    """The smallest whole-number multiple; the tensor used first goes up."""
    fractions = [Fraction(float(v)).limit_denominator(_LARGEST_DENOMINATOR**2) for v in vector]
    common = 1
    for f in fractions:
        common = common * f.denominator // gcd(common, f.denominator)
    numbers = [int(f * common) for f in fractions]
    divisor = 0
    for n in numbers:
        divisor = gcd(divisor, n)
    numbers = [n // max(divisor, 1) for n in numbers]
    positive = sum(n > 0 for n in numbers)
    if positive in (0, len([n for n in numbers if n])):
        sign = 1 if positive else -1
    else:
        first = min((i for i, n in enumerate(numbers) if n), key=lambda i: (position[i], i))
        sign = 1 if numbers[first] > 0 else -1
    return tuple(sign * n for n in numbers)


def rank_key(vector: tuple[int, ...], position: list[int]) -> tuple[float, ...]:
    """Sorting key of a circuit: number of tensors, size of the exponents, spread over the forward pass, late before
    early."""
    support = [position[i] for i, n in enumerate(vector) if n]
    joint = all(n >= 0 for n in vector)
    spread = 0 if joint else max(support) - min(support)
    late = sorted(-p for p in support)
    return (len(support), sum(map(abs, vector)), joint, spread, *late, *vector)


def components(rows: Array) -> list[tuple[list[int], list[int]]]:
    """Blocks (rows, columns) of an echelon form that share no column: each is a null space of its own."""
    owner: dict[int, int] = {}
    parent = list(range(len(rows)))

    def root(r: int) -> int:
        while parent[r] != r:
            r = parent[r]
        return r

    for r, row in enumerate(rows):
        for column in np.flatnonzero(row):
            if int(column) in owner:
                parent[root(r)] = root(owner[int(column)])
            else:
                owner[int(column)] = r
    blocks: dict[int, list[int]] = {}
    for r in range(len(rows)):
        blocks.setdefault(root(r), []).append(r)
    return [(block, sorted({int(c) for r in block for c in np.flatnonzero(rows[r])})) for block in blocks.values()]


def canonical_basis(null: Array, position: list[int], tolerance: float = 1e-5) -> list[tuple[int, ...]]:
    """A basis of whole-number circuits of the space spanned by the rows of ``null`` (d, T).

    position: when each tensor is last used in the forward pass.  tolerance: of the entries of its echelon form. Returns
    d tuples of T exponents, least first. Raises Irrational where the space is not spanned by small fractions.

    >>> canonical_basis(np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]), [1, 2, 3])
    [(1, -1, 0), (0, 1, -1)]
    """
    null = np.asarray(null, dtype=np.float64)
    tensors = null.shape[1]
    if not len(null):
        return []
    early = sorted(range(tensors), key=lambda i: (position[i], i))
    rows = snap(echelon(null, early, max(1e-7, tolerance / 10)), tolerance)
    result: list[tuple[int, ...]] = []
    for block, columns in components(rows):
        inner = rows[np.ix_(block, columns)]
        places = [position[c] for c in columns]
        for circuit in _least_basis(inner, places):
            full = [0] * tensors
            for column, exponent in zip(columns, circuit):
                full[column] = exponent
            result.append(tuple(full))
    return sorted(result, key=lambda v: min(position[i] for i, n in enumerate(v) if n))


def _least_basis(rows: Array, position: list[int]) -> list[tuple[int, ...]]:
    if len(rows) == 1:
        return [whole(rows[0], position)]
    size = rows.shape[1]
    early = sorted(range(size), key=lambda i: (position[i], i))
    found: set[tuple[int, ...]] = set()
    # rotations of the forward order reach the circuits of neighbours; large blocks are thinned, reduction does the rest
    step = max(1, size // 48)
    for start in range(0, size, step):
        turned = early[start:] + early[:start]
        for order in (turned, turned[::-1]):
            for row in echelon(rows, order):
                found.add(whole(row, position))
    basis = _greedy(found, position, len(rows))
    while True:
        before = basis
        for u in basis:
            for v in basis:
                found.update(_combined(u, v, position))
        basis = _greedy(found, position, len(rows))
        if basis == before:
            return basis
        found = set(basis)


def _combined(u: tuple[int, ...], v: tuple[int, ...], position: list[int]) -> list[tuple[int, ...]]:
    """What is left of u when one tensor it shares with v is cancelled, where that is less than u."""
    if u == v:
        return []
    size = sum(1 for a in u if a)
    result = []
    for a, b in {(a, b) for a, b in zip(u, v) if a and b}:
        left = [x * b - y * a for x, y in zip(u, v)]
        if sum(1 for n in left if n) <= size:
            result.append(whole(np.array(left, dtype=np.float64), position))
    return result


def _greedy(found: set[tuple[int, ...]], position: list[int], wanted: int) -> list[tuple[int, ...]]:
    """The least basis among the found vectors (greedy is exact: linear independence is a matroid)."""
    basis: list[tuple[int, ...]] = []
    reduced: list[Array] = []
    for vector in sorted(found, key=lambda v: rank_key(v, position)):
        left = np.array(vector, dtype=np.float64)
        left /= np.linalg.norm(left)
        for r in reduced:
            left = left - (left @ r) * r
        norm = float(np.linalg.norm(left))
        if norm > 1e-7:
            # once more: one pass of Gram-Schmidt loses digits
            left /= norm
            for r in reduced:
                left = left - (left @ r) * r
            reduced.append(left / np.linalg.norm(left))
            basis.append(vector)
            if len(basis) == wanted:
                break
    return basis
