"""Train on the sphere: the effective learning rate is the hyper-parameter, the norm never moves."""

from scaleinv.sphere.cut import GRANULARITIES, Cut
from scaleinv.sphere.optimizer import Sphere

__all__ = ["GRANULARITIES", "Cut", "Sphere"]
