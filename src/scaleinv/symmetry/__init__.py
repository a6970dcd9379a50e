"""Find the weights of a model that have no scale: groups, rescaling pairs, dead weights, eps; convert models."""

from scaleinv.symmetry.check import assert_scale_invariant
from scaleinv.symmetry.convert import Conversion, make_scale_invariant
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.result import Partial, Symmetries

__all__ = ["Conversion", "Partial", "Symmetries", "assert_scale_invariant", "find_symmetries", "make_scale_invariant"]
