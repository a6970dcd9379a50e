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

The optimizers that are known by name stand in :mod:`scaleinv.theory.known_optimizers`.

:func:`register_optimizer` adds an optimizer of your own; Sphere, Monitor, the lab, the analysis and the report all ask
here.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from scaleinv.errors import UserError
from scaleinv.theory.known_optimizers import KNOWN
from scaleinv.theory.rates import LAWS
from scaleinv.theory.traits import (
    DECAYS,
    Clock,
    Decay,
    Measured,
    OptimizerTraits,
    Options,
    Rest,
    cautious_clock,
    decay_in_gradient,
    decoupled_clock,
)

__all__ = [
    "DECAYS", "Clock", "Decay", "Measured", "OptimizerTraits", "Options", "Rest", "cautious_clock", "clocks_of",
    "decay_in_gradient", "decoupled_clock", "law_of", "register_optimizer", "traits_named", "traits_of_names",
]  # fmt: skip

_TRAITS: dict[str, OptimizerTraits] = dict(KNOWN)
#: of an optimizer that is not known
UNKNOWN = OptimizerTraits(None)
#: torch's names of the lab's optimizers
_LAB = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
#: whose direction is an average of gradients with beta_1
_AVERAGING = {"Adam", "AdamW", "Adamax", "RAdam"}


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


def memory_of(config: Mapping[str, Any]) -> float:
    """Find the cosine of the directions of two consecutive steps whose gradients have nothing in common: the momentum
    of SGD, beta_1 of Adam and its kin; 0 for other optimizers.

    - ``config``: of a run of the lab, as stored.

    >>> memory_of({"optimizer": "sgd", "momentum": 0.5}), memory_of({"optimizer": "adam"})
    (0.5, 0.9)
    >>> memory_of({"optimizer": "adamw", "optimizer_args": '{"betas": [0.8, 0.95]}'})
    0.8
    """
    name = str(config.get("optimizer") or "sgd")
    if _LAB.get(name, name) == "SGD":
        return float(config.get("momentum") or 0.0)
    if _LAB.get(name, name) not in _AVERAGING:
        return 0.0
    given = json.loads(str(config.get("optimizer_args") or "{}"))
    return float(given.get("betas", (0.9,))[0])


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
