"""Measure a step of an optimizer from its two hooks, count steps, and bring numbers to the host in one transfer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.monitor.host import HostStep, on_host
from scaleinv.monitor.measure import (
    SUMS,
    accumulate,
    accumulate_steps,
    gradient_sums,
    keep,
    step_sums,
    still_sums,
)
from scaleinv.monitor.small import SmallStep, small_places


@dataclass
class StepProbe:
    """What is known of a step while it is being taken. Holds one copy of the weights from ``before`` to ``after``."""

    optimizer: Optimizer
    tensors: Sequence[Tensor]
    slopes: list[tuple[Tensor, int, list[Any]] | None] = field(default_factory=list)  # gradient, its version, sums
    loss: Tensor | float | None = None
    sums: Tensor | None = None
    has_gradient: list[bool] = field(default_factory=list)
    _small: list[SmallStep] = field(default_factory=list)
    _host: dict[int, HostStep] = field(default_factory=dict)  # large ones on the CPU
    _kept: dict[int, Tensor | None] = field(default_factory=dict)  # copies of the others

    @property
    def copied(self) -> set[int]:
        """The places of the tensors of which there is a copy."""
        found = {i for i, one in self._host.items() if one.kept}
        found |= {i for i, copy in self._kept.items() if copy is not None}
        return found.union(*(small.places for small in self._small))

    @property
    def bytes_held(self) -> int:
        """Memory of the copies."""
        copies = [small.before for small in self._small] + [copy for copy in self._kept.values() if copy is not None]
        return sum(one.kept for one in self._host.values()) + sum(copy.nbytes for copy in copies)

    def copy_of(self, place: int) -> Tensor | None:
        """Give the copy of one tensor."""
        if place in self._host:
            return self._host[place].before
        for small in self._small:
            if place in small.places:
                return small.copies()[small.places.index(place)]
        return self._kept.get(place)

    @torch.no_grad()
    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Copy the weights, look at the gradients; return the arguments with the closure wrapped, if there is one."""
        closure: Any = args[1] if len(args) > 1 else kwargs.get("closure")
        waits = callable(closure)
        left: Sequence[int] = range(len(self.tensors))
        if not isinstance(getattr(self.optimizer, "grad_scale", None), Tensor):
            self._small = [SmallStep(places, self.tensors) for places in small_places(self.tensors).values()]
            there = {i for small in self._small for i in small.places}
            if len(there) < len(self.tensors):
                large = [(i, t) for i, t in enumerate(self.tensors) if i not in there]
                self._host = {i: HostStep(t, waits or t.grad is not None) for i, t in large if on_host(t)}
            left = [i for i in left if i not in there and i not in self._host]
        for i in left:
            p = self.tensors[i]
            self._kept[i] = keep(p) if waits or p.grad is not None else None
        if not waits:
            self._gradients()
            return None
        for one in self._host.values():
            one.copy()
        wrapped = self._wrap(closure)
        return ((args[0], wrapped, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": wrapped})

    def _wrap(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        first = True

        def call() -> Any:
            nonlocal first
            loss = closure()
            if first:  # the gradient at the weights before the step; later calls are elsewhere (LBFGS)
                first = False
                with torch.no_grad():
                    self._gradients()
                if isinstance(loss, (Tensor, float, int)):
                    self.loss = loss.detach() if isinstance(loss, Tensor) else float(loss)
            return loss

        return call

    def _gradients(self) -> None:
        for small in self._small:
            small.look()
        for one in self._host.values():
            one.look()
        self.slopes = [None] * len(self.tensors)
        for i in self._kept:
            p = self.tensors[i]
            if p.grad is not None:
                self.slopes[i] = p.grad, p.grad._version, gradient_sums(p, p.grad)

    @torch.no_grad()
    def after(self) -> None:
        """Work out the sums of the step on the device, and let the copy go."""
        slopes = self.slopes or [None] * len(self.tensors)
        self.has_gradient = [s is not None for s in slopes]
        others = list(self._kept)
        if self._small or self._host:
            rows = np.empty((len(self.tensors), len(SUMS)))
            for small in self._small:
                rows[small.places] = small.sums()
                for i, gradient in zip(small.places, small.gradients):
                    self.has_gradient[i] = gradient is not None
            for i, one in self._host.items():
                rows[i] = one.sums()
                self.has_gradient[i] = one.gradient is not None
            self.sums = torch.from_numpy(rows)
            if others:
                self.sums[others] = self._large(others, slopes).to(self.sums)
        else:
            self.sums = self._large(others, slopes)
        if others:
            self.sums = reduce_shards(self.tensors, self.sums)
        self._host, self._kept, self._small, self.slopes = {}, {}, [], []

    def _unchanged(self, p: Tensor, kept: tuple[Tensor, int, list[Any]] | None) -> Tensor | None:
        """The gradient of before the step: not one that the step has written into."""
        return p.grad if kept is not None and p.grad is kept[0] and kept[0]._version == kept[1] else None

    def _large(self, places: Sequence[int], slopes: Sequence[tuple[Tensor, int, list[Any]] | None]) -> Tensor:
        post = []
        for i in places:
            p, copy = self.tensors[i], self._kept[i]
            post.append(still_sums(p) if copy is None else step_sums(copy, p, self._unchanged(p, slopes[i])))
        nothing = torch.zeros((), dtype=torch.float64, device="cpu")
        left = accumulate_steps(post)
        # a tensor without a gradient has no row of its own: zeros in its place
        mine = [slopes[i] for i in places]
        right = accumulate([[nothing.to(left.device)] * 2 if s is None else s[2] for s in mine], 2)
        # GradScaler's, where the optimizer unscales by itself (fused), so the gradients seen here are scaled
        scale = getattr(self.optimizer, "grad_scale", None)
        if isinstance(scale, Tensor):
            right = right / scale.to(right) ** torch.tensor([2.0, 1.0], device="cpu").to(right)
            # the kernel may have unscaled the gradient where it lies: its present size tells
            left[:, 4] *= right[:, 0].sqrt().to(left) / self._present_norms(left)
        return torch.cat([left, right], dim=1)

    def _present_norms(self, like: Tensor) -> Tensor:
        """Compute the norm of every gradient as it is after the step; NaN where there is none."""
        nothing = [torch.full((), torch.nan, device="cpu")] * 2
        rows = [nothing if p.grad is None else gradient_sums(p, p.grad) for p in self.tensors]
        return accumulate(rows, 2)[:, 0].sqrt().to(like)


def shard_groups(tensor: Tensor) -> tuple[Any, tuple[int, ...]] | None:
    """Find the mesh of a DTensor and its dimensions along which it is split; None for whole tensors."""
    placements = getattr(tensor, "placements", None)
    if placements is None:
        return None
    dims = tuple(i for i, place in enumerate(placements) if place.is_shard())
    return (tensor.device_mesh, dims) if dims else None  # type: ignore[attr-defined]


def reduce_shards(tensors: Sequence[Tensor], sums: Tensor) -> Tensor:
    """Add the sums of the shards over the processes that hold them: one message a mesh dimension."""
    found: dict[Any, list[int]] = {}
    for i, t in enumerate(tensors):
        key = shard_groups(t)
        if key is not None:
            found.setdefault(key, []).append(i)
    for (mesh, dims), rows in found.items():
        part = sums[rows]
        for dim in dims:
            torch.distributed.all_reduce(part, group=mesh.get_group(dim))
        sums[rows] = part
    return sums


def agree(every: int, tensors: Sequence[Tensor]) -> int:
    """Choose one interval for all processes, where a logged step needs all of them (sharded weights)."""
    device = next((t.device for t in tensors if shard_groups(t)), None)
    if device is None:
        return every
    largest = torch.tensor([every], device=device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)


def to_host(parts: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
    """Move 1-d float tensors to the host, one transfer a device.

    On CUDA the copy is queued into pinned memory and an event is returned that says when it is there; elsewhere None.
    """
    if all(p.is_cpu for p in parts):
        return list(parts), None
    device = parts[0].device
    if any(p.device != device for p in parts):
        return [p.to("cpu", torch.float64) for p in parts], None
    joined = torch.cat([p.to(parts[0].dtype) for p in parts])
    event = None
    if device.type == "cuda":
        host = torch.empty(joined.shape, dtype=joined.dtype, pin_memory=True, device="cpu")
        host.copy_(joined, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
    else:
        host = joined.to("cpu")
    return list(torch.split(host, [len(p) for p in parts])), event


#: torch's file that wraps ``step`` to call hooks
_HOOKED_IN = sys.modules[Optimizer.__module__].__file__


class Hook:
    """What an optimizer holds of a monitor. A copy of the optimizer, deep or pickled, gets a hook that does nothing.

    A hook that was registered after it may clip gradients before the step or put weights back after it; this one is
    called behind the last of them all the same.
    """

    def __init__(self, call: Callable[..., Any] | None, hooks: Any = None) -> None:
        self.call, self.hooks = call, hooks
        self.key: int | None = None

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if self.call is None:
            return None
        if self.hooks and next(reversed(self.hooks)) != self.key:
            for last in reversed(self.hooks):
                if last == self.key:
                    break
                if not isinstance(self.hooks[last], Hook):  # those of other monitors change nothing
                    self._behind(last)
                    return None
        return self.call(args, kwargs)

    def _behind(self, last: int) -> None:
        """Have a later hook call this one behind itself, this once: the order cannot change while hooks are called."""
        hooks, call = self.hooks, self.call
        theirs = hooks[last]

        def both(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
            hooks[last] = theirs
            changed = theirs(optimizer, args, kwargs)
            if isinstance(changed, tuple) and len(changed) == 2:
                args, kwargs = changed
            ours = call(args, kwargs) if call is not None else None
            return changed if ours is None else ours

        hooks[last] = both

    def __deepcopy__(self, memo: Any) -> Hook:
        return Hook(None)

    def __reduce__(self) -> Any:
        return Hook, (None,)


class _Instead:
    """Stands in place of ``optimizer.step`` where torch calls no hooks: the class was never initialised as torch's."""

    def __init__(self, optimizer: Optimizer, first: Hook, last: Hook) -> None:
        self._optimizer, self._step = optimizer, optimizer.step
        step = self._step

        def stepped(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
            given = (self, *args)
            changed = first(self, given, kwargs)
            if changed is not None:
                given, kwargs = changed
            result = step(*given[1:], **kwargs)
            last(self, given, kwargs)
            return result

        self._stepped = MethodType(stepped, optimizer)  # schedulers want a method
        optimizer.step = self._stepped  # type: ignore[method-assign]

    def remove(self) -> None:
        if self._optimizer.__dict__.get("step") is self._stepped:
            del self._optimizer.__dict__["step"]


def steps_on_the_stack(optimizer: Optimizer) -> int:
    """Count the hooked steps of an optimizer that are being taken, one within the other."""
    found = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "wrapper" and frame.f_code.co_filename == _HOOKED_IN:
            found += frame.f_locals.get("args", (None,))[0] is optimizer
        frame = frame.f_back
    return found


def attach(
    optimizers: Sequence[Optimizer], before: Callable[[int, Any, Any], Any], after: Callable[[int], Any]
) -> list[Any]:
    """Hook ``before(index, args, kwargs)`` and ``after(index)`` to every step; the handles that take them off again."""
    handles: list[Any] = []
    for i, one in enumerate(optimizers):
        first = Hook(lambda args, kwargs, i=i: before(i, args, kwargs))
        last = Hook(lambda args, kwargs, i=i: after(i))
        if not getattr(type(one).step, "hooked", False):
            handles.append(_Instead(one, first, last))
            continue
        for hook, name in ((first, "pre"), (last, "post")):
            handle = getattr(one, f"register_step_{name}_hook")(hook)
            hook.hooks, hook.key = getattr(one, f"_optimizer_step_{name}_hooks", None), handle.id
            handles.append(handle)
    return handles


class StepCounter:
    """Counts steps. With several optimizers a round is over when each has stepped, or when one steps again.

    Each optimizer is measured when as many rounds have passed since it was: also one that steps in every k-th round.
    """

    def __init__(self, optimizers: int) -> None:
        self._count = optimizers
        self.stepped: set[int] = set()  # in this round
        self.seen = [0] * optimizers  # steps of each
        self._due = [0] * optimizers  # the round from which each is to be measured
        self.round = 0  # calls of step, those included that GradScaler has skipped inside
        self.skipped = 0  # known on the host
        self.late: Tensor | None = None  # (this one is skipped, how many were so far), where it is counted on a device

    @property
    def done(self) -> int:
        """Steps taken; reads the device where skipped ones are counted there."""
        return self.round - self.skipped - (0 if self.late is None else int(self.late[1]))

    def is_due(self, index: int) -> bool:
        """Tell whether this optimizer is to be measured in this round."""
        return self.round >= self._due[index]

    def any_due(self) -> bool:
        """Tell whether one of them is."""
        return self.round >= min(self._due)

    def measured(self, index: int, every: int) -> None:
        """Take note that it was; the next time is when ``every`` rounds have passed, on the grid of ``every``."""
        self._due[index] = (self.round // every + 1) * every

    def took(self, index: int) -> bool:
        """Take note that this optimizer has stepped; True if the round is over by that."""
        self.stepped.add(index)
        self.seen[index] += 1
        return len(self.stepped) == self._count

    def skips(self, optimizer: Optimizer) -> bool:
        """Ask a fused optimizer, which GradScaler tells of infinities, whether its step was none; others it does not
        call at all then. On a device the answer is not waited for: it is ``late``.
        """
        found: Any = getattr(optimizer, "found_inf", None)
        if not isinstance(found, Tensor):
            return False
        if _on_host(found):
            skipped = bool(found)
            self.skipped += skipped
            return skipped
        flag = found.detach().reshape(())
        self.late = torch.stack([flag, flag + (0.0 if self.late is None else self.late[1])])
        return False

    def reschedule(self, every: int) -> None:
        """Measure each optimizer that is not due yet at the next round of the grid of ``every``."""
        self._due = [due if due <= self.round else (self.round // every + 1) * every for due in self._due]

    def restart(self, done: int, every: int) -> None:
        """Go on behind so many steps."""
        self.round, self.skipped, self.late = done, 0, None
        self.stepped.clear()
        self._due = [-(-done // every) * every] * self._count


def _on_host(tensor: Tensor) -> bool:
    """Tell whether reading the tensor waits for no device."""
    return tensor.device.type == "cpu"
