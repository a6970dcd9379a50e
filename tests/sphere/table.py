"""What every combination of Sphere is held against: the step in numpy, float64, one piece after another.

Gradients are given, not computed, and are not tangent: whatever a Sphere does, its path follows from them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree as trees

from scaleinv import Sphere
from scaleinv.sphere import Cut, shards

SHAPES = {"w": (6, 4), "v": (8, 6)}
ELR = {"sgd": 2e-3, "normalised": 1e-2}
STEPS = 6
Mask = tuple[str, Any]  # a tensor and an index into it


def tensors(mask: Callable[[tuple[int, ...]], list[Any]]) -> list[list[Mask]]:
    return [[(name, index)] for name, shape in SHAPES.items() for index in mask(shape)]


#: what lies on one sphere: options of Sphere, and the pieces of both tensors in numpy's words
GRANULARITIES: dict[str, tuple[dict[str, Any], list[list[Mask]]]] = {
    "total": ({"granularity": "total"}, [[(name, ...) for name in SHAPES]]),
    "group": ({"granularity": "group"}, [[(name, ...)] for name in SHAPES]),
    "tensor": ({"granularity": "tensor"}, [[(name, ...)] for name in SHAPES]),
    "row": ({"granularity": "row"}, tensors(lambda s: [np.s_[i] for i in range(s[0])])),
    "column": ({"granularity": "column"}, tensors(lambda s: [np.s_[:, i] for i in range(s[1])])),
    "block": (
        {"granularity": "block", "split": 2},
        tensors(lambda s: [np.s_[: s[0] // 2], np.s_[s[0] // 2 :]]),
    ),
    "blocks of columns": (
        {"granularity": Cut(dim=1, split=2)},
        tensors(lambda s: [np.s_[:, : s[1] // 2], np.s_[:, s[1] // 2 :]]),
    ),
    "mixed": (
        {"granularity": {"w": "column", "v": Cut(split=4)}},
        [[("w", np.s_[:, i])] for i in range(4)] + [[("v", np.s_[2 * i : 2 * i + 2])] for i in range(4)],
    ),
}

Factory = Callable[[Any], Optimizer]
#: law, how to make it, and its update in numpy
OPTIMIZERS: dict[str, tuple[str, Factory]] = {
    "sgd": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0)),
    "momentum": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9)),
    "nesterov": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9, nesterov=True)),
    "adam": ("normalised", lambda p: torch.optim.Adam(p, lr=1.0)),
    "adamw": ("normalised", lambda p: torch.optim.AdamW(p, lr=1.0, weight_decay=0.0)),
}


#: dtype, options, how far from the path at most, how far from the norm at most
DTYPES: dict[str, tuple[torch.dtype, dict[str, Any], float, float]] = {
    "f64": (torch.float64, {}, 1e-12, 1e-14),
    "f32": (torch.float32, {}, 2e-5, 1e-6),
    # of the copies: bfloat16 keeps 8 bits of the start, which the slow path starts from as well
    "bf16": (torch.bfloat16, {"masters": True}, 2e-5, 1e-6),
}
Cell = tuple[str, str, str]  # optimizer, granularity, dtype
ALL: list[Cell] = [(o, g, d) for o in OPTIMIZERS for g in GRANULARITIES for d in DTYPES]
#: every optimizer with every granularity once, each dtype in turn
SOME: list[Cell] = [
    (o, g, list(DTYPES)[(i + k) % len(DTYPES)]) for i, o in enumerate(OPTIMIZERS) for k, g in enumerate(GRANULARITIES)
]


def build(cell: Cell, weights: dict[str, Any], **options: Any) -> Sphere:
    """A Sphere over the weights."""
    optimizer, granularity, dtype = cell
    law, make = OPTIMIZERS[optimizer]
    more = {**GRANULARITIES[granularity][0], **DTYPES[dtype][1], **options}
    return Sphere(make(list(weights.values())), {n: [w] for n, w in weights.items()}, ELR[law], **more)


def start(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype))
        for name, shape in SHAPES.items()
    }


def gradients(step: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for name, shape in SHAPES.items()}


def put(weights: dict[str, nn.Parameter], step: int) -> None:
    """Give the parameters the gradients of a step."""
    for name, gradient in gradients(step, next(iter(weights.values())).dtype).items():
        weights[name].grad = gradient


@dataclass
class Slow:
    """Projected training, written down as in the papers."""

    weights: dict[str, np.ndarray]
    optimizer: str
    pieces: list[list[Mask]]
    radii: list[float] = field(default_factory=list)
    state: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        """Bring the pieces of a tensor to one norm, as wrapping does."""
        whole = {name: np.linalg.norm(w) for name, w in self.weights.items()}
        counts = {name: sum(p[0][0] == name for p in self.pieces) for name in self.weights}
        for piece in self.pieces:
            if len(piece) > 1 or counts[piece[0][0]] == 1:
                self.radii.append(float(np.linalg.norm(self.take(self.weights, piece))))
                continue
            name = piece[0][0]
            self.radii.append(float(whole[name] / np.sqrt(counts[name])))
            x = self.take(self.weights, piece)
            self.give(self.weights, piece, x * self.radii[-1] / np.linalg.norm(x))

    @staticmethod
    def take(values: dict[str, np.ndarray], piece: list[Mask]) -> np.ndarray:
        return np.concatenate([values[name][index].ravel() for name, index in piece])

    @staticmethod
    def give(values: dict[str, np.ndarray], piece: list[Mask], flat: np.ndarray) -> None:
        for name, index in piece:
            part = values[name][index]
            values[name][index] = flat[: part.size].reshape(part.shape)
            flat = flat[part.size :]

    def update(self, name: str, g: np.ndarray) -> np.ndarray:
        """What the optimizer would take off at the learning rate 1."""
        own = self.state.setdefault(name, {})
        if self.optimizer == "sgd":
            return g
        if self.optimizer in ("momentum", "nesterov"):
            own["m"] = g.copy() if "m" not in own else 0.9 * own["m"] + g
            return g + 0.9 * own["m"] if self.optimizer == "nesterov" else own["m"]
        own["m"] = 0.9 * own.get("m", np.zeros_like(g)) + 0.1 * g
        own["v"] = 0.999 * own.get("v", np.zeros_like(g)) + 0.001 * g**2
        t = self.steps + 1
        return own["m"] / (1 - 0.9**t) / (np.sqrt(own["v"] / (1 - 0.999**t)) + 1e-8)

    def step(self, given: dict[str, Tensor]) -> None:
        law = OPTIMIZERS[self.optimizer][0]
        updates = {name: self.update(name, g.double().numpy()) for name, g in given.items()}
        for piece, radius in zip(self.pieces, self.radii):
            rate = ELR[law] * (radius**2 if law == "sgd" else radius)
            x = self.take(self.weights, piece) - rate * self.take(updates, piece)
            x *= radius / np.linalg.norm(x)
            self.give(self.weights, piece, x)
            if law == "sgd" and "m" in next(iter(self.state.values()), {}):
                buffers = {name: own["m"] for name, own in self.state.items()}
                b = self.take(buffers, piece)
                t = b - (b @ x) / (x @ x) * x
                self.give(buffers, piece, t * np.linalg.norm(b) / np.linalg.norm(t))
        self.steps += 1

    def norms(self, weights: dict[str, np.ndarray]) -> list[float]:
        return [float(np.linalg.norm(self.take(weights, piece))) for piece in self.pieces]


def slow(optimizer: str, granularity: str, steps: int = STEPS, dtype: torch.dtype = torch.float64) -> Slow:
    """The slow path from the common start, with gradients of ``dtype``."""
    weights = {name: w.detach().double().numpy().copy() for name, w in start(dtype).items()}
    path = Slow(weights, optimizer, GRANULARITIES[granularity][1])
    for step in range(steps):
        path.step(gradients(step, dtype))
    return path


def as_numpy(weights: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: w.detach().double().numpy() for name, w in weights.items()}


def distance(path: Slow, weights: dict[str, np.ndarray]) -> float:
    """How far the weights are from the path, relative to their size."""
    a = np.concatenate([path.weights[name].ravel() for name in SHAPES])
    b = np.concatenate([weights[name].ravel() for name in SHAPES])
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def flat(weights: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([w.detach().double().numpy().ravel() for w in weights])


def on_spheres(sphere: Sphere, weights: dict[str, Any]) -> dict[str, Tensor]:
    """The weights as they lie on the spheres: the float32 copies, where there are any."""
    if sphere.masters is None:
        return {n: w.detach() for n, w in weights.items()}
    return {n: sphere.masters.of([w])[0].detach() for n, w in weights.items()}


def there_and_back(
    weights: dict[str, Any], one: Callable[[int], None], state: Callable[[], Any], load: Callable[[Any], None]
) -> bool:
    """Take all steps, the second half twice from a stored state; whether both ended at the same bits."""
    for step in range(STEPS // 2):
        one(step)
    stored = trees.tree_map(lambda v: v.detach().clone() if isinstance(v, Tensor) else v, state())
    before = {n: shards.local(w).clone() for n, w in weights.items()}
    ends = []
    for again in (False, True):
        if again:
            with torch.no_grad():
                for n, w in weights.items():
                    shards.local(w).copy_(before[n])
            load(stored)
        for step in range(STEPS // 2, STEPS):
            one(step)
        ends.append({n: shards.local(w).clone() for n, w in weights.items()})
    return all(torch.equal(ends[0][n], ends[1][n]) for n in weights)


def check(cell: Cell, found: dict[str, Any], near: float | None = None) -> None:
    """Hold weights on their spheres against the slow path of their cell: where they are, and their norms."""
    dtype, _, distant, kept = DTYPES[cell[2]]
    path = slow(cell[0], cell[1], dtype=dtype)
    weights = as_numpy(found)
    away = distance(path, weights)
    assert away < (near or distant), f"{cell} is {away:.1e} from the path"
    np.testing.assert_allclose(path.norms(weights), path.radii, rtol=kept, err_msg=str(cell))
