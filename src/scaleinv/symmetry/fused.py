"""Find rescalings between slices of fused tensors: q against k inside one qkv matrix, v against the output projection.

A fused tensor is cut in the ways libraries cut them (thirds, halves, q with fewer heads of k and v, the same head by
head). Two slices trade their scales where the products g * w, summed over each, agree for every cotangent: <g_A, w_A>
= <g_B, w_B> for all of them says that A may go up when B goes down. A slice of the bias goes with its slice of the
weight.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaleinv.symmetry.parts import Slices, closed_runs
from scaleinv.symmetry.precision import Precision

Spans = tuple[tuple[int, int], ...]
#: a slice of a tensor: index, dimension (None: all of it), ranges
Piece = tuple[int, int | None, Spans]


@dataclass(frozen=True)
class Trade:
    """Pieces with exponents that keep the outputs; a dead slice is one piece with exponent 0."""

    pieces: tuple[tuple[Piece, int], ...]
    blocks: int = 0  # sub-slices that trade by themselves


def layouts(length: int, other: int) -> Iterator[list[Spans]]:
    """List the ways in which a dimension may be cut: each a list of slices, a slice a tuple of ranges.

    >>> list(layouts(4, 4))
    [[((0, 2),), ((2, 4),)]]
    """
    for parts in (3, 2):
        if length % parts == 0 and length >= 2 * parts:
            size = length // parts
            yield [((k * size, (k + 1) * size),) for k in range(parts)]
    if 0 < (rest := length - other) < 2 * other and rest % 2 == 0 and rest // 2 > 1:
        ends = (0, other, other + rest // 2, length)
        yield [((a, b),) for a, b in itertools.pairwise(ends)]
    for parts in (3, 2):
        for heads in range(2, 65):
            if length % (parts * heads) == 0 and (size := length // (parts * heads)) > 1:
                yield [
                    tuple(((h * parts + k) * size, (h * parts + k + 1) * size) for h in range(heads))
                    for k in range(parts)
                ]


def candidates(shapes: Sequence[tuple[int, ...]], rest: Sequence[int]) -> list[int]:
    """List the matrices that may be fused: their longer side can be cut, and they are in no symmetry alone."""
    return [
        i
        for i in rest
        if len(shapes[i]) >= 2
        and min(shapes[i][:2]) > 1
        and any(next(layouts(shapes[i][d], shapes[i][1 - d]), None) for d in (0, 1))
    ]


def trades(
    slices: dict[int, Slices],
    shapes: Sequence[tuple[int, ...]],
    names: Sequence[str],
    rest: Sequence[int],
    precision: Precision,
) -> list[Trade]:
    """Find the trades between slices of the matrices in ``rest``, from their sums of g * w over slices."""
    draws = min((s.draws for i, s in slices.items() if i in set(rest)), default=0)
    if draws < 3:
        return []
    totals = {i: torch.stack(_sums(slices[i], 0, draws)).sum(1) for i in rest if i in slices}
    biases = _biases(shapes, names, slices)
    found: list[Trade] = []
    taken: set[tuple[int, Spans]] = set()
    for i in candidates(shapes, [i for i in rest if i in slices]):
        best: list[Trade] = []
        partners = {b: _Partners.of(totals, biases, shapes, {i, b}, draws) for b in {None, biases.get(i)}}
        for d in (0, 1):
            length, other = shapes[i][d], shapes[i][1 - d]
            bias = biases.get(i) if length == (shapes[biases[i]][0] if i in biases else -1) else None
            for cut in layouts(length, other):
                here = _trades_of(i, d, cut, bias, slices, biases, partners[bias], draws, precision)
                if len(here) > len(best):
                    best = here
        for trade in best:
            key = tuple((p[0], p[2]) for p, _ in trade.pieces)
            if not taken & set(key):
                found.append(trade)
    return found


@dataclass(frozen=True)
class _Partners:
    """The matrices that a slice may trade with as a whole, alone or with their biases, and their sums of g * w."""

    matrices: list[int]
    alone: "_Totals"
    layers: list[int]  # those with a bias
    joined: "_Totals"  # with that of the bias

    @classmethod
    def of(
        cls,
        totals: dict[int, Tensor],
        biases: dict[int, int],
        shapes: Sequence[tuple[int, ...]],
        left_out: set[int | None],
        draws: int,
    ) -> "_Partners":
        matrices = [j for j in totals if j not in left_out and len(shapes[j]) >= 2]
        layers = [j for j in matrices if biases.get(j) in totals]
        alone, joined = [totals[j] for j in matrices], [totals[j] + totals[biases[j]] for j in layers]
        return cls(matrices, _Totals.of(alone, draws), layers, _Totals.of(joined, draws))

    def first(self, rows: Sequence[Tensor], zero: float, whole: float, *, layers: bool = False) -> list[int | None]:
        """Give for each row (K,) the first partner whose sums are the same, None if there is none."""
        indices, totals = (self.layers, self.joined) if layers else (self.matrices, self.alone)
        found = (totals.first(own.numpy(), zero, whole) for own in rows)
        return [None if k is None else indices[k] for k in found]


@dataclass(frozen=True)
class _Totals:
    """Sums of g * w, one for each cotangent, of several tensors; and their norms."""

    values: NDArray[np.float64]  # (n, K)
    norms: NDArray[np.float64]  # (n,)

    @classmethod
    def of(cls, rows: Sequence[Tensor], draws: int) -> "_Totals":
        values = torch.stack(list(rows)).numpy() if rows else np.zeros((0, draws))
        return cls(values, np.linalg.norm(values, axis=1))

    def first(self, own: NDArray[np.float64], zero: float, whole: float) -> int | None:
        """Give the first row that is ``own`` (K,) up to ``zero`` of the larger of both; None if there is none."""
        norm = float(np.linalg.norm(own))
        largest = np.maximum(self.norms, norm)
        allowed = zero * np.maximum(largest, whole)
        near = (np.abs(self.norms - norm) <= allowed) & (largest > 1e3 * zero * whole)  # norms are as near as vectors
        for k in np.flatnonzero(near).tolist():
            if float(np.linalg.norm(own - self.values[k])) <= allowed[k]:
                return int(k)
        return None


def _sums(slices: Slices, dim: int, draws: int) -> list[Tensor]:
    return slices.sums[dim][:draws]


def _biases(shapes: Sequence[tuple[int, ...]], names: Sequence[str], slices: dict[int, Slices]) -> dict[int, int]:
    """Match each matrix with the bias of its layer: a vector of the same owner, as long as the matrix has outputs."""
    by_name = {name: i for i, name in enumerate(names)}
    found = {}
    for i, name in enumerate(names):
        bias = by_name.get(name[: -len("weight")] + "bias") if name.endswith("weight") else None
        if bias is not None and len(shapes[bias]) == 1 and len(shapes[i]) > 1 and bias in slices:
            found[i] = bias
    return found


def _take(rows: Tensor, spans: Spans) -> Tensor:
    return torch.cat([rows[:, a:b] for a, b in spans], dim=1)


def _trades_of(
    i: int,
    d: int,
    cut: list[Spans],
    bias: int | None,
    slices: dict[int, Slices],
    biases: dict[int, int],
    partners: "_Partners",
    draws: int,
    precision: Precision,
) -> list[Trade]:
    """Find the trades of one way to cut tensor ``i`` along dimension ``d``."""
    zero = precision.part
    rows = torch.stack(_sums(slices[i], d, draws))  # (K, n)
    size = slices[i].sizes[d]
    whole = float(size.norm())
    if any(not float(_take(size[None], spans).max()) > precision.dead * float(size.max()) for spans in cut):
        return []  # rows of a table that no token uses, features that are zero: the rest is all that is seen of it
    of_bias = None if bias is None else torch.stack(_sums(slices[bias], 0, draws))
    result: list[Trade] = []
    edges = sorted({edge for spans in cut for span in spans for edge in span})
    at = {edge: k for k, edge in enumerate(edges)}

    def sums(t: Tensor) -> list[Tensor]:
        """Sums (K,) of the columns of ``t`` over each slice of the cut."""
        between = np.add.reduceat(t.numpy(), edges[:-1], axis=1)  # (K, number of spans)
        return [torch.from_numpy(between[:, [at[a] for a, _ in spans]].sum(1)) for spans in cut]

    def rows_of(pieces: Sequence[Piece]) -> Tensor:
        """Rows (K, n) of one side: those of the weight's slice, and of the bias's where it goes with it."""
        own = _take(rows, pieces[0][2])
        return own if len(pieces) == 1 or of_bias is None else own + _take(of_bias, pieces[1][2])

    sides: list[list[tuple[Tensor, list[Piece]]]] = []
    biased = sums(of_bias) if of_bias is not None else []
    for k, (spans, own) in enumerate(zip(cut, sums(rows))):
        side: list[tuple[Tensor, list[Piece]]] = [(own, [(i, d, spans)])]
        if of_bias is not None and bias is not None:
            if float(_take(slices[bias].sizes[0][None], spans).max()) <= precision.dead * float(size.max()):
                if float(slices[bias].sizes[0].max()) > 1e3 * precision.dead * float(size.max()):
                    result.append(Trade((((bias, 0, spans), 0),)))
            else:
                side.append((own + biased[k], [(i, d, spans), (bias, 0, spans)]))
        sides.append(side)

    norms = [[float(own.norm()) for own, _ in side] for side in sides]

    def same(x: int, p: int, y: int, q: int) -> bool:
        """Whether side x, taken in way p, goes as side y in way q."""
        largest = max(norms[x][p], norms[y][q])
        allowed = zero * max(whole, largest)
        if largest <= 1e3 * zero * whole or abs(norms[x][p] - norms[y][q]) > allowed:
            return False
        return float((sides[x][p][0] - sides[y][q][0]).norm()) <= allowed

    matched: set[int] = set()
    for x, first in enumerate(sides):
        for y in range(x + 1, len(sides)):
            if {x, y} & matched:
                continue
            ways = itertools.product(range(len(first)), range(len(sides[y])))
            pair = next(((first[p], sides[y][q]) for p, q in ways if same(x, p, y, q)), None)
            if pair is not None:
                (_, ups), (_, downs) = pair
                blocks = _runs(rows_of(ups), rows_of(downs), whole, zero)
                pieces = (*((p, 1) for p in ups), *((p, -1) for p in downs))
                result.append(Trade(pieces, blocks))
                matched |= {x, y}
    for x, side in enumerate(sides):
        if x in matched:
            continue
        first_of = partners.first([own for own, _ in side], zero, whole)
        found_at = ((partners.matrices.index(j), number, j) for number, j in enumerate(first_of) if j is not None)
        hit = min(found_at, default=None)
        (layer,) = partners.first([side[0][0]], zero, whole, layers=True)
        if hit is not None and (layer is None or hit[0] <= partners.matrices.index(layer)):
            j, terms = hit[2], side[hit[1]][1]
            blocks = _columns(rows_of(terms), j, slices, draws, whole, zero)
            result.append(Trade((*((p, 1) for p in terms), ((j, None, ()), -1)), blocks))
        elif layer is not None:
            whole_layer = (((layer, None, ()), 1), ((biases[layer], None, ()), 1))
            result.append(Trade((*whole_layer, ((i, d, cut[x]), -1))))
    only_dead = all(e == 0 for t in result for _, e in t.pieces)
    return [] if only_dead else result


def _columns(rows: Tensor, j: int, slices: dict[int, Slices], draws: int, whole: float, zero: float) -> int:
    """Count the blocks in which the rows of a slice trade with the columns of tensor ``j`` by themselves."""
    runs = [0]
    for d in range(len(slices[j].sums)):
        other = torch.stack(_sums(slices[j], d, draws))
        if other.shape == rows.shape:
            runs.append(_runs(rows, other, whole, zero))
    return max(runs)


def _runs(up: Tensor, down: Tensor, whole: float, zero: float) -> int:
    """Count the sub-slices that trade by themselves; where one side has several heads to one of the other, groups."""
    long, short = max(up.shape[1], down.shape[1]), min(up.shape[1], down.shape[1])
    if short == 0 or long % short:
        return 0
    up, down = (t.reshape(len(t), short, -1).sum(2) for t in (up, down))
    return len(closed_runs(up - down, up.new_full((short,), whole / short**0.5), zero))


def covered(found: Sequence[Trade], shapes: Sequence[tuple[int, ...]]) -> set[int]:
    """List the tensors of which every slice is in a trade, or dead."""
    whole = {i for t in found for (i, d, _), _ in t.pieces if d is None}
    slices: dict[int, set[int]] = {}
    for i, d, spans in (piece for t in found for piece, _ in t.pieces):
        if d is not None:
            slices.setdefault(i, set()).update(k for a, b in spans for k in range(a, b))
    cut = {i: d for t in found for (i, d, _), _ in t.pieces if d is not None}
    return whole | {i for i, rows in slices.items() if len(rows) == shapes[i][cut[i]]}
