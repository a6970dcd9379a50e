r"""What each optimizer is like: its law, how its weight decay acts, where it comes to rest. By name, without torch.

The law says what the learning rate means (:mod:`scaleinv.theory.rates`). The *clock* of an optimizer is the rate at
which weight decay takes from log rho in a step, in units of ``lr wd``; periods and equilibria are measured in
``1/(clock lr wd)`` steps:

- SGD. torch adds ``wd w`` to the gradient before the momentum buffer, ``m' = momentum m + (1 - dampening)(g + wd w)``,
  so gradient and decay of one step go on acting in those after it, in all
  :func:`~scaleinv.theory.rates.sgd_pace` ``= (1 - dampening)/(1 - momentum)`` times, with Nesterov's look-ahead too. On
  the scale of a period, long against ``1/(1 - momentum)`` steps, that is plain SGD at the learning rate times that.
- Decoupled decay (AdamW, Lion, Muon) multiplies the weights by ``1 - lr wd`` and knows no momentum: 1.
- Decay that passes through a normalisation (Adam with L2) has no clock: what it takes from the norm depends on the
  gradients.

:func:`register_optimizer` adds an optimizer of your own; Sphere, Monitor, the lab, the analysis and the report all ask
here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from scaleinv.errors import UserError
from scaleinv.theory.kosson2024 import Equilibrium, OptimizerLaw, equilibrium
from scaleinv.theory.rates import LAWS, Law, sgd_pace

Decay = Literal["coupled", "decoupled", "corrected", "independent", "none"]
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


def decoupled_clock(options: Options) -> float | None:
    """Give the clock of decoupled decay, which is 1: the weights are multiplied by ``1 - lr wd``."""
    return 1.0


def decay_in_gradient(options: Options) -> float | None:
    """Give the clock of decay through a normalisation: None, or 1 where ``decoupled_weight_decay`` is set."""
    return 1.0 if options.get("decoupled_weight_decay") else None


@dataclass(frozen=True)
class OptimizerTraits:
    """What the package needs to know of an optimizer.

    - ``law``: ``sgd``, the update grows with the gradient; ``normalised``, it does not; None, not known: the ELR is
      then measured from the steps.
    - ``decay``: ``coupled``, weight decay is added to the gradient; ``decoupled``, the weights shrink by ``1 - lr wd``;
      ``corrected``, decoupled with a decay that follows the schedule; ``independent``, by ``1 - wd`` whatever the
      learning rate is; ``none``.
    - ``clock``: of the options of a param group the factor before ``lr wd`` above; None where there is none.
    - ``matrix_wise``: the update of a row depends on the other rows of its matrix (Muon), so no sphere a row.
    - ``gradient_averages``: state entries that average gradients and so live in the tangent space, by the law ``sgd``.
    - ``rate_factor``: of the options the factor that the step hides beside ``lr`` (Prodigy's ``d``); None: 1.
    - ``equilibrium``: of options, lr, wd and a :class:`Measured` where decay and updates balance; None: not known.
    """

    law: Law | None
    decay: Decay = "coupled"
    clock: Clock = decay_in_gradient
    matrix_wise: bool = False
    gradient_averages: tuple[str, ...] = ("momentum_buffer", "exp_avg")
    rate_factor: Callable[[Options], float] | None = None
    equilibrium: Rest | None = None

    def __post_init__(self) -> None:
        if self.law is not None and self.law not in LAWS:
            raise UserError(f"law {self.law!r} is not known; choose one of: {', '.join(LAWS)}")
        if self.decay not in get_args(Decay):
            raise UserError(f"decay {self.decay!r} is not known; choose one of: {', '.join(get_args(Decay))}")


def _sgd_clock(options: Options) -> float | None:
    return float(sgd_pace(float(options.get("momentum") or 0.0), float(options.get("dampening") or 0.0)))


def _sgd_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    if options.get("dampening"):
        return None
    momentum = float(options.get("momentum") or 0.0)
    eg = measured.eg if measured.eg == measured.eg else None
    return equilibrium("sgdm" if momentum else "sgd", lr, wd, momentum=momentum, eg=eg)


def _normalised_rest(law: OptimizerLaw, *needs: str) -> Rest:
    def rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
        betas = options.get("betas") or (options.get("momentum"), None)
        known: dict[str, Any] = {"beta2": betas[1], "dimension": measured.dimension, "update": measured.update}
        return equilibrium(law, lr, wd, beta1=betas[0], **{name: known[name] for name in needs})

    return rest


_adamw_rest = _normalised_rest("adamw", "dimension")


def _adam_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    return _adamw_rest(options, lr, wd, measured) if options.get("decoupled_weight_decay") else None


_TRAITS: dict[str, OptimizerTraits] = {
    "SGD": OptimizerTraits("sgd", clock=_sgd_clock, equilibrium=_sgd_rest),
    "Adam": OptimizerTraits("normalised", equilibrium=_adam_rest),
    "AdamW": OptimizerTraits("normalised", "decoupled", decoupled_clock, equilibrium=_adamw_rest),
    "Lion": OptimizerTraits(
        "normalised", "decoupled", decoupled_clock, equilibrium=_normalised_rest("lion", "beta2", "dimension")
    ),
    "Muon": OptimizerTraits(
        "normalised", "decoupled", decoupled_clock, True, equilibrium=_normalised_rest("muon", "update")
    ),
    "Adafactor": OptimizerTraits(None, "decoupled", decoupled_clock, True),
    **dict.fromkeys(("NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop"), OptimizerTraits("normalised")),
    **dict.fromkeys(("Shampoo", "SOAP", "Scion"), OptimizerTraits(None, matrix_wise=True)),
}
#: of an optimizer that is not known
UNKNOWN = OptimizerTraits(None)
#: torch's names of the lab's optimizers
_LAB = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def register_optimizer(name_or_class: str | type, traits: OptimizerTraits) -> None:
    """Register what an optimizer is like; subclasses inherit it.

    - ``name_or_class``: its class, or the name of its class.
    - ``traits``: what Sphere, Monitor, the lab and the analysis ask for.
    - Raises :class:`~scaleinv.UserError` for anything that is no name, no class or no traits.

    >>> register_optimizer("SignMomentum", OptimizerTraits("normalised", "decoupled", decoupled_clock))
    >>> traits_of_names(["SignMomentum", "Optimizer"]).law
    'normalised'
    """
    name = name_or_class if isinstance(name_or_class, str) else getattr(name_or_class, "__name__", "")
    if not name or not isinstance(traits, OptimizerTraits):
        raise UserError(
            f"register_optimizer({name_or_class!r}, a {type(traits).__name__}): "
            "give a class or its name, and OptimizerTraits"
        )
    _TRAITS[name] = traits


def traits_of_names(names: Iterable[str]) -> OptimizerTraits:
    """Find the traits of an optimizer by the names of its class and bases; :data:`UNKNOWN` if none is known.

    - ``names``: of the class first, then of its bases.

    >>> traits_of_names(["Mine", "AdamW", "Adam"]).decay
    'decoupled'
    """
    return next((_TRAITS[name] for name in names if name in _TRAITS), UNKNOWN)


def traits_named(config: Mapping[str, Any]) -> OptimizerTraits:
    """Find the traits of an optimizer from what a run folder stores.

    - ``config``: ``{"optimizer": "adamw"}`` of a run of the lab, ``{"class": "Mine", "law": "sgd"}`` of one that a
      Monitor measured. A stored law decides for a class not known here.

    >>> traits_named({"optimizer": "adam"}).law, traits_named({"class": "Mine", "law": "sgd"}).clock({"momentum": 0.5})
    ('normalised', 2.0)
    """
    if "class" in config:
        found, law = traits_of_names([str(config["class"])]), config.get("law")
        if law == "sgd" != found.law:
            return _TRAITS["SGD"]
        return found if law == found.law else OptimizerTraits(law if law in LAWS else None, found.decay, found.clock)
    name = str(config.get("optimizer") or "sgd")
    return traits_of_names([_LAB.get(name, name)])


def law_of(config: Mapping[str, Any]) -> str:
    """Find the law of a run: ``sgd``, ``normalised``, or ``measured`` where it is not known.

    - ``config``: as stored. A run of the lab names its ``optimizer``; a run that a Monitor measured has the law of each
      of its ``optimizers``, and ``measured`` where they differ.

    >>> law_of({"optimizer": "adamw"}), law_of({"optimizers": [{"law": "sgd"}, {"law": "normalised"}]})
    ('normalised', 'measured')
    """
    several = config.get("optimizers")
    if isinstance(several, list) and several:
        laws = {str(one.get("law")) if isinstance(one, Mapping) else "" for one in several}
        return laws.pop() if len(laws) == 1 and laws <= set(LAWS) else "measured"
    stated = config.get("law")  # measured by the lab, of an optimizer that is not known here
    return traits_named(config).law or (str(stated) if stated in LAWS else "measured")


def clocks_of(config: Mapping[str, Any]) -> set[float | None]:
    """Find the clocks of a run: one for every param group that differs; None where there is none.

    - ``config``: as stored. A stored param group's ``clock`` decides; where it has none, the optimizer's name does.

    >>> clocks_of({"optimizer": "sgd", "momentum": 0.75})
    {4.0}
    >>> clocks_of({"optimizers": [{"class": "Mine", "law": "sgd", "groups": [{"clock": 2.5}]}]})
    {2.5}
    """
    several = config.get("optimizers")
    if not isinstance(several, list):
        return {traits_named(config).clock(config)}
    return {
        group["clock"] if "clock" in group else traits_named(one).clock(group)
        for one in several
        for group in one.get("groups", [])
    }
