"""scaleinv: training dynamics of networks whose weights have no scale.

Everything public is resolved on first use, so that ``import scaleinv`` costs no more than ``import torch`` and numpy.
"""

import importlib

from scaleinv._version import __version__
from scaleinv.errors import UserError, how_to_install

# not from typing, and no __future__: with `python -m` a typing.py in the current folder would be it (see __main__)
TYPE_CHECKING = False

#: public name -> module that defines it
_PUBLIC = {
    "Monitor": "scaleinv.monitor",
    "Equilibrium": "scaleinv.theory",
    "OptimizerTraits": "scaleinv.theory.optimizers",
    "OutsideConditions": "scaleinv.theory",
    "Sphere": "scaleinv.sphere",
    "StateError": "scaleinv.errors",
    "UserError": "scaleinv.errors",
    "Sweep": "scaleinv.studies.results",
    "assert_scale_invariant": "scaleinv.symmetry",
    "classification": "scaleinv.lab.supervised",
    "equilibrium": "scaleinv.theory",
    "find_symmetries": "scaleinv.symmetry",
    "language_model": "scaleinv.lab.language",
    "load": "scaleinv.studies.load",
    "make_scale_invariant": "scaleinv.symmetry",
    "param_groups": "scaleinv.symmetry",
    "register_optimizer": "scaleinv.theory.optimizers",
    "review_optimizer": "scaleinv.symmetry",
    "sweep": "scaleinv.studies.own",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from scaleinv.errors import StateError as StateError
    from scaleinv.errors import UserError as UserError
    from scaleinv.lab.language import language_model as language_model
    from scaleinv.lab.supervised import classification as classification
    from scaleinv.monitor import Monitor as Monitor
    from scaleinv.sphere import Sphere as Sphere
    from scaleinv.studies.load import load as load
    from scaleinv.studies.own import sweep as sweep
    from scaleinv.studies.results import Sweep as Sweep
    from scaleinv.symmetry import assert_scale_invariant as assert_scale_invariant
    from scaleinv.symmetry import find_symmetries as find_symmetries
    from scaleinv.symmetry import make_scale_invariant as make_scale_invariant
    from scaleinv.symmetry import param_groups as param_groups
    from scaleinv.symmetry import review_optimizer as review_optimizer
    from scaleinv.theory import Equilibrium as Equilibrium
    from scaleinv.theory import OutsideConditions as OutsideConditions
    from scaleinv.theory import equilibrium as equilibrium
    from scaleinv.theory.optimizers import OptimizerTraits as OptimizerTraits
    from scaleinv.theory.optimizers import register_optimizer as register_optimizer


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'scaleinv' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "scaleinv").partition(".")[0]
        if missing == "scaleinv":  # a bug of ours
            raise
        words = f"scaleinv.{name} needs {missing}, which is missing: {how_to_install(missing, 'lab')}"
        raise UserError(words) from None


def __dir__() -> list[str]:
    return sorted(__all__)
