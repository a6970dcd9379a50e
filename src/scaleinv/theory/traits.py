"""Say what the package needs to know of an optimizer: its law, how its weight decay acts, where it comes to rest."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from scaleinv.errors import UserError
from scaleinv.theory.kosson2024 import Equilibrium
from scaleinv.theory.rates import LAWS, Law

Decay = Literal["coupled", "decoupled", "corrected", "independent", "cautious", "none"]
DECAYS: tuple[Decay, ...] = get_args(Decay)
Options = Mapping[str, Any]
Clock = Callable[[Options], float | None]
#: (options, lr, wd, measured) -> where it comes to rest; None where no formula is known for it as it is set
Rest = Callable[[Options, float, float, "Measured"], Equilibrium | None]


@dataclass(frozen=True)
class Measured:
    """What is known of a group of weights besides its optimizer; NaN: not known."""

    eg: float = float("nan")  # RMS effective gradient norm
    dimension: int = 2  # how many numbers the group has
    update: float = float("nan")  # norm of the update in units of the learning rate, without weight decay
    sides: tuple[int, int] | None = None  # rows and columns of the largest matrix in it; None: a square one


def decoupled_clock(options: Options) -> float | None:
    """Give the clock of decoupled decay, which is 1: the weights are multiplied by ``1 - lr wd``."""
    return 1.0


def cautious_clock(options: Options) -> float | None:
    """Give the clock of cautious decay, a little less than 1/2: it acts where update and weight have one sign."""
    return cautious_share(options)


def cautious_share(options: Options) -> float:
    """Give the share of cautious decay that acts: where update and weight have one sign.

        1/2 + (asin c + c sqrt(1 - c^2))/pi,  c = -b sqrt((1 - a^2)/((1 - a b)(1 + a b))),  a = 1 - lr wd/2

    ``c`` is the correlation of update and weight at rest, ``b`` the decay of the update's average (beta1).
    """
    betas = options.get("betas")
    b = float(betas[0]) if betas else float(options.get("momentum") or 0.0)
    a = 1 - min(1.0, float(options.get("lr") or 0.0) * float(options.get("weight_decay") or 0.0) / 2)
    c = -b * math.sqrt((1 - a * a) / ((1 - a * b) * (1 + a * b)))
    return 0.5 + (math.asin(c) + c * math.sqrt(1 - c * c)) / math.pi


def decay_in_gradient(options: Options) -> float | None:
    """Give the clock of decay through a normalisation: None, or 1 where ``decoupled_weight_decay`` is set."""
    return 1.0 if options.get("decoupled_weight_decay") else None


@dataclass(frozen=True)
class OptimizerTraits:
    """What the package needs to know of an optimizer.

    - ``law``: ``sgd``, the update grows with the gradient; ``normalised``, it does not; ``relative``, it grows with the
      weights (LARS, LAMB); None, not known: the ELR is then measured from the steps.
    - ``decay``: ``coupled``, weight decay is added to the gradient; ``decoupled``, the weights shrink by ``1 - lr wd``;
      ``corrected``, decoupled and proportional to ``lr/lr_max``; ``independent``, by ``1 - wd`` whatever the learning
      rate is; ``cautious``, decoupled, only where update and weight have one sign; ``none``.
    - ``clock``: of the options of a param group the factor before ``lr wd`` above; None where there is none.
    - ``matrix_wise``: the update of a row depends on the other rows of its matrix (Muon), so no sphere a row.
    - ``gradient_averages``: state entries that average gradients and so live in the tangent space, by the law ``sgd``.
    - ``rate_factor``: of the options the factor that the step hides beside ``lr`` (Prodigy's ``d``); None: 1.
    - ``equilibrium``: of options, lr, wd and a :class:`Measured` where decay and updates balance; None: not known.
    - ``decay_memory``: of the options the momentum that coupled decay goes through; None: it acts at once.
    - ``first_step``: of options, lr, norm of the gradient and count of its entries that are not zero the length of the
      very first update, without decay; None: not known.
    - ``share``: of the options the share of the decay that acts (AdamP's ``wd_ratio``, cautious decay); the clock has
      it in it. None: all of it.
    - ``of_group``: of the options the traits of that param group, where one class does several things (Muon with Adam
      inside); None: all groups are alike.
    """

    law: Law | None
    decay: Decay = "coupled"
    clock: Clock = decay_in_gradient
    matrix_wise: bool = False
    gradient_averages: tuple[str, ...] = ("momentum_buffer", "exp_avg")
    rate_factor: Callable[[Options], float] | None = None
    equilibrium: Rest | None = None
    decay_memory: Callable[[Options], float] | None = None
    first_step: Callable[[Options, float, float, int], float | None] | None = None
    share: Callable[[Options], float] | None = None
    of_group: "Callable[[Options], OptimizerTraits] | None" = None

    def __post_init__(self) -> None:
        if self.law is not None and self.law not in LAWS:
            raise UserError(f"law {self.law!r} is not known; choose one of: {', '.join(LAWS)}")
        if self.decay not in DECAYS:
            raise UserError(f"decay {self.decay!r} is not known; choose one of: {', '.join(DECAYS)}")

    def shrinks(self, options: Options, lr: float, wd: float, lr_max: float) -> float:
        """Give the decay of a step in units of the learning rate, so that ``lr`` times it is what a step takes away.

            wd (coupled, decoupled, cautious),  wd lr/lr_max (corrected),  wd/lr (independent),  0 (none)

        all times the ``share`` that acts.

        - ``options``: of the param group.
        - ``lr``, ``wd``: learning rate of the step and weight decay of the param group.
        - ``lr_max``: the largest learning rate of the run, which the corrected decay is measured against.

        >>> round(OptimizerTraits("normalised", "independent").shrinks({}, 0.1, 0.02, 0.1), 6)
        0.2
        """
        wd *= 1.0 if self.share is None else self.share(options)
        if self.decay == "none":
            return 0.0
        if self.decay == "independent":
            return wd / lr if lr > 0 else 0.0
        if self.decay == "corrected":
            return wd * lr / lr_max if lr_max > 0 else wd
        return wd
