"""Train float32 copies of weights in half precision: the copies lie on the spheres, the weights are their roundings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.sphere import shards
from scaleinv.sphere.refuse import HALF


class Masters:
    """Hold a float32 copy of every half-precision parameter of an optimizer, and put it in its place there."""

    def __init__(self, optimizer: Optimizer) -> None:
        halves = [p for g in optimizer.param_groups for p in g["params"] if p.dtype in HALF]
        if not halves:
            raise UserError("masters=True, but no parameter of the optimizer is in half precision; leave it out")
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self._of: dict[int, Tensor] = {}
        self._add(optimizer, optimizer.param_groups)

    def add(self, optimizer: Optimizer, group: dict[str, Any]) -> None:
        """Take in a param group that was added to the optimizer."""
        self._add(optimizer, [group])

    @torch.no_grad()
    def _add(self, optimizer: Optimizer, groups: Sequence[dict[str, Any]]) -> None:
        for group in groups:
            for i, p in enumerate(group["params"]):
                if p.dtype not in HALF:
                    continue
                master = nn.Parameter(p.detach().float(), requires_grad=p.requires_grad)
                self.pairs.append((p, master))
                self._of[id(p)] = master
                group["params"][i] = master
                if p in optimizer.state:  # it has trained before
                    optimizer.state[master] = {
                        k: v.float() if isinstance(v, Tensor) and v.dtype in HALF else v
                        for k, v in optimizer.state.pop(p).items()
                    }

    def undo(self, optimizer: Optimizer) -> None:
        """Put the weights back in the place of their copies."""
        weights = {id(master): p for p, master in self.pairs}
        for group in optimizer.param_groups:
            group["params"] = [weights.get(id(p), p) for p in group["params"]]
        for p, master in self.pairs:
            if master in optimizer.state:
                optimizer.state[p] = optimizer.state.pop(master)

    def of(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Give the copies of the tensors; a tensor without one stands for itself."""
        return tuple(self._of.get(id(t), t) for t in tensors)

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Hand the gradients of the weights to the copies."""
        for p, master in self.pairs:
            master.grad = None if p.grad is None else p.grad.to(torch.float32)

    @torch.no_grad()
    def give_weights(self) -> None:
        """Round the copies into the weights."""
        for p, master in self.pairs:
            shards.local(p).copy_(shards.local(master))
            master.grad = None

    def state(self) -> list[Tensor]:
        """Give the copies, for a state dict."""
        return [master.detach().clone() for _, master in self.pairs]

    @torch.no_grad()
    def load(self, values: Sequence[Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        for (p, master), value in zip(self.pairs, values):
            master.copy_(value)
            shards.local(p).copy_(shards.local(master))
