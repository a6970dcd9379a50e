"""List the optimizers that are known by the name of their class: torch's, and those of packages people use.

Weight decay of packages that write ``weight_decouple`` or ``decoupled_weight_decay`` into their param groups is read
from there; equilibria are those of :mod:`scaleinv.theory.kosson2024` and :mod:`scaleinv.theory.norm_balance`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scaleinv.theory import norm_balance, orthogonalised
from scaleinv.theory.kosson2024 import Equilibrium, OptimizerLaw, equilibrium
from scaleinv.theory.rates import sgd_pace
from scaleinv.theory.traits import (
    Measured,
    OptimizerTraits,
    Options,
    Rest,
    cautious_clock,
    cautious_share,
    decay_in_gradient,
    decoupled_clock,
)

#: AdamP's and SGDP's share of the decay on weights without a scale
_WD_RATIO = 0.1


def _momentum(options: Options) -> float:
    """Read the momentum of SGD: ``momentum``, ``beta`` (heavyball) or the first of ``betas`` (bitsandbytes)."""
    betas = options.get("betas")
    return float(options.get("momentum") or options.get("beta") or (betas[0] if betas else 0.0))


def _beta1(options: Options, default: float = 0.9) -> float:
    betas = options.get("betas")
    return float(betas[0]) if betas else float(options.get("momentum") or options.get("beta1") or default)


def _sgd_clock(options: Options) -> float | None:
    return float(sgd_pace(_momentum(options), float(options.get("dampening") or 0.0)))


def _known_eg(measured: Measured) -> float | None:
    return measured.eg if measured.eg == measured.eg else None


def _sgd_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    if options.get("dampening"):
        return None
    momentum = _momentum(options)
    return equilibrium("sgdm" if momentum else "sgd", lr, wd, momentum=momentum, eg=_known_eg(measured))


def _sgdw_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    if options.get("dampening") or options.get("nesterov"):
        return None
    momentum, eg = _momentum(options), _known_eg(measured)
    turn = equilibrium("adamw", lr, wd, beta1=momentum).angle
    norm = float("nan") if eg is None else norm_balance.sgdw_norm(eg, lr, wd, momentum)
    return Equilibrium("sgdw", turn, norm, 1 / (4 * lr * wd), "eg" if eg is None else "")


def _normalised_rest(law: OptimizerLaw, *needs: str) -> Rest:
    def rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
        betas = options.get("betas") or (options.get("momentum") or options.get("beta1"), None)
        known: dict[str, Any] = {"beta2": betas[1], "dimension": measured.dimension, "update": measured.update}
        return equilibrium(law, lr, wd, beta1=betas[0], **{name: known[name] for name in needs})

    return rest


_adamw_rest = _normalised_rest("adamw", "dimension")
_averaged_rest = _normalised_rest("muon", "update")


def _muon_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    """Of the polar factor of an average, blended with the gradient (Nesterov) unless the options say that it is not."""
    momentum, nesterov = _beta1(options, 0.95), float(bool(options.get("nesterov", True)))
    kept = orthogonalised.kept_share(*(measured.sides or (1, 1)))
    turn = orthogonalised.angle(lr, wd, momentum, nesterov, kept)
    if not measured.update > 0:
        return Equilibrium("muon", turn, math.nan, 1 / (2 * lr * wd), "update")
    norm = orthogonalised.norm(lr, wd, momentum, nesterov, kept, measured.update)
    return Equilibrium("muon", turn, norm, 1 / (2 * lr * wd))


def _adam_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    return _adamw_rest(options, lr, wd, measured) if _decouples(options) else None


def _projected_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    """AdamP: the update is orthogonal to a weight without scale."""
    if not measured.update > 0:
        return Equilibrium("projected", norm_balance.projected_angle(lr, wd), math.nan, 1 / (2 * lr * wd), "update")
    norm = norm_balance.projected_norm(lr, wd, measured.update)
    return Equilibrium("projected", norm_balance.projected_angle(lr, wd), norm, 1 / (2 * lr * wd))


def _projected_sgd_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    if options.get("nesterov"):
        return None
    eg, momentum = _known_eg(measured), _momentum(options)
    norm = math.nan if eg is None else norm_balance.projected_sgd_norm(eg, lr, wd, momentum)
    return Equilibrium("sgdw", norm_balance.projected_angle(lr, wd), norm, 1 / (4 * lr * wd), "" if eg else "eg")


def _trust(options: Options) -> float:
    names = ("trust_coefficient", "trust_coeff", "trust_coef", "eta")
    return float(next((options[name] for name in names if options.get(name)), 1e-3))


def _lars_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    """LARS: ``lr`` has the trust coefficient in it already."""
    if options.get("nesterov"):
        return None
    eg, momentum = _known_eg(measured), _momentum(options)
    turn = norm_balance.relative_angle(lr, momentum)
    norm = math.nan if eg is None else norm_balance.lars_norm(eg, lr, wd, momentum)
    return Equilibrium("lars", turn, norm, ((1 - momentum) / lr) ** 2, "" if eg else "eg")


def _lamb_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    b = _beta1(options)
    update = math.sqrt((1 - b) / (1 + b) * measured.dimension)
    norm = norm_balance.lamb_norm(lr, wd, b, update)
    return Equilibrium("lamb", math.atan(lr), norm, 2 * (1 - b) / (lr**2 * (1 + b)))


def _decouples(options: Options) -> bool:
    """Read what packages call it: torch's ``decoupled_weight_decay``, ``weight_decouple``, ``decouple`` of Prodigy."""
    return any(options.get(name) for name in ("decoupled_weight_decay", "weight_decouple", "decouple"))


