"""Train on the sphere: the effective learning rate is the hyper-parameter, the norm never moves."""

from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.units import GRANULARITIES

__all__ = ["GRANULARITIES", "Sphere"]
