"""Measure what eps does to the symmetry: the defect of every scale-invariant group at the weights as they are.

A norm divides by sqrt(var + eps), and var falls as rho^2, so with x = eps/var its output and the gradient behind it are
off by the factor (1 + x)^(-1/2): 1 % at x = 0.020, 10 % at x = 0.235, and x ~ rho^-2. Later norms undo a part of the
error of the outputs, but not that of the gradient, which is what moves the weights. So the error measured here is that
of the effective gradient, |rho g(rho) - [rho g]| / |[rho g]| with [rho g] at a norm where eps is nothing; both from one
random cotangent.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scaleinv.symmetry.copies import view_real
from scaleinv.symmetry.jacobian import cotangent, full_row
from scaleinv.symmetry.probe import Probe

#: evaluations per group and error that is looked for
_STEPS = 12
#: an error that falls by less than this over a factor of two on the weights and more is rounding
_FALLS = 0.8
#: an error this near to the one that is looked for is carried over by the law of one norm
_CLOSE = 0.1
#: two factors so near to each other, in powers of two, are interpolated between
_NARROW = 0.15
#: entries of a group beyond which its weights are not copied
_MOST = 2**24
#: exponents of the powers of two by which weights are multiplied
_LOWEST, _HIGHEST = -40, 10
#: factor on the weights at which eps is nothing, a power of two: it is taken back without a copy
_FAR = 2.0**_HIGHEST
#: precisions in which such a factor leaves no number out of range
_WIDE = (torch.float32, torch.float64, torch.bfloat16)
#: entries that are compared at a time
_PIECE = 2**20


def norm_of_error(rho: float, now: float, error: float) -> float:
    """Compute the norm at which the factor (1 + x)^(-1/2) is off by ``error``, if it is off by ``now`` at norm ``rho``.

    >>> round(norm_of_error(1.0, 0.10, 0.01), 3)
    3.399
    """
    return rho * math.sqrt(_x(now) / _x(error))


def _x(error: float) -> float:
    return (1 - min(max(error, 1e-12), 0.999)) ** -2 - 1


def eps_defect(
    model: nn.Module,
    inputs: Any,
    groups: Mapping[str, Sequence[int]],
    generator: torch.Generator,
    own: Probe | None = None,
) -> dict[str, dict[str, float | None]]:
    """Measure the defect of every group in the model's own dtype and eps, at its own weights.

    ``norm``, ``cosine`` |cos(g, w)|, ``error`` (relative, of the effective gradient; rounding included), and
    ``norm_1_percent``, ``norm_10_percent``, the norms at which that error is 1 % and 10 %, measured within a tenth of
    it or on both sides; None = not reached. ``own``: a probe in the model's own precision and eps.
    """
    if not groups:
        return {}
    own = own or Probe(model, inputs, dtype=None, eps=None)
    u = cotangent(torch.ones_like(own.value(), dtype=torch.float64), generator)
    together = sorted({i for group in groups.values() for i in group})
    present = dict(zip(together, _gradients(own, together, 1.0, u)))
    # x falls by 1e6: nothing is left of eps, and single precision still holds the weights
    far = dict(zip(together, _gradients(own, together, _FAR, u)))
    result: dict[str, dict[str, float | None]] = {}
    starts = {}
    for name, group in groups.items():
        now = Effective([present[i] for i in group])
        rho = Effective([view_real(own.tensors[i].detach()).reshape(-1) for i in group]).norm()
        starts[name] = now.off(Effective([far[i] for i in group], _FAR))
        dot = now.along([view_real(own.tensors[i].detach()).reshape(-1) for i in group])
        size = now.norm()
        cosine = abs(dot) / (rho * size) if rho > 0 and size > 0 else None
        result[name] = {"norm": rho, "cosine": cosine, "error": None, "norm_1_percent": None, "norm_10_percent": None}
    # the other groups' eps is in the reference too, which is only right where it is nothing, or there are none
    shared = all(error < 1e-3 for error in starts.values()) and len(together) == sum(map(len, groups.values()))
    shared = shared or len(groups) == 1
    (present if shared else far).clear()
    for name, group in groups.items():
        rho, start = result[name]["norm"] or 0.0, starts[name]
        if rho == 0 or result[name]["cosine"] is None:
            continue
        indices = list(group)
        if shared:
            reference = Effective([far[i] for i in indices], _FAR)
        else:
            reference = Effective(_gradients(own, indices, _FAR, u), _FAR)
            start = Effective([present[i] for i in indices]).off(reference)

        def error_at(k: float, indices: list[int] = indices, reference: Effective = reference) -> float:
            return Effective(_gradients(own, indices, 2.0**k, u), 2.0**k).off(reference)

        whole = sum(own.tensors[i].numel() for i in indices) > _MOST

        result[name]["error"] = start if math.isfinite(start) else None
        known = {0.0: start}
        for key, error in (("norm_1_percent", 0.01), ("norm_10_percent", 0.10)):
            factor = _factor_of(error, error_at, known, whole)
            result[name][key] = None if factor is None else rho * factor
    return result


class Effective(NamedTuple):
    """The effective gradient of a group, tensor by tensor: gradients at weights multiplied by ``factor``, times it."""

    gradients: list[Tensor]
    factor: float = 1.0

    def norm(self) -> float:
        """Compute the Frobenius norm, in double precision and without a copy."""
        pieces = (piece for g in self.gradients for piece in torch.split(g, _PIECE))
        norms = [float(torch.linalg.vector_norm(piece, dtype=torch.float64)) for piece in pieces]
        return self.factor * math.hypot(*norms)

    def along(self, weights: list[Tensor]) -> float:
        """Compute the product with the weights."""
        pairs = (
            pair
            for g, w in zip(self.gradients, weights)
            for pair in zip(torch.split(g, _PIECE), torch.split(w, _PIECE))
        )
        return self.factor * sum(float(torch.dot(a.double(), b.double())) for a, b in pairs)

    def off(self, reference: "Effective") -> float:
        """Compute how far this is from ``reference``, relative to it; piece by piece, as groups may be large."""
        parts = [
            float(torch.linalg.vector_norm(a.double() * self.factor - b.double() * reference.factor))
            for g, h in zip(self.gradients, reference.gradients)
            for a, b in zip(torch.split(g, _PIECE), torch.split(h, _PIECE))
        ]
        return math.hypot(*parts) / max(reference.norm(), 1e-300)


@contextlib.contextmanager
def _exactly(own: Probe, group: list[int], factor: float) -> Iterator[None]:
    """Multiply tensors by a power of two while the context lasts, without copies."""

    def multiply(c: float) -> None:
        with torch.no_grad():
            for i in group if c != 1.0 else ():
                own.tensors[i].mul_(c)

    multiply(factor)
    try:
        yield
    finally:
        multiply(1 / factor)


def _gradients(own: Probe, group: list[int], factor: float, u: Tensor) -> list[Tensor]:
    """Compute the gradients (flat) of <u, outputs> with the group's weights multiplied by a factor."""
    exact = math.frexp(factor)[0] == 0.5 and all(own.tensors[i].dtype in _WIDE for i in group)  # a power of two
    moved = _exactly(own, group, factor) if exact else own.scaled(dict.fromkeys(group, factor))
    with moved, own.differentiable(group):
        gradients = full_row(own, own.outputs(), u, group, keep=False)
    flat = []
    for k, i in enumerate(group):
        g, gradients[k] = gradients[k], None  # one at a time: a transposed one is copied when it is made flat
        g = torch.zeros_like(own.tensors[i]) if g is None else g.to_dense() if g.is_sparse else g
        flat.append(view_real(g).reshape(-1))
    return flat


