"""Keep memory that training has freed with the process.

Every step allocates and frees the same activations. By default the C library gives large pieces back to the system at
once, and gets them anew page by page: a quarter to a half of the processor's time for images of CIFAR-10's size
(``benchmarks/freed_memory.py``).
"""

import ctypes
import functools
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_TOP, _PIECE = 2**30, 2**25  # bytes; 2^25 is the most that may be asked for


@functools.cache
def keep_freed_memory() -> None:
    """Keep it from now on, where the C library is glibc; elsewhere nothing happens. No number depends on it.

    >>> keep_freed_memory()
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _PIECE)
        mallopt(_TRIM_THRESHOLD, _TOP)