def _package_clock(options: Options) -> float | None:
    """Where a package lets its user choose: 1 for decoupled decay, None for decay through the normalisation."""
    return 1.0 if _decouples(options) else None


def _projected_share(options: Options) -> float:
    return float(options.get("wd_ratio", _WD_RATIO))


def _projected_sgd_share(options: Options) -> float:
    """SGDP divides its decay by ``1 - momentum``, so that it is as strong as a coupled one."""
    return _projected_share(options) / (1 - _momentum(options))


def _of_d(options: Options) -> float:
    """Prodigy's and D-Adaptation's estimate, which multiplies the learning rate."""
    return float(options.get("d", 1.0))


def _of_d_sgd(options: Options) -> float:
    return float(options.get("d", 1.0)) / float(options.get("g0_norm") or 1.0)


# -- the length of the very first step ---------------------------------------------------------------------------------


def _sgd_first(options: Options, lr: float, g: float, entries: int) -> float | None:
    return lr * g * (1 + _momentum(options) * bool(options.get("nesterov")))


def _sign_first(options: Options, lr: float, g: float, entries: int) -> float | None:
    """Every number moves by ``lr``; one with a gradient of the size of eps, rounding before a batch norm, does not."""
    eps = options.get("eps")
    if isinstance(eps, (int, float)) and g < 100 * eps * math.sqrt(entries):
        return None
    return lr * math.sqrt(entries)


# -- one class, several kinds of group ---------------------------------------------------------------------------------


def _of_muon(options: Options) -> OptimizerTraits:
    """Groups with ``use_muon=False`` (Keller Jordan's MuonWithAuxAdam), or of kind ``adamw``, are AdamW's."""
    if options.get("use_muon") is False or str(options.get("algorithm", "")).lower() in ("adam", "adamw"):
        return _ADAMW
    return _MUON


def _of_adafactor(options: Options) -> OptimizerTraits:
    """torch's always scales by the parameter; Hugging Face's and others where ``scale_parameter`` says so."""
    return _ADAFACTOR if options.get("scale_parameter", True) else _ADAFACTOR_PLAIN


def _of_adam(options: Options) -> OptimizerTraits:
    return _ADAMW if _decouples(options) else _ADAM


def _of_radam(options: Options) -> OptimizerTraits:
    return _RADAMW if _decouples(options) else _RADAM


def _of_sgd(options: Options) -> OptimizerTraits:
    """heavyball's SGD, whose momentum is ``beta``, decouples its decay."""
    return _SGDW if "beta" in options else _SGD


def _of_lamb(options: Options) -> OptimizerTraits:
    """Where decay is outside the trust ratio (pytorch_optimizer), growth and decay are relative; no norm is at rest."""
    return _LAMB_APART if _decouples(options) else _LAMB


