"""Measure beside a step what is not its motion: its length by its law, rows without gradient, singular values.

Everything here is computed on the device while the step's copy is there, and travels with the step's numbers; nothing
waits. What is dear is done once in a while: at the logged steps number 0, 1, 2, 4, 8, ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from scaleinv.geometry import summing_dtype
from scaleinv.monitor.groups import Roster
from scaleinv.monitor.measure import local
from scaleinv.monitor.probe import StepProbe, shard_groups
from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.rates import RateBook, engine

#: numbers in the largest tensor whose step is compared with the state
_LARGEST = 1 << 20
#: power iterations of the first look at a matrix; later ones start from there
_FIRST_ITERATIONS = 12
#: looks at rows in a row at the start, then one in so many logged steps
_LOOKS = 16


@dataclass
class Numbers:
    """What a logged step brings besides its sums; filled in on the host."""

    tensors: list[Tensor] = field(default_factory=list)  # 0-d, in the order of the keys
    keys: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, key: tuple[Any, ...], value: Tensor) -> None:
        """Take a number; ``("law", optimizer, group, tensor)``, ``("first", tensor)``, ``("rows", tensor)``, ..."""
        self.keys.append(key)
        self.tensors.append(value)


class TouchedRows:
    """Which rows of a tensor have had a gradient that was not zero, in the steps that were looked at."""

    def __init__(self, tensor: Tensor) -> None:
        self.touched = torch.zeros(len(tensor), dtype=torch.bool, device=tensor.device)
        self.all = False  # every row has had one, as far as that is known without waiting for a device

    def look(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Take a gradient; how many rows had none so far, and how many had their first now."""
        if gradient.is_sparse:
            now = torch.zeros_like(self.touched)
            now[gradient.coalesce().indices()[0]] = True
        else:
            flat = gradient.detach().flatten(1)
            if flat.is_cpu and flat.dtype in (torch.float32, torch.float64):  # numpy's is seven times as fast
                now = torch.from_numpy(flat.numpy().any(1))
            else:
                now = (flat != 0).any(1)
        new = (now & ~self.touched).sum()
        self.touched |= now
        without = (~self.touched).sum()
        self.all = without.is_cpu and not without
        return without, new


