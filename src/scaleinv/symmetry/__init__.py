"""Find the weights of a model that have no scale: groups, rescaling pairs, dead weights, eps; convert models."""

from scaleinv.symmetry.check import assert_scale_invariant
from scaleinv.symmetry.convert import Conversion, make_scale_invariant
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.groups import ParamGroups, param_groups
from scaleinv.symmetry.result import Partial, Symmetries
from scaleinv.symmetry.review import OptimizerReview, review_optimizer

__all__ = [
    "Conversion", "OptimizerReview", "ParamGroups", "Partial", "Symmetries", "assert_scale_invariant",
    "find_symmetries", "make_scale_invariant", "param_groups", "review_optimizer",
]  # fmt: skip
