"""Compute the papers' formulas, one file per paper, and simulate the toy models. Needs numpy only; takes torch tensors.

Every formula's docstring gives the formula, its conditions, units and source, and what the paper approximates.
Outside its conditions a formula says so: numbers raise :class:`OutsideConditions`, arrays have NaN there and
``formula.reasons(...)`` tells why.
"""

from scaleinv.theory._formula import OutsideConditions
from scaleinv.theory.kosson2024 import Equilibrium, equilibrium

__all__ = ["Equilibrium", "OutsideConditions", "equilibrium"]
