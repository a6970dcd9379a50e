r"""What happened at every training step, recorded without disturbing it.

Per step three numbers a tensor are kept: the gradient norm ``g`` (before the step), the norm ``n`` (after it) and the
length ``d`` of the step. Everything else follows per epoch, vectorised: for a group with norms ``n`` before and ``n'``
after,

    angle = 2 asin( sqrt((d^2 - (n' - n)^2) / (4 n n')) )

which is exact (law of cosines) and, with norms taken in float64, accurate at 1e-6 rad; ESS = elr * eg, eg = g * rho.
Where updates do not grow with the gradient (law ``normalised``: Adam), elr = rate / rho and ESS is the tangent of the
angle, which for SGD on a sphere is the same thing.

Once in ``RADIAL_EVERY`` steps the cosine between gradient and weights is taken as well: 0 for scale-invariant weights
(Lobacheva et al. 2021, eq. 2a), and what eps of the norm layers makes of it where the norm has become too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.geometry import norms
from scaleinv.lab.rows import Row

Array = npt.NDArray[np.float64]

#: steps whose numbers wait as single tensors at most
PACK_EVERY = 64
#: steps between measurements of the radial part of the gradient
RADIAL_EVERY = 64


class StepRecorder:
    """Accumulate the steps of an epoch on the device and turn them into rows.

    Args:
        groups: names and tensors of the scale-invariant groups.
        capacity: steps of the longest epoch.
        law: how the rate turns the weights: ``sgd`` or ``normalised``.
        keep_steps: whether :meth:`take_steps` gives every step as well.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[Tensor]],
        capacity: int,
        *,
        law: str = "sgd",
        keep_steps: bool = False,
    ) -> None:
        self.law, self.keep_steps = law, keep_steps
        self._blocks: list[dict[str, npt.NDArray[np.float32]]] = []
        self.names = list(groups)
        self.tensors = [t for tensors in groups.values() for t in tensors]
        self._owner = np.repeat(np.arange(len(groups)), [len(tensors) for tensors in groups.values()])
        device = self.tensors[0].device
        self._numbers = torch.zeros((capacity, 3, len(self.tensors)), dtype=torch.float64, device=device)
        self._losses = torch.zeros((capacity, 2), dtype=torch.float64, device=device)
        self._sizes = np.zeros(capacity)  # images of each batch
        self._rates = np.zeros((capacity, 1 + len(groups)))  # the learning rates that acted: total, groups
        # the dot of gradient and weights, once in RADIAL_EVERY steps
        measured = -(-capacity // RADIAL_EVERY)
        self._radial = torch.zeros((measured, len(self.tensors)), dtype=torch.float64, device=device)
        self._before = [torch.empty_like(t) for t in self.tensors]
        self._filled = 0  # steps recorded ...
        self._packed = 0  # ... and of these, in the arrays; the numbers of the others wait in lists, in order
        self._waiting: tuple[list[Tensor], ...] = ([], [], [], [], [])  # losses, right answers, g, n, d
        self._start = torch.stack(self._norms()).detach()

    def _norms(self) -> list[Tensor]:
        return list(torch._foreach_norm(self.tensors, dtype=torch.float64))

    @torch.no_grad()
    def before_step(self, loss: Tensor, correct: Tensor, size: int) -> None:
        """To call between backward and the optimizer's step. ``correct``: number of right answers in the batch."""
        losses, right, g, _, _ = self._waiting
        losses.append(loss)
        right.append(correct)
        self._sizes[self._filled] = size
        gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in self.tensors]
        g += norms(gradients)
        if self._filled % RADIAL_EVERY == 0:
            dots = [p.sum(dtype=torch.float64) for p in torch._foreach_mul(gradients, self.tensors)]
            self._radial[self._filled // RADIAL_EVERY] = torch.stack(dots)
        torch._foreach_copy_(self._before, self.tensors)

    @torch.no_grad()
    def after_step(self, learning_rates: Sequence[float]) -> None:
        """To call after the optimizer's step, with the rates that acted: of the total, then of every group."""
        torch._foreach_sub_(self._before, self.tensors)
        _, _, _, n, d = self._waiting
        n += self._norms()
        d += norms(self._before)
        self._rates[self._filled] = learning_rates
        self._filled += 1
        if self._filled - self._packed >= PACK_EVERY:
            self._pack()

    @torch.no_grad()
    def _pack(self) -> None:
        """Move the waiting numbers into the arrays: many small tensors at once cost less than one at a time."""
        steps = slice(self._packed, self._filled)
        count = self._filled - self._packed
        if count:
            for k, scalars in enumerate(self._waiting[:2]):
                self._losses[steps, k] = torch.stack(scalars[:count]).to(self._losses)
            for k, scalars in enumerate(self._waiting[2:]):
                here = torch.stack(scalars[: count * len(self.tensors)])
                self._numbers[steps, k] = here.view(count, -1).to(self._numbers)
        for scalars in self._waiting:  # a step that failed halfway leaves more
            scalars.clear()
        self._packed = self._filled

    def first_nonfinite(self, step: int) -> int:
        """The first recorded step that leaves weights of non-finite norm (``step``: done so far); else ``step``."""
        self._pack()
        finite = torch.isfinite(self._numbers[: self._filled, 1]).all(dim=1).cpu().numpy()
        return step - self._filled + (int(np.argmin(finite)) if not finite.all() else self._filled)

    def flush(self, step: int, epoch: int) -> list[Row]:
        """The rows of the epoch that ends at ``step``; the recorder is empty afterwards."""
        self._pack()
        n = self._filled
        if n == 0:
            return []
        numbers = self._numbers[:n].cpu().numpy()
        losses, sizes, rates = self._losses[:n].cpu().numpy(), self._sizes[:n], self._rates[:n]
        after = numbers[:, 1] ** 2
        before = np.concatenate([self._start.cpu().numpy()[None] ** 2, after[:-1]])
        squares = {
            "g": numbers[:, 0] ** 2,
            "before": before,
            "after": after,
            "d": numbers[:, 2] ** 2,
        }
        rows: list[Row] = []

        def add(group: str, quantity: str, value: float) -> None:
            rows.append(Row(step, epoch, "online", group, quantity, float(value)))

        add("total", "loss", np.sum(losses[:, 0] * sizes) / sizes.sum())
        add("total", "error", 1.0 - losses[:, 1].sum() / sizes.sum())
        with np.errstate(all="ignore"):  # a diverged run: NaN and inf are its result
            chosen = [np.full(len(self.tensors), True), *(self._owner == i for i in range(len(self.names)))]
            block = {"loss": losses[:, 0], "lr": rates[:, 0]}
            radial = self._radial[: -(-n // RADIAL_EVERY)].cpu().numpy()
            for i, (name, columns) in enumerate(zip(["total", *self.names], chosen)):
                part = {key: value[:, columns].sum(axis=1) for key, value in squares.items()}
                derived = derive(part, rates[:, i], self.law)
                for quantity, values in derived.items():
                    if quantity != "cosine" or name == "total":
                        add(name, quantity, values.mean())
                lengths = (derived["g"] * derived["rho"])[::RADIAL_EVERY]
                add(name, "radial", np.mean(np.abs(radial[:, columns].sum(axis=1)) / lengths))
                if name != "total":
                    block |= {f"{name}:rho_sq": part["before"], f"{name}:g": derived["g"]}
                block[f"{name}:angle"] = derived["angle"]
            if self.keep_steps:
                self._blocks.append({column: values.astype(np.float32) for column, values in block.items()})
        self._start = self._numbers[n - 1, 1].clone()
        self._filled = self._packed = 0
        return rows

    def take_steps(self) -> list[dict[str, npt.NDArray[np.float32]]]:
        """The steps of the epochs flushed since the last call, in columns (see docs/architecture.md)."""
        blocks, self._blocks = self._blocks, []
        return blocks

    # -- a run that is killed within an epoch --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """The steps recorded since the last flush."""
        self._pack()
        n = self._filled
        return {
            "numbers": self._numbers[:n].cpu().clone(),
            "losses": self._losses[:n].cpu().clone(),
            "sizes": torch.from_numpy(self._sizes[:n].copy()),
            "rates": torch.from_numpy(self._rates[:n].copy()),
            "radial": self._radial[: -(-n // RADIAL_EVERY)].cpu().clone(),
            "start": self._start.cpu().clone(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""
        n = self._filled = self._packed = len(state["numbers"])
        self._numbers[:n] = state["numbers"]
        self._losses[:n] = state["losses"]
        self._sizes[:n] = state["sizes"].numpy()
        self._rates[:n] = state["rates"].numpy()
        self._radial[: len(state["radial"])] = state["radial"]
        self._start = state["start"].to(self._start.device)


def derive(squares: Mapping[str, Array], rates: Array, law: str = "sgd") -> dict[str, Array]:
    """Per step: rho (before the step), g, eg, elr, ess, angle, cosine, from squared norms of one group."""
    rho = np.sqrt(squares["before"])
    after = np.sqrt(squares["after"])
    g = np.sqrt(squares["g"])
    eg = g * rho
    elr = rates / (squares["before"] if law == "sgd" else rho)
    half = (squares["d"] - (after - rho) ** 2) / (4 * rho * after)
    angle = 2 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    ess = elr * eg if law == "sgd" else np.tan(angle)
    return {"rho": rho, "g": g, "eg": eg, "elr": elr, "ess": ess, "angle": angle, "cosine": np.cos(angle)}
