"""Check that the weight decay given can have made the norm fall as it did."""

import numpy as np

from scaleinv.analysis.periods.log import Log

#: a fall is looked at over at least this much of 2 lr wd steps, and this many rows
_LEAST_FALL, _LEAST_ROWS = 0.01, 10
#: faster than decay by more than this share is no rounding
_TOLERANCE = 1.15
#: of the falls, so many have to be too fast to blame the rates; fewer are changes from outside
_MANY = 0.2


def contradiction(log: Log) -> str:
    """Say that the norm falls faster than decay can make it; empty where it does not.

        fall of log rho^2 <= 2 sum of lr wd

    Gradients of scale-invariant weights only ever add to the norm, so this holds over any stretch. Where it does not,
    lr, wd or momentum are others than given, or the weights were changed between steps.
    """
    if log.clock != "given" or log.time is None or log.rho_sq is None or len(log) < 2 * _LEAST_ROWS:
        return ""
    if not np.all(log.rho_sq > 0):
        return ""
    log_rho_sq = np.log(log.rho_sq)
    steps = np.abs(np.diff(log_rho_sq))
    # a norm printed with few digits moves by whole units of the last one
    digit = float(np.median(steps[steps > 0])) if np.mean(steps == 0) > 0.2 and np.any(steps > 0) else 0.0
    least = max(_LEAST_FALL, 10 * digit)
    rows = min(max(_LEAST_ROWS, int(np.ceil(least / 2 * log.unit / max(log.spacing, 1)))), len(log) // 2)
    fall, able = log_rho_sq[:-rows] - log_rho_sq[rows:], 2 * (log.time[rows:] - log.time[:-rows])
    falling = fall > max(2e-3, digit)
    fast = falling & (fall > _TOLERANCE * able) & (fall - able > max(2e-3, digit))
    if not fast.any():
        return ""
    first = int(np.argmax(fast))
    if fast.sum() < _MANY * falling.sum():
        return (
            f"at step {log.step[first]} the norm falls faster than these lr and wd can make it: other rates, or "
            "weights changed from outside"
        )
    ratio = float(np.median(fall[fast] / np.maximum(able[fast], 1e-300)))
    if not np.isfinite(ratio) or ratio > 1e6:
        return "lr and wd contradict the log: the norm falls where they are 0"
    lr_wd = float(np.median(fall[fast] / (log.step[rows:] - log.step[:-rows])[fast])) / 2
    hint = "" if log.pace != 1 else "; with momentum m give --momentum m, whose rate counts lr/(1 - m)"
    return (
        f"lr and wd contradict the log: the norm falls {ratio:.2g} times as fast as decay can make it, so lr wd is at "
        f"least {lr_wd:.2g}, and what is said in 1/(lr wd) is wrong{hint}"
    )
