"""Train on the sphere: the effective learning rate is the hyper-parameter, the norm never moves."""

from scaleinv.sphere.average import ema_on_spheres
from scaleinv.sphere.backward import StepInBackward
from scaleinv.sphere.cut import GRANULARITIES, Cut
from scaleinv.sphere.optimizer import Sphere

__all__ = ["GRANULARITIES", "Cut", "Sphere", "StepInBackward", "ema_on_spheres"]
