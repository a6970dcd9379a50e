"""Worker processes that do not outlive the process they work for."""

from __future__ import annotations

import multiprocessing as mp
import os
import threading
from multiprocessing.connection import wait


def leave_with_parent() -> None:
    """To call in a worker: end it as soon as its parent is gone, however that went (nothing is told by SIGKILL)."""
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
