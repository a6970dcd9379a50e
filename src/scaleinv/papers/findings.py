"""Claims that our networks contradict, with the page that has the evidence.

A check that fails stays a check that fails: nothing about its definition or tolerance changes. What an entry here says
is that the failure is a result, understood and written down, and not news: ``scaleinv verify`` then does not end with
an error for it. On another CPU, where its runs are another draw, it may be undecided; where it holds, that is told.
"""

from typing import NamedTuple


class Finding(NamedTuple):
    """Why a claim fails at a scale, in one line, and where the evidence is."""

    why: str
    page: str


_PERIODS, _REGIMES, _MONITOR = "docs/results/periods-claims.md", "docs/results/regimes.md", "docs/howto/monitor.md"

_DEEPER = Finding("periods that reach a lower loss than the one before have smaller gradients than its l", _PERIODS)
_PERCENTILE = Finding(
    "a hundredth of the gradients exceed the percentile that stands for L, and one is enough for a jump", _PERIODS
)

FINDINGS: dict[tuple[str, str], Finding] = {
    ("constant-interval", "cifar-tiny"): Finding(
        "the larger lr wd, the more of what decay takes do gradients give back between break-downs, which delays them",
        _PERIODS,
    ),
    ("fixed-norm-late", "cifar-tiny"): Finding(
        "late in phase B the ELR is at the boundary, where a run of fixed norm is thrown out as well, into regime 2",
        _PERIODS,
    ),
    ("jump-envelope", "cifar-tiny"): _DEEPER,
    ("jump-times", "cifar-tiny"): _PERCENTILE,
    ("growth-in-phase-b", "cifar-tiny"): Finding(
        "phase B takes a third of 1/(lr wd): the ELR doubles in it, and the effective gradient falls by more", _PERIODS
    ),
    ("norm-at-equilibrium", "digits"): Finding(
        "at lr wd 0.03 the norm follows every swing of the gradients, and the formula is the limit of small lr wd",
        _PERIODS,
    ),
    ("jump-envelope", "digits"): _DEEPER,
    ("jump-times", "digits"): _PERCENTILE,
    ("fixed-norm-late", "digits"): Finding(
        "late in phase B the ELR is at the boundary, where a run of fixed norm is thrown out as well", _PERIODS
    ),
    ("gradient-peak", "digits"): Finding(
        "on digits the gradient grows on from the boundary 1/2 to regime 3; on CIFAR-10 it has its peak there", _REGIMES
    ),
    ("trajectories-of-regime-1", "cifar-small"): Finding(
        "its lowest ELRs are 4 to 8 times below the boundary 1/2; those of digits, which share one, 16 to 64 times",
        _REGIMES,
    ),
    ("regime-3", "cifar-small"): Finding(
        "with 5000 images SGD's iterates, minus a gradient's direction, lie below random directions, by the drawn head",
        _REGIMES,
    ),
    ("regime-3", "mnist"): Finding(
        "with 5000 images SGD's iterates, minus a gradient's direction, lie below random directions, as on CIFAR-10",
        _REGIMES,
    ),
    ("equal-ess", "mnist"): Finding(
        "in float32 the gradient of the first convolution is across its weights to 6e-4 only, and the feedback with it",
        _REGIMES,
    ),
    ("rotation-on-raw-pixels", "digits"): Finding(
        "weights of rarely lit pixels hardly turn and carry the norm of the first matrix", _MONITOR
    ),
}


def finding(id: str, scale: str) -> Finding | None:
    """Return what is known of a claim that fails at a scale; ``None``: it should not fail."""
    return FINDINGS.get((id, scale))