def _factor_of(
    error: float, error_at: Callable[[float], float], known: dict[float, float], whole: bool
) -> float | None:
    """Find the factor on the weights at which the error is ``error``: measured near it, or on both sides of it.

    From one measured error to the next by the law of one norm, which is not exact: units behind it switch on and off.
    ``known``: errors by the logarithm of the factor, base 2, which grows; the first, of the weights as they are, may be
    nothing but rounding. ``whole``: powers of two alone, for which no copy of the weights is needed. None where no
    factor gives that error: it is out of range, or below the rounding.
    """
    sides: list[bool] = []
    jumps = False
    for _ in range(_STEPS):
        if not all(math.isfinite(e) and e > 0 for e in known.values()):
            return None
        near = min(known, key=lambda k: abs(math.log(known[k] / error)))
        if abs(known[near] / error - 1) <= _CLOSE:
            return norm_of_error(2.0**near, known[near], error)
        low = max((k for k, e in known.items() if e > error), default=None)
        high = min((k for k, e in known.items() if e <= error and (low is None or k > low)), default=None)
        if low is None or high is None:  # by the law beyond what is known, and by a half at least
            law = math.log2(norm_of_error(2.0**near, known[near], error))
            k = min(law, min(known) - 0.5) if low is None else max(law, max(known) + 0.5)
            before = [e for k, e in known.items() if k <= max(known) - 1]
            if high is None and before and known[max(known)] > _FALLS * min(before):
                return None
        else:
            share = math.log(_x(known[low]) / _x(error)) / math.log(_x(known[low]) / _x(known[high]))
            k = low + share * (high - low)
            if high - low <= (1 if whole else _NARROW):
                return float(2.0**k)
            k = min(max(k, low + 0.1 * (high - low)), high - 0.1 * (high - low))
            if jumps or sides[-2:] in ([True, True], [False, False]):  # the law would lead on in ever smaller steps
                jumps, k = True, min((low + high) / 2, low + 0.5)
        if whole:
            k = float(math.floor(k) if math.floor(k) not in known else math.floor(k) + 1)
        if not _LOWEST < k < _HIGHEST or k in known:
            return None
        known[k] = error_at(k)
        sides.append(known[k] > error)
    return None