_SGD = OptimizerTraits(
    "sgd", clock=_sgd_clock, equilibrium=_sgd_rest, decay_memory=_momentum, first_step=_sgd_first
)  # fmt: skip
_SGDW = OptimizerTraits("sgd", "decoupled", decoupled_clock, equilibrium=_sgdw_rest)
_ADAM = OptimizerTraits("normalised", equilibrium=_adam_rest, first_step=_sign_first)
_ADAMW = OptimizerTraits(
    "normalised", "decoupled", decoupled_clock, equilibrium=_adamw_rest, first_step=_sign_first
)  # fmt: skip
_RADAM = OptimizerTraits("normalised", equilibrium=_adam_rest)
_RADAMW = OptimizerTraits("normalised", "decoupled", decoupled_clock, equilibrium=_adamw_rest)
_LION = OptimizerTraits(
    "normalised", "decoupled", decoupled_clock, equilibrium=_normalised_rest("lion", "beta2", "dimension"),
    first_step=_sign_first,
)  # fmt: skip
_MUON = OptimizerTraits("normalised", "decoupled", decoupled_clock, True, equilibrium=_muon_rest)
_AVERAGED = OptimizerTraits("normalised", "decoupled", decoupled_clock, equilibrium=_averaged_rest)
_WHITENED = OptimizerTraits("normalised", "decoupled", decoupled_clock, True, equilibrium=_averaged_rest)
_SHAMPOO = OptimizerTraits("normalised", "coupled", _package_clock, True)
_NORMALISED = OptimizerTraits("normalised", "coupled", _package_clock)
_ADAFACTOR = OptimizerTraits("relative", "decoupled", decoupled_clock, True)
_ADAFACTOR_PLAIN = OptimizerTraits("normalised", "decoupled", decoupled_clock, True)
_LARS = OptimizerTraits("relative", "coupled", decay_in_gradient, rate_factor=_trust, equilibrium=_lars_rest)
_LAMB = OptimizerTraits("relative", "coupled", decay_in_gradient, equilibrium=_lamb_rest)
_LAMB_APART = OptimizerTraits("relative", "decoupled", decoupled_clock)
_ADAMP = OptimizerTraits(
    "normalised", "decoupled", _projected_share, equilibrium=_projected_rest, share=_projected_share
)
_SGDP = OptimizerTraits(
    "sgd", "decoupled", _projected_sgd_share, equilibrium=_projected_sgd_rest, share=_projected_sgd_share
)
_ADAMC = OptimizerTraits("normalised", "corrected", decoupled_clock, equilibrium=_adamw_rest, first_step=_sign_first)
_CAUTIOUS = OptimizerTraits("normalised", "cautious", cautious_clock, equilibrium=_adamw_rest, share=cautious_share)
_D_ADAM = OptimizerTraits("normalised", "decoupled", decoupled_clock, rate_factor=_of_d, equilibrium=_adamw_rest)
# averages of the iterates have no rest while the average grows longer
_FREE_ADAM = OptimizerTraits("normalised", "decoupled", decoupled_clock, gradient_averages=())
_FREE_SGD = OptimizerTraits("sgd", "decoupled", decoupled_clock, gradient_averages=())


def _named(traits: OptimizerTraits, names: str) -> dict[str, OptimizerTraits]:
    return dict.fromkeys(names.split(), traits)


def _with_groups(traits: OptimizerTraits, of_group: Callable[[Options], OptimizerTraits]) -> OptimizerTraits:
    return replace(traits, of_group=of_group)


def stated(base: OptimizerTraits, law: str | None, decay: str | None) -> OptimizerTraits:
    """Change traits to the law and the kind of decay that somebody states; None: as they are.

    - ``base``: what is known of the class.

    >>> stated(KNOWN["AdamW"], None, "independent").decay
    'independent'
    """
    if law is None and decay is None:
        return base
    kind: Any = decay or base.decay
    if law is not None and law != base.law:
        plain = {"sgd": _SGD if kind == "coupled" else _SGDW, "normalised": _PLAIN, "relative": _LAMB}
        base = plain[law] if law in plain else OptimizerTraits(None, kind)
    clock = base.clock
    if decay is not None and decay != base.decay:
        clock = {"coupled": base.clock, "cautious": cautious_clock}.get(kind, decoupled_clock)
        if kind == "coupled":
            clock = _sgd_clock if base.law == "sgd" else decay_in_gradient
    share = cautious_share if kind == "cautious" else base.share if kind == base.decay else None
    return replace(base, decay=kind, clock=clock, share=share, of_group=None)


