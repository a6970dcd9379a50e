r"""Record what happens at every training step without disturbing it.

Per step three numbers a tensor are kept: the gradient norm ``g``, the norm ``n`` (both before the step) and the length
``d`` of the step. Everything else follows per epoch, vectorised: for a group with norms ``n`` before and ``n'`` after,

    angle = 2 asin( sqrt((d^2 - (n' - n)^2) / (4 n n')) )

which is exact (law of cosines) and, with norms taken in float64, accurate at 1e-6 rad; ESS = elr * eg, eg = g * rho.
Where updates do not grow with the gradient (law ``normalised``: Adam), elr = rate / rho and ESS is the tangent of the
angle (:mod:`scaleinv.theory.rates`).

Plain SGD, x' = (1 - lr wd) x - lr g, needs no copy of the weights before the step: the dot product of weights and
gradient gives the angle, and a return of all weights to one sphere turns nothing. (It is the angle of the step as
meant; rounding of float32 weights, some 3e-8 rad a step, is left out.) For small networks, whose steps are quick, this
and the short way through numpy keep the record cheap.

Once in ``RADIAL_EVERY`` steps the cosine between gradient and weights is taken as well: 0 for scale-invariant weights
(Lobacheva et al. 2021, eq. 2a), and what eps of the norm layers makes of it where the norm has become too small.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.geometry import summing_dtype
from scaleinv.lab.small import flat, is_small
from scaleinv.runfolder.rows import Row
from scaleinv.theory import rates as theory

Array = npt.NDArray[np.float64]
#: of the batches of a step: logits (N, C) and labels (N,), or what was counted of each
Answers = Sequence["tuple[Tensor, Tensor] | BatchCounts"]

#: steps whose numbers wait as single tensors at most
PACK_EVERY = 256
#: steps of which several short epochs at most wait to become rows together
WAIT = 256
#: steps between measurements of the radial part of the gradient
RADIAL_EVERY = 64


class BatchCounts(NamedTuple):
    """What was counted of a batch: for outputs that are not kept until many steps can be counted at a time."""

    weight: Tensor | float  # of the mean loss
    wrong: Tensor | float | None  # None: the task has no error
    counted: Tensor | float


class _Ended(NamedTuple):
    """An epoch whose rows are still to be made."""

    step: int
    epoch: int
    steps: int  # how many it had
    radial: int  # end of its radial parts, in the arrays
    norms: Tensor  # after its last step


class StepRecorder:
    """Accumulate the steps of an epoch on the device and turn them into rows.

    Rows of short epochs are made many at a time: what is done once an epoch is, at a few steps each, done with code and
    numbers that the steps have driven out of the processor's caches.

    Args:
        groups: names and tensors of the scale-invariant groups.
        capacity: steps of the longest epoch.
        law: how the rate turns the weights: ``sgd`` or ``normalised``.
        keep_steps: whether :meth:`take_steps` gives every step as well.
        plain_decay: the weight decay, if the optimizer is plain SGD and at most one common factor for all recorded
            weights follows its step; else ``None``.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[Tensor]],
        capacity: int,
        *,
        law: str = "sgd",
        keep_steps: bool = False,
        plain_decay: float | None = None,
    ) -> None:
        self.law, self.keep_steps, self.plain_decay = law, keep_steps, plain_decay
        self._blocks: list[dict[str, npt.NDArray[np.float32]]] = []
        self.names = list(groups)
        self.tensors = [t for tensors in groups.values() for t in tensors]
        sizes = [len(tensors) for tensors in groups.values()]
        self._firsts = np.cumsum([0, *sizes[:-1]])  # of the tensors, the first of every group
        device = self.tensors[0].device
        self._double = summing_dtype(device)
        self._capacity, measured = capacity, -(-capacity // RADIAL_EVERY)
        epochs = max(1, WAIT // capacity)
        capacity, measured = capacity * epochs, measured * epochs
        self._numbers = torch.zeros((capacity, 3, len(self.tensors)), dtype=self._double, device=device)
        self._losses = torch.zeros((capacity, 2), dtype=self._double, device=device)
        self._sizes = np.zeros(capacity)  # images of each batch, or the weight of its mean loss
        self._counts = np.zeros(capacity)  # answers of each batch that are right or wrong
        self._has_error = True
        self._rates = np.zeros((capacity, 1 + len(groups)))  # the learning rates that acted: total, groups
        # the dot of gradient and weights, once in RADIAL_EVERY steps
        self._radial = torch.zeros((measured, len(self.tensors)), dtype=self._double, device=device)
        self._plain = plain_decay is not None and all(is_small(t) for t in self.tensors)
        self._weights = [_Numbers(t) for t in self.tensors] if self._plain else []
        self._before = [] if self._plain else [torch.empty_like(t) for t in self.tensors]
        self._filled = 0  # steps recorded ...
        self._start, self._radial_start = 0, 0  # of the present epoch
        self._ended: list[_Ended] = []
        self._packed = 0  # ... and of these, in the arrays; the numbers of the others wait in lists, in order
        self._waiting: tuple[list[Tensor], ...] = ([], [], [], [])  # losses, g, n, d
        self._answers: list[Answers] = []
        self._products: list[float] = []  # of plain steps: g.g, w.w, g.w of every tensor
        self._acted: list[Sequence[float]] = []  # the learning rates

    def before_step(self, loss: Tensor, answers: Answers) -> None:
        """To call between backward and the optimizer's step. ``answers``: logits and labels of every batch.

        numpy warns of gradients whose square is beyond float32; who goes on with such a run turns that off once, before
        its loop, since that costs as much as four dot products.
        """
        self._waiting[0].append(loss)
        self._answers.append(answers)
        if self._plain:
            for weight in self._weights:
                self._products += weight.products()
        else:
            self._measure()

    def gradient_square(self) -> float | None:
        """Give the squared norm of the gradient of the last :meth:`before_step`; None where reading it would wait."""
        return sum(self._products[-3 * len(self.tensors) :: 3]) if self._plain else None

    @torch.no_grad()
    def _measure(self) -> None:
        _, g, n, _ = self._waiting
        gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in self.tensors]
        g += _norms(gradients, self._double)
        n += _norms(self.tensors, self._double)
        done = self._filled - self._start
        if done % RADIAL_EVERY == 0:
            dots = [p.sum(dtype=self._double) for p in torch._foreach_mul(gradients, self.tensors)]
            self._radial[self._radial_start + done // RADIAL_EVERY] = torch.stack(dots)
        torch._foreach_copy_(self._before, self.tensors)

    def after_step(self, learning_rates: Sequence[float]) -> None:
        """To call after the optimizer's step, with the rates that acted: of the total, then of every group."""
        if not self._plain:
            with torch.no_grad():
                torch._foreach_sub_(self._before, self.tensors)
                self._waiting[3].extend(_norms(self._before, self._double))
        self._acted.append(learning_rates)
        self._filled += 1
        if self._filled - self._packed >= PACK_EVERY:
            self._pack()

    @torch.no_grad()
    def _pack(self) -> None:
        """Move the waiting numbers into the arrays: many small tensors at once cost less than one at a time."""
        steps = slice(self._packed, self._filled)
        count = self._filled - self._packed
        if count:
            self._losses[steps, 0] = torch.stack(self._waiting[0][:count]).to(self._losses)
            if isinstance(self._answers[0][0], BatchCounts):
                self._add_counted(steps, count)
            else:
                right, self._sizes[steps] = _right_answers(self._answers[:count])  # type: ignore[arg-type]
                self._losses[steps, 1] = right.to(self._losses)
                self._counts[steps] = self._sizes[steps]
            self._rates[steps] = self._acted[:count]
            if self._products:
                products = np.array(self._products[: 3 * count * len(self.tensors)]).reshape(count, -1, 3)
                products[..., :2] = np.sqrt(products[..., :2])
                self._numbers[steps] = torch.from_numpy(products).mT
            for k, scalars in enumerate(self._waiting[1:]):
                if scalars:  # none of plain steps
                    here = torch.stack(scalars[: count * len(self.tensors)])
                    self._numbers[steps, k] = here.view(count, -1).to(self._numbers)
        lists: tuple[list[Any], ...] = (*self._waiting, self._answers, self._products, self._acted)
        for waiting in lists:  # a step that failed halfway leaves more
            waiting.clear()
        self._packed = self._filled

    def _add_counted(self, steps: slice, count: int) -> None:
        """Add up what was counted of the batches of each step."""
        parts: list[list[BatchCounts]] = self._answers[:count]  # type: ignore[assignment]
        self._has_error = parts[0][0].wrong is not None
        for place, held in ((0, self._sizes), (2, self._counts)):
            held[steps] = _sums([[one[place] for one in step] for step in parts])
        if self._has_error:
            wrong = _sums([[one.wrong for one in step] for step in parts])
            self._losses[steps, 1] = torch.from_numpy(self._counts[steps] - wrong).to(self._losses)

    def first_nonfinite(self, step: int) -> int:
        """The first recorded step that leaves weights of non-finite norm (``step``: done so far); else ``step``."""
        self._pack()
        later = self._numbers[self._start + 1 : self._filled, 1].cpu().numpy()
        finite = np.isfinite(np.concatenate([later, self._norms_now()[None].cpu().numpy()])).all(axis=1)
        return step - len(finite) + (int(np.argmin(finite)) if not finite.all() else len(finite))

    @torch.no_grad()
    def _norms_now(self) -> Tensor:
        """The norms of the weights as they are, as the next step will measure them."""
        if self._plain:
            return torch.tensor([weight.norm() for weight in self._weights], dtype=torch.float64, device="cpu")
        return torch.stack(_norms(self.tensors, self._double)).to(self._numbers)

    def end(self, step: int, epoch: int) -> int:
        """End the epoch at ``step``; its rows wait for :meth:`take_rows`. The number of its steps."""
        count = self._filled - self._start
        self._radial_start += -(-count // RADIAL_EVERY)
        self._start = self._filled
        self._ended.append(_Ended(step, epoch, count, self._radial_start, self._norms_now()))
        return count

    def has_room(self) -> bool:
        """Whether another epoch can be recorded before :meth:`take_rows`."""
        return self._start + self._capacity <= len(self._numbers)

    def flush(self, step: int, epoch: int) -> list[Row]:
        """The rows of the epoch that ends at ``step``; the recorder is empty afterwards."""
        self.end(step, epoch)
        return [row for rows in self.take_rows() for row in rows]

    def take_rows(self) -> list[list[Row]]:
        """The rows of every epoch that has ended since the last call; none of one without a step."""
        self._pack()
        ended, counted = self._ended, [one for one in self._ended if one.steps]
        made = iter(self._rows_of(counted) if counted else [])
        self._forget_ended()
        return [next(made) if one.steps else [] for one in ended]

    def _rows_of(self, ended: Sequence[_Ended]) -> list[list[Row]]:
        """Derive what follows from the numbers of all epochs at once, then give the means of each."""
        whole = slice(0, self._start)
        numbers, losses = self._numbers[whole].cpu().numpy(), self._losses[whole].cpu().numpy()
        rates, ends = self._rates[whole], np.cumsum([one.steps for one in ended])
        after = np.concatenate([numbers[1:, 1], np.zeros_like(numbers[:1, 1])])  # the norm before the next step ...
        after[ends - 1] = torch.stack([one.norms for one in ended]).cpu().numpy()  # ... and after an epoch's last one
        products = [numbers[:, 0] ** 2, numbers[:, 1] ** 2, after**2, numbers[:, 2] ** 2]
        with np.errstate(all="ignore"):  # a diverged run: NaN and inf are its result
            if self._plain and self.plain_decay is not None:
                summed = self._by_group(np.stack([*products, numbers[:, 2]]))
                part, dots = dict(zip(("g", "before", "after", "d"), summed)), summed[4]
                derived = derive(part, rates, self.law, _plain_angle(part, dots, rates[:, :1], self.plain_decay))
            else:
                part = dict(zip(("g", "before", "after", "d"), self._by_group(np.stack(products))))
                derived, dots = derive(part, rates, self.law), None
            parallel = derived["g"] * derived["rho"]
            stacked, found, first_radial = np.stack(list(derived.values())), [], 0
            for one, first, end in zip(ended, [0, *ends.tolist()], ends.tolist()):
                here, radials = slice(first, end), slice(first_radial, one.radial)
                rare = (
                    dots[here][::RADIAL_EVERY]
                    if dots is not None
                    else self._by_group(self._radial[radials].cpu().numpy())
                )
                radial = np.abs(rare) / parallel[here][::RADIAL_EVERY]
                means = np.stack([*stacked[:, here].mean(axis=1), radial.mean(axis=0)])
                found.append(self._rows(one, losses[here], here, [*derived, "radial"], means))
                if self.keep_steps:
                    self._keep(losses[here], here, part, derived)
                first_radial = one.radial
        return found

    def _rows(self, ended: _Ended, losses: Array, here: slice, quantities: Sequence[str], means: Array) -> list[Row]:
        """The rows of an epoch; ``means``: (quantities, 1 + groups)."""
        at = ended.step, ended.epoch, "online"
        sizes = self._sizes[here]
        rows = [Row(*at, "total", "loss", float(np.sum(losses[:, 0] * sizes) / sizes.sum()))]
        if self._has_error:
            rows.append(Row(*at, "total", "error", float(1.0 - losses[:, 1].sum() / self._counts[here].sum())))
        for name, values in zip(["total", *self.names], means.T.tolist()):
            for quantity, value in zip(quantities, values):
                if quantity != "cosine" or name == "total":
                    rows.append(Row(*at, name, quantity, value))
        return rows

    def _keep(self, losses: Array, here: slice, part: Mapping[str, Array], derived: Mapping[str, Array]) -> None:
        """Keep every step of an epoch, in columns."""
        block = {"loss": losses[:, 0], "lr": self._rates[here, 0], "total:angle": derived["angle"][here, 0]}
        per_group = {"rho_sq": part["before"], "g": derived["g"], "angle": derived["angle"]}
        for i, name in enumerate(self.names, start=1):
            block |= {f"{name}:{quantity}": values[here, i] for quantity, values in per_group.items()}
        self._blocks.append({column: values.astype(np.float32) for column, values in block.items()})

    def _forget_ended(self) -> None:
        """Move the steps of the present epoch to where the first one was."""
        steps, radial = self._filled - self._start, self._radial_start
        for name, held in self._held().items():
            start = radial if name == "radial" else self._start
            count = -(-steps // RADIAL_EVERY) if name == "radial" else steps
            if count:
                held[:count] = _on_cpu(held[start : start + count])
        self._filled = self._packed = steps
        self._start = self._radial_start = 0
        self._ended = []

    def _by_group(self, values: Array) -> Array:
        """Sums over all tensors, then over those of every group; (..., tensors) to (..., 1 + groups)."""
        whole = values.sum(axis=-1, keepdims=True)
        return np.concatenate([whole, np.add.reduceat(values, self._firsts, axis=-1)], axis=-1)

    def take_steps(self) -> list[dict[str, npt.NDArray[np.float32]]]:
        """The steps of the epochs flushed since the last call, in columns (see docs/architecture.md)."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def _held(self) -> dict[str, Any]:
        names = ("numbers", "losses", "sizes", "counts", "rates", "radial")
        return {name: getattr(self, f"_{name}") for name in names}

    def state_dict(self) -> dict[str, Tensor]:
        """The steps of the present epoch. Those before it are taken first: :meth:`take_rows`."""
        self._pack()
        n = self._filled
        counts = {name: -(-n // RADIAL_EVERY) if name == "radial" else n for name in self._held()}
        return {name: _on_cpu(held[: counts[name]]) for name, held in self._held().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._filled = self._packed = len(state["numbers"])
        state = {"counts": state["sizes"], **state}  # a checkpoint of before they differed
        for name, held in self._held().items():
            held[: len(state[name])] = state[name]


def _on_cpu(held: Any) -> Tensor:
    return held.cpu().clone() if isinstance(held, Tensor) else torch.from_numpy(held.copy())


def _norms(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return list(torch._foreach_norm(tensors, dtype=dtype))


#: numbers of one dot product in float32: few enough for an error of 1e-7, and for BLAS to stay on one thread
_PIECE = 9984


class _Numbers:
    """The numbers of a small weight in the order of its memory, which they share, and those of its gradient.

    Little is done at a step: after a backward pass this code is in none of the processor's caches.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.strides = tensor.stride()
        self.flat = flat(tensor)
        self.parts = [slice(at, at + _PIECE) for at in range(0, self.flat.size, _PIECE)]
        self.pieces = [self.flat[part] for part in self.parts]

    def products(self) -> tuple[float, float, float]:
        """g.g, w.w and g.w."""
        gradient = self.tensor.grad
        if gradient is None:
            gradient = torch.zeros_like(self.tensor)
        elif gradient.stride() != self.strides:  # the sums would be others
            gradient = torch.empty_like(self.tensor).copy_(gradient)
        w, g = self.flat, flat(gradient)  # in the order of the memory: no copy
        if len(self.parts) == 1:
            gg, ww, gw = float(g.dot(g)), float(w.dot(w)), float(g.dot(w))
        else:
            gg = ww = gw = 0.0
            for part, b in zip(self.parts, self.pieces):
                a = g[part]
                gg, ww, gw = gg + float(a.dot(a)), ww + float(b.dot(b)), gw + float(a.dot(b))
        if not math.isfinite(gg + ww + gw):  # beyond the squares of float32, or broken
            w64, g64 = self.tensor.detach().double(), gradient.double()
            gg, ww, gw = (float(product.sum()) for product in (g64 * g64, w64 * w64, g64 * w64))
        return gg, ww, gw

    def norm(self) -> float:
        """|w|, to the bit as :meth:`products` has it."""
        square = sum(float(piece.dot(piece)) for piece in self.pieces)
        return math.sqrt(square if math.isfinite(square) else float((self.tensor.detach().double() ** 2).sum()))


def _sums(steps: Sequence[Sequence[Any]]) -> Array:
    """Add up the numbers of every step; tensors wait for the device once."""
    numbers = [number for step in steps for number in step]
    if any(isinstance(number, Tensor) for number in numbers):
        place = next(number.device for number in numbers if isinstance(number, Tensor))
        double = summing_dtype(place)
        numbers = torch.stack([torch.as_tensor(n, device=place).to(double) for n in numbers]).cpu().double().tolist()
    given = iter(numbers)
    return np.array([sum(float(next(given)) for _ in step) for step in steps])


def _right_answers(steps: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> tuple[Tensor, Array]:
    """Count the right answers of every step, and all; the answers of all steps at once: small operations cost more."""
    given, wanted = zip(*(batch for step in steps for batch in step))
    right = (torch.cat(given).max(1).indices == torch.cat(wanted)).cpu().numpy()  # twice as quick as argmax
    sizes = np.array([sum(len(labels) for _, labels in step) for step in steps])
    counts = np.add.reduceat(right, np.cumsum(sizes) - sizes, dtype=np.float64)
    return torch.from_numpy(counts), sizes.astype(np.float64)


def _plain_angle(squares: Mapping[str, Array], dot: Array, lr: Array, decay: float) -> Array:
    """Find the angle of steps x' ~ (1 - lr wd) x - lr g, from g^2, g.x and x^2: what is across x against along it.

    No norm is subtracted from another: the angle is as exact as the products, however small it is beside lr wd.
    """
    along = (1 - lr * decay) * squares["before"] - lr * dot
    across = lr * np.sqrt(np.maximum(squares["g"] * squares["before"] - dot**2, 0.0))
    angle: Array = np.arctan2(across, along)
    return angle


def derive(
    squares: Mapping[str, Array], rates: Array, law: str = "sgd", angle: Array | None = None
) -> dict[str, Array]:
    """Derive rho (before the step), g, eg, elr, ess, angle and cosine per step from squared norms of one group; the
    angle as given, or by the law of cosines from the length d of the step.
    """
    rho = np.sqrt(squares["before"])
    after = np.sqrt(squares["after"])
    g = np.sqrt(squares["g"])
    eg = g * rho
    elr = theory.elr_of_square(rates, squares["before"], law)
    if angle is None:
        half = (squares["d"] - (after - rho) ** 2) / (4 * rho * after)
        angle = 2 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    ess = theory.ess(elr, eg, law, angle)
    return {"rho": rho, "g": g, "eg": eg, "elr": elr, "ess": ess, "angle": angle, "cosine": np.cos(angle)}
