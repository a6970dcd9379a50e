"""When a run is evaluated."""

from __future__ import annotations


def evaluation_epochs(epochs: int, every: int | None) -> list[int]:
    """Epochs after which the exact metrics are taken: always 0 and the last.

    ``every`` n: each n-th. ``None``: log-spaced, 0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, ... (powers of sqrt 2, rounded).

    >>> evaluation_epochs(20, None)
    [0, 1, 2, 3, 4, 6, 8, 11, 16, 20]
    >>> evaluation_epochs(5, 2)
    [0, 2, 4, 5]
    """
    if every is not None:
        chosen = set(range(0, epochs + 1, every))
    else:
        chosen, k = {0}, 0
        while (epoch := round(2 ** (k / 2))) <= epochs:
            chosen.add(epoch)
            k += 1
    return sorted(chosen | {0, epochs})
