"""Take the steps of plain SGD on one sphere with few calls: most of a small network's step is the way to its numbers.

The numbers are those of :class:`scaleinv.Sphere` with the projection ``literal``, bit for bit: the same operations on
the same operands, of which an exactly rounded one (a product of two numbers) may be numpy's. A step that a Sphere might
have to take back, or refuse, is left to it.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.lab.small import flat, is_small
from scaleinv.sphere.optimizer import Sphere

#: a plain step shorter than this part of the radius cannot reach the origin
_SHORT = 0.9


class PlainSteps:
    """Step in place of a Sphere around plain SGD, where that is safe.

    Args:
        sphere: with one unit of whole tensors on a CPU, around SGD without momentum, decay and hooks.
    """

    def __init__(self, sphere: Sphere) -> None:
        (unit,) = sphere.units
        self.sphere = sphere
        self.parameters = list(unit.parameters)
        self.weights = [p.detach() for p in self.parameters]
        #: of every param group of the wrapped optimizer, which loading a state replaces
        self.held = [[(p, p.detach()) for p in group["params"]] for group in sphere.optimizer.param_groups]
        self.all = [p for held in self.held for p, _ in held]
        self.small = all(is_small(t) for t in self.weights)
        self.squares = [torch.empty_like(w) for w in self.weights] if self.small else []
        self.flat = [(flat(w), flat(s)) for w, s in zip(self.weights, self.squares)]
        self.rates: list[float] = []  # of the Sphere, as they were last put into the wrapped optimizer

    @staticmethod
    def suit(sphere: Sphere) -> bool:
        """Tell whether the steps of a Sphere can be taken here."""
        optimizer = sphere.optimizer
        plain = type(optimizer) is torch.optim.SGD and sphere.granularity == "total" and sphere.projection == "literal"
        settings = ("momentum", "weight_decay", "nesterov", "maximize", "differentiable", "fused")
        plain = plain and all(g["foreach"] and not any(g[k] for k in settings) for g in optimizer.param_groups)
        return plain and sphere.check == "step" and all(p.device.type == "cpu" for p in sphere.units[0].parameters)

    def clear(self) -> None:
        """Clear the gradients."""
        for p in self.all:
            p.grad = None

    def take(self, rate: float, square: float | None) -> bool:
        """Take a step; False: it is the Sphere's, and nothing has happened.

        ``rate``: the learning rate of the weights on the sphere. ``square``: the squared norm of their gradient; None:
        to be measured.
        """
        sphere = self.sphere
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if len(gradients) < len(self.parameters):
            return False
        size = _norm(gradients) if square is None else math.sqrt(square)
        radius = sphere.units[0].radius
        if not rate * size < _SHORT * radius:  # or not a number
            return False
        rates = [group["lr"] for group in sphere.param_groups]
        if rates != self.rates:
            sphere.push_rates()
            self.rates = rates
        with torch.no_grad():
            for group, held in zip(sphere.optimizer.param_groups, self.held):
                steps = [(weight, p.grad) for p, weight in held if p.grad is not None]
                if steps:
                    torch._foreach_add_([w for w, _ in steps], [g for _, g in steps], alpha=-group["lr"])
            self.return_to(radius)
        sphere.count_step()
        return True

    def return_to(self, radius: float) -> None:
        """Scale the weights to their radius."""
        if not self.small:
            torch._foreach_mul_(self.weights, radius / geometry.norm(self.weights))
            return
        for weight, held in self.flat:
            np.multiply(weight, weight, out=held)
        sums = [held.sum() for held in self.squares]  # the order of torch's sums
        square = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
        # radius / norm as torch divides: its square root is no exactly rounded one
        number = np.float32(radius) * np.float32(square.sqrt_().reciprocal_().item())
        for weight, _ in self.flat:
            np.multiply(weight, number, out=weight)


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(list(tensors))).square().sum().sqrt())
