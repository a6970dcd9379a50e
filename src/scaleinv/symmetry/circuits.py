"""Turn a null space into the rescalings a person would name: minimal supports, small whole exponents, one fixed choice.

The null space N (vectors of exponents, one per tensor) is a rational subspace. Its vectors of minimal support are the
circuits of a matroid: no part of such a symmetry is a symmetry. There may be very many; this file picks a basis of N,
the least in the order of :func:`rank_key`, which is what reads best: exponents of one where there are such, few
tensors, neighbours in the forward pass, and among equals the tensors used last. It is made of circuits, but for those
with larger exponents that a sum with another evens out: a gain against q, k and v, not against k^-2 and v.
"""

from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LARGEST_DENOMINATOR = 12


class Irrational(ValueError):
    """The null space has no basis of small fractions, so it is not a space of rescaling symmetries."""


def snap(matrix: Array, tolerance: float) -> Array:
    """Round every entry to the nearest fraction with a denominator up to 12; raise Irrational if one is far off."""
    result = np.empty_like(matrix)
    for at, value in np.ndenumerate(matrix):
        near = Fraction(float(value)).limit_denominator(_LARGEST_DENOMINATOR)
        if abs(float(near) - value) > tolerance * max(1.0, abs(value)):
            raise Irrational(f"exponent {value:.6g} is not a small fraction")
        result[at] = float(near)
    return result


def echelon(rows: Array, order: list[int], tolerance: float = 1e-7) -> Array:
    """Compute the reduced row echelon form with pivots in the given order of columns; each row is then a circuit."""
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
    """Find the smallest whole-number multiple of a vector; the tensor used first goes up."""
    fractions = [Fraction(float(v)).limit_denominator(_LARGEST_DENOMINATOR**2) for v in vector]
    common = lcm(*(f.denominator for f in fractions))
    numbers = [int(f * common) for f in fractions]
    divisor = max(gcd(*numbers), 1)
    first = min((i for i, n in enumerate(numbers) if n), key=lambda i: (position[i], i), default=None)
    sign = -1 if first is None or numbers[first] < 0 else 1
    return tuple(sign * n // divisor for n in numbers)


def rank_key(vector: tuple[int, ...], position: list[int]) -> tuple[float, ...]:
    """Give a symmetry its rank: largest exponent, number of tensors, sum of the exponents, spread over the forward
    pass, late first."""
    support = [position[i] for i, n in enumerate(vector) if n]
    joint = all(n >= 0 for n in vector)
    spread = 0 if joint else max(support) - min(support)
    return (
        max(map(abs, vector)),
        len(support),
        sum(map(abs, vector)),
        joint,
        spread,
        *sorted(-p for p in support),
        *vector,
    )


def components(rows: Array) -> list[tuple[list[int], list[int]]]:
    """Split an echelon form into blocks (rows, columns) that share no column: each is a null space of its own."""
    blocks: list[tuple[list[int], set[int]]] = []
    for r, row in enumerate(rows):
        columns = set(map(int, np.flatnonzero(row)))
        touching = [block for block in blocks if block[1] & columns]
        merged = sorted([r, *(member for members, _ in touching for member in members)])
        blocks = [block for block in blocks if block not in touching]
        blocks.append((merged, columns.union(*(own for _, own in touching))))
    return [(members, sorted(columns)) for members, columns in sorted(blocks, key=lambda block: block[0])]


def canonical_basis(null: Array, position: list[int], tolerance: float = 1e-5) -> list[tuple[int, ...]]:
    """Find a basis of whole-number circuits of the space spanned by the rows of ``null`` (d, T).

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
        for circuit in _least_basis(rows[np.ix_(block, columns)], [position[c] for c in columns]):
            exponents = dict(zip(columns, circuit))
            result.append(tuple(exponents.get(i, 0) for i in range(tensors)))
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
        found.update(whole(row, position) for order in (turned, turned[::-1]) for row in echelon(rows, order))
    basis = _greedy(found, position, len(rows))
    while True:
        before = basis
        found.update(circuit for u in basis for v in basis for circuit in _combined(u, v, position))
        found.update(even for u in basis for v in basis for even in _evened(u, v, position))
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


def _evened(u: tuple[int, ...], v: tuple[int, ...], position: list[int]) -> list[tuple[int, ...]]:
    """The sum and the difference of u and v where its exponents are smaller: k^-1, q^-1 in place of k^-2."""
    largest = max(map(abs, u))
    if u == v or largest < 2:
        return []
    sums = [[x + sign * y for x, y in zip(u, v)] for sign in (1, -1)]
    return [whole(np.array(s, dtype=np.float64), position) for s in sums if 0 < max(map(abs, s)) < largest]


def _greedy(found: set[tuple[int, ...]], position: list[int], wanted: int) -> list[tuple[int, ...]]:
    """The least basis among the found vectors (greedy is exact: linear independence is a matroid)."""
    basis: list[tuple[int, ...]] = []
    reduced: list[Array] = []
    for vector in sorted(found, key=lambda v: rank_key(v, position)):
        left = np.array(vector, dtype=np.float64)
        for _ in range(2):  # one pass of Gram-Schmidt loses digits
            left = left / np.linalg.norm(left)
            for r in reduced:
                left = left - (left @ r) * r
            if np.linalg.norm(left) <= 1e-7:
                break
        else:
            reduced.append(left / np.linalg.norm(left))
            basis.append(vector)
            if len(basis) == wanted:
                break
    return basis