def as_set(traits: OptimizerTraits, options: Options) -> OptimizerTraits:
    """Change traits to the kind of decay that the options of a param group choose, by the names that packages use.

    ``corrected_weight_decay`` (timm), ``fixed_decay`` (pytorch_optimizer: independent), ``weight_decouple=False``
    (coupled), ``cautious_weight_decay``.

    >>> as_set(KNOWN["AdamW"], {"fixed_decay": True}).decay
    'independent'
    """
    kind = None
    if options.get("corrected_weight_decay"):
        kind = "corrected"
    elif options.get("fixed_decay"):
        kind = "independent"
    elif options.get("cautious_weight_decay"):
        kind = "cautious"
    elif options.get("weight_decouple") is False and traits.decay == "decoupled":
        kind = "coupled"
    return traits if kind is None else stated(traits, None, kind)


def _plain_rest(options: Options, lr: float, wd: float, measured: Measured) -> Equilibrium | None:
    """Updates of a fixed norm, averaged if the options name an average."""
    return equilibrium("muon", lr, wd, beta1=_beta1(options, 0.0), update=measured.update)


_PLAIN = OptimizerTraits("normalised", "decoupled", decoupled_clock, equilibrium=_plain_rest)

#: by name of the class
KNOWN: dict[str, OptimizerTraits] = {
    **_named(_with_groups(_SGD, _of_sgd), "SGD SGD8bit"),
    **_named(_SGDW, "SGDW"),
    **_named(_with_groups(_ADAM, _of_adam), "Adam Adam8bit PagedAdam8bit Adam4bit AdamFp8 FusedAdam"),
    **_named(
        _ADAMW,
        "AdamW AdamW8bit AdamW32bit PagedAdamW PagedAdamW8bit PagedAdamW32bit AdamW4bit AdamWFp8 StableAdamW "
        "DeepSpeedCPUAdam",
    ),
    **_named(_LION, "Lion Lion8bit PagedLion PagedLion8bit"),
    **_named(
        _with_groups(_MUON, _of_muon),
        "Muon MuonWithAuxAdam SingleDeviceMuon SingleDeviceMuonWithAuxAdam DistributedMuon MuonAdamW",
    ),
    **_named(_WHITENED, "SOAP Scion"),
    **_named(_AVERAGED, "SophiaG SophiaH Sophia AdEMAMix AdaBelief"),
    # its differences of gradients make steps that follow one another opposed, and no equilibrium is known
    "Adan": OptimizerTraits("normalised", "decoupled", decoupled_clock),
    **_named(_SHAMPOO, "Shampoo DistributedShampoo ScalableShampoo"),
    **_named(_with_groups(_ADAFACTOR, _of_adafactor), "Adafactor AdaFactor"),
    **_named(_LARS, "LARS Lars LARS8bit"),
    **_named(_with_groups(_LAMB, _of_lamb), "LAMB Lamb LAMB8bit FusedLAMB"),
    **_named(_ADAMP, "AdamP"),
    **_named(_SGDP, "SGDP"),
    **_named(_ADAMC, "AdamC AdamWC"),
    **_named(_CAUTIOUS, "CautiousAdamW CWDAdamW"),
    **_named(_D_ADAM, "Prodigy ProdigyPlusScheduleFree DAdaptAdam DAdaptLion DAdaptAdan"),
    "DAdaptSGD": OptimizerTraits("sgd", "decoupled", decoupled_clock, rate_factor=_of_d_sgd),
    **_named(_FREE_ADAM, "AdamWScheduleFree RAdamScheduleFree AdamWScheduleFreeClosure ScheduleFreeAdamW"),
    **_named(_FREE_SGD, "SGDScheduleFree SGDScheduleFreeClosure ScheduleFreeSGD"),
    **_named(_with_groups(_RADAM, _of_radam), "NAdam RAdam"),
    **_named(_NORMALISED, "Adamax Adagrad RMSprop RMSprop8bit Adagrad8bit"),
}  # fmt: skip
