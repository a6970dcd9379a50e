"""Train matrices by Muon and the rest by AdamW, as one optimizer with one learning rate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import UserError

_BUFFER = "momentum_buffer"


class MuonAdamW(Optimizer):
    """Muon (torch's) for the matrices of groups with ``use_muon``, AdamW for all else.

    A convolution counts as the matrix of its filters, ``(out, in k k)``. Muon's step is scaled to the root mean square
    of AdamW's, so that one rate serves both. Decay is decoupled in both.

    - ``params``: tensors or groups; a group says ``use_muon=True`` where its matrices are Muon's.
    - ``lr``: >= 0; ``weight_decay``: >= 0; ``momentum``, ``nesterov``, ``ns_steps``: of Muon.
    - ``betas``, ``eps``: of AdamW.
    - Raises :class:`~scaleinv.UserError` where torch has no Muon (before 2.9), ValueError as torch's classes do.

    Source: Jordan et al. 2024; the scale by Liu et al. 2025, arXiv 2502.16982.

    >>> weight = torch.nn.Parameter(torch.ones(4, 3))
    >>> optimizer = MuonAdamW([{"params": [weight], "use_muon": True}], lr=0.01)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        use_muon: bool = False,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"MuonAdamW needs torch 2.9 or newer, here is {torch.__version__}; take adamw")
        own: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        options = {**own, "betas": betas, "eps": eps, "use_muon": use_muon}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **options})
        # they hold no weights of their own: each step gives them those of a group, with their state
        seat = torch.zeros(1, 1, device="cpu", requires_grad=True)
        at: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        self._muon = torch.optim.Muon([seat], **at, **own, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW([seat], **at, betas=betas, eps=eps)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            least = 2 if group["use_muon"] else math.inf  # dimensions of a tensor that Muon moves
            self._step(self._muon, group, [(self._as_matrix(p), p) for p in moved if p.ndim >= least])
            self._step(self._adamw, group, [(p, p) for p in moved if p.ndim < least])
        return loss

    def _step(self, optimizer: Optimizer, group: dict[str, Any], pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Let one of the two take a step: pairs of the tensor it sees and the one that is meant."""
        if not pairs:
            return
        named = {name: group.get(name, value) for name, value in optimizer.param_groups[0].items()}
        optimizer.param_groups = [{**named, "params": [seen for seen, _ in pairs]}]
        for seen, p in pairs:
            state = self.state[p]
            if seen is not p:
                if _BUFFER not in state:
                    state[_BUFFER] = torch.zeros_like(p)
                state = {_BUFFER: state[_BUFFER].flatten(1)}
            optimizer.state[seen] = state
        optimizer.step()
        for seen, p in pairs:
            if seen is not p:
                _write_back(p, seen)
                _write_back(self.state[p][_BUFFER], optimizer.state[seen][_BUFFER])
        optimizer.state.clear()

    @staticmethod
    def _as_matrix(p: Tensor) -> Tensor:
        assert p.grad is not None
        matrix = torch.nn.Parameter(p.detach().flatten(1))
        matrix.grad = p.grad.flatten(1)
        return matrix


def _write_back(target: Tensor, matrix: Tensor) -> None:
    """Give a tensor the values of its matrix; nothing where they share them."""
    if target.data_ptr() != matrix.data_ptr():
        target.copy_(matrix.view(target.shape))
