"""Define what counts as zero in double and in single precision."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """Thresholds of the search. All are relative; each stands between rounding and the smallest honest value seen."""

    dtype: torch.dtype
    eps: tuple[float, float]  # eps of norms, and another one: outputs that differ between the two are rounding
    moderate: tuple[float, float] | None  # the same where a constant channel spoils most outputs
    zero: float  # |cos(g, w)|
    dead: float  # |g| |w| against the largest tensor's
    noise: float  # singular values below are all the same
    floor: float  # largest singular value that may be dropped
    gap: float  # kept over dropped
    snap: float  # exponent against the nearest small fraction
    part: float  # sums over slices
    agree: float  # a row by activations against the same row by whole gradients

    @property
    def single(self) -> bool:
        return self.dtype is not torch.float64


#: rounding leaves 1e-13 of a cosine or singular value, real ones are above 1e-6
DOUBLE = Precision(
    torch.float64, (1e-30, 1e-20), (1e-16, 4e-16),
    zero=1e-9, dead=1e-10, noise=1e-11, floor=1e-7, gap=1e3, snap=1e-5, part=1e-9, agree=1e-8,
)  # fmt: skip
#: rounding leaves 1e-8 of a cosine, 1e-9 of a size, 1e-5 of a singular value; what is near that is left to double
SINGLE = Precision(
    torch.float32, (1e-14, 1e-13), None,
    zero=2e-6, dead=1e-7, noise=3e-7, floor=1e-4, gap=30.0, snap=2e-2, part=1e-5, agree=1e-3,
)  # fmt: skip
#: differences of the outputs in float64: 1e-12 of rounding, and a kink within the step here and there
NUMERIC = Precision(
    torch.float64, (1e-30, 1e-20), (1e-16, 4e-16),
    zero=1e-8, dead=1e-10, noise=1e-9, floor=1e-6, gap=1e2, snap=1e-3, part=1e-7, agree=1e-8,
)  # fmt: skip
