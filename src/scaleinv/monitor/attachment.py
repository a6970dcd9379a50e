"""How a monitor hangs on its optimizers: the two hooks of ``optimizer.step``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer


class Hook:
    """What an optimizer holds of a monitor. A copy of the optimizer, deep or pickled, gets a hook that does nothing."""

    def __init__(self, call: Callable[..., Any] | None) -> None:
        self.call = call

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        return None if self.call is None else self.call(args, kwargs)

    def __deepcopy__(self, memo: Any) -> Hook:
        return Hook(None)

    def __reduce__(self) -> Any:
        return Hook, (None,)


def attach(
    optimizers: Sequence[Optimizer], before: Callable[[int, Any, Any], Any], after: Callable[[int], Any]
) -> list[Any]:
    """Hook ``before(index, args, kwargs)`` and ``after(index)`` to every step; the handles that take them off again."""
    handles: list[Any] = []
    for i, one in enumerate(optimizers):
        first = Hook(lambda args, kwargs, i=i: before(i, args, kwargs))
        last = Hook(lambda args, kwargs, i=i: after(i))
        handles += [one.register_step_pre_hook(first), one.register_step_post_hook(last)]
    return handles
