"""The command `scaleinv` with checkpoints as often as they can be written, for tests that kill it.

Spawned workers import this module again under another name, so the constants hold in them as well.
"""

from __future__ import annotations

import math
import sys

from scaleinv.lab import train

train.CHECKPOINT_SECONDS = 0.02
train.CHECKPOINT_SHARE = math.inf

if __name__ == "__main__":
    from scaleinv.cli import run

    sys.exit(run(sys.argv[1:]))
