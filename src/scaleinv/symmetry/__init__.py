"""Which weights of a model have no scale: groups, rescaling pairs, dead weights, eps defect; conversion."""

from __future__ import annotations

from scaleinv.symmetry.check import assert_scale_invariant
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.result import Partial, Symmetries

__all__ = ["Partial", "Symmetries", "assert_scale_invariant", "find_symmetries"]