class Extras:
    """Decides what a logged step measures besides its motion, and measures it."""

    def __init__(self, wanted: tuple[str, ...], fresh: bool) -> None:
        self._spectral = "spectral" in wanted
        self._fresh = fresh
        self._logged = 0
        self._vectors: dict[int, Tensor] = {}
        self.rows: dict[int, TouchedRows] = {}

    def forget(self) -> None:
        """The optimizer's first step is past: a state was loaded."""
        self._fresh = False

    def before(self, probe: StepProbe, numbers: Numbers) -> None:
        """Look at the weights before the step."""
        if self._spectral:
            for t in probe.tensors:
                if t.ndim >= 2 and shard_groups(t) is None and t.is_floating_point():
                    numbers.add(("column", id(t), COLUMN["spectral"]), self._largest_singular(t))

    def after(
        self, probe: StepProbe, index: int, first: bool, book: RateBook, roster: Roster, numbers: Numbers
    ) -> None:
        """Look at gradient and state behind the step, while the copy is there."""
        count, optimizer = self._logged, engine(probe.optimizer)
        if index == 0:
            self._logged += 1
        if first and self._fresh:
            for t in probe.tensors:
                if t.grad is not None and not t.grad.is_sparse and shard_groups(t) is None:
                    numbers.add(("first", id(t)), torch.count_nonzero(t.grad))
        plain = optimizer is probe.optimizer and not hasattr(optimizer, "grad_scale")
        if plain and (book.hidden or count & (count - 1) == 0):
            self._law(probe, index, optimizer, book, numbers)
        if count < _LOOKS or count % _LOOKS == 0:
            self._look_at_rows(probe, optimizer, numbers)

    def _law(self, probe: StepProbe, index: int, optimizer: Optimizer, book: RateBook, numbers: Numbers) -> None:
        copied = probe.copied
        place_of = {id(t): i for i, t in enumerate(probe.tensors) if i in copied}
        for place, group in enumerate(optimizer.param_groups):
            mine = [t for t in group["params"] if id(t) in place_of]
            mine = [t for t in mine if t.dtype in (torch.float32, torch.float64) and shard_groups(t) is None]
            small = [t for t in mine if t.numel() <= _LARGEST]
            if not mine:
                continue
            one = max(small, key=Tensor.numel) if small else min(mine, key=Tensor.numel)
            copy = probe.copy_of(place_of[id(one)])
            assert copy is not None
            unit = _unit_step(optimizer, group, one, copy)
            if unit is not None:
                numbers.add(("law", index, place, id(one)), unit)

    def _look_at_rows(self, probe: StepProbe, optimizer: Optimizer, numbers: Numbers) -> None:
        for group in optimizer.param_groups:
            if not group.get("weight_decay"):
                continue
            for t in group["params"]:
                if t.grad is None or t.ndim < 2 or len(t) < 2 or shard_groups(t) is not None:
                    continue
                known = self.rows.setdefault(id(t), TouchedRows(t)) if id(t) not in self.rows else self.rows[id(t)]
                if known.all:
                    continue
                without, new = known.look(local(t.grad))
                numbers.add(("rows", id(t)), without)
                numbers.add(("new rows", id(t)), new)

    def _largest_singular(self, weight: Tensor) -> Tensor:
        matrix = weight.detach().flatten(1)
        matrix = matrix if matrix.dtype in (torch.float32, torch.float64) else matrix.float()
        vector = self._vectors.get(id(weight))
        repeat = 1
        if vector is None or len(vector) != matrix.shape[1]:
            draw = torch.Generator().manual_seed(0)
            vector = torch.randn(matrix.shape[1], generator=draw, device="cpu").to(matrix)
            repeat = _FIRST_ITERATIONS
        for _ in range(repeat):
            vector = matrix.t() @ (matrix @ (vector / vector.norm().clamp_min(1e-30)))
        unit = vector / vector.norm().clamp_min(1e-30)
        self._vectors[id(weight)] = unit
        return _norm(matrix @ unit)


def _norm(tensor: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(tensor)
    return found


def _unit_step(optimizer: Optimizer, group: dict[str, Any], weight: Tensor, before: Tensor) -> Tensor | None:
    """Compute from the state the length that the step would have at learning rate 1; None where that is not known.

    Of torch's SGD and Adam (AdamW) and what inherits from them: the state behind a step is what the step was made of.
    """
    state, wd = optimizer.state.get(weight, {}), float(group.get("weight_decay") or 0.0)
    if isinstance(optimizer, SGD):
        if group.get("nesterov"):
            return None
        buffer = state.get("momentum_buffer")
        if isinstance(buffer, Tensor):
            return _norm(buffer)
        if group.get("momentum") or weight.grad is None or weight.grad.is_sparse:
            return None
        return _norm(weight.grad + wd * before if wd else weight.grad)
    if isinstance(optimizer, Adam) and "exp_avg" in state and "exp_avg_sq" in state:
        b1, b2 = group["betas"]
        if isinstance(b1, Tensor) or isinstance(b2, Tensor) or "step" not in state:
            return None
        done: Any = state["step"]  # a tensor: it is not read, so that nothing waits
        if not isinstance(done, Tensor):
            done = torch.tensor(float(done), device="cpu")
        done = done.detach().to(weight.device, summing_dtype(weight.device))
        second = state.get("max_exp_avg_sq", state["exp_avg_sq"]) if group.get("amsgrad") else state["exp_avg_sq"]
        size = (second / (1 - b2**done).to(second)).sqrt_().add_(group.get("eps", 1e-8))
        update = state["exp_avg"] / (1 - b1**done).to(second) / size
        if wd and group.get("decoupled_weight_decay"):
            update = update + wd * before
        return _norm(update)
    return None
