"""Find the periods of training in the whole space with weight decay (Lobacheva et al. 2021), and why they are there.

>>> found = find_periods("runs/one")
>>> found.verdict
'not yet'

``print(found.answer)`` says of a longer run, for example: 14 periods of 640 steps (95 % 550-760) = 0.20/(lr wd); next
break-down expected within 300-900 steps; phase B.
"""

from scaleinv.analysis.periods.bounds import Bounds, Envelope, Prediction, bounds_of, envelope, time_to_jump
from scaleinv.analysis.periods.events import BreakDown
from scaleinv.analysis.periods.find import find_periods
from scaleinv.analysis.periods.phases import Period, Span
from scaleinv.analysis.periods.result import Periods
from scaleinv.theory.breakdowns.definition import Definition

__all__ = [
    "Bounds",
    "BreakDown",
    "Definition",
    "Envelope",
    "Period",
    "Periods",
    "Prediction",
    "Span",
    "bounds_of",
    "envelope",
    "find_periods",
    "time_to_jump",
]
