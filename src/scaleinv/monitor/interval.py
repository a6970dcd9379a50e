"""Choose how often to log by the measured cost."""

from collections import deque
from itertools import count
from statistics import median

#: share of the training time that the default interval may cost
SHARE = 0.01
#: logged steps on which the first choice rests; the very first is left out (allocations, caches)
_FIRST = 4
#: the choice is looked at again after so many logged steps, since the first steps of a run are not like the later ones
_AGAIN = (16, 64, 256)


def nice(least: float) -> int:
    """Find the smallest of 1, 2, 5, 10, 20, 50 ... that is not below ``least``.

    >>> [nice(x) for x in (0.2, 1.5, 3, 51)]
    [1, 2, 5, 100]
    """
    return int(next(digit * 10**power for power in count() for digit in (1, 2, 5) if digit * 10**power >= least))


class LoggingInterval:
    """Chooses ``every``, unless it is given, so that logging costs at most 1 % of the time between two steps.

    At first every second step is logged, until the first choice can be made.
    """

    def __init__(self, every: int | None) -> None:
        self.every = every or 2
        self.given = every is not None
        self._costs: deque[float] = deque(maxlen=15)
        self._steps: deque[float] = deque(maxlen=15)
        self._logged = 0

    def step(self, seconds: float) -> None:
        """Take the time between two steps, without what logging took."""
        if not self.given:
            self._steps.append(seconds)

    def logged(self, seconds: float) -> bool:
        """Take the cost of a logged step; True if it is time to choose."""
        if self.given:
            return False
        self._logged += 1
        if self._logged > 1:
            self._costs.append(seconds)
        return self._logged == _FIRST or self._logged in _AGAIN

    def choice(self, total_steps: int | None = None) -> int:
        """Choose the interval that the costs told so far ask for: at most 1000, the first time at most 50 (three costs
        are few), and such that a run of ``total_steps``, if that is known, is logged 50 times whatever it costs.
        """
        if not self._costs or not self._steps or not median(self._steps) > 0:
            return self.every
        most = 50 if self._logged == _FIRST else 1000
        if total_steps is not None:
            most = min(most, max(1, total_steps // 50))
        return min(nice(median(self._costs) / (SHARE * median(self._steps)) - 1e-9), most)
