"""Measure the loss of the best constant answer, where it is not known."""

import math
from typing import Any

import torch
from torch import Tensor

from scaleinv.lab.global_random import PASS, seeded
from scaleinv.lab.problem import Problem
from scaleinv.lab.splits import examples_in

#: examples whose targets decide it at most
MOST = 4096


def constant_level(problem: Problem, outputs: Any) -> float | None:
    """Find the loss of the best answer that ignores the input; None where no constant can be an answer.

    The constant has the form of the network's output for one example (``outputs``: of some), and minimises the mean
    loss over the targets of the first ``MOST`` examples, in float64 by L-BFGS from 0.
    """
    train = problem.split("train")
    if problem.constant_loss is not None or not isinstance(outputs, Tensor) or outputs.ndim < 1 or train is None:
        return problem.constant_loss
    with seeded(0, PASS, 2):
        _, targets = train.batch(torch.arange(min(MOST, len(train)), device="cpu"), torch.device("cpu"))
    count, shape = examples_in(targets), outputs.shape[1:]
    if isinstance(targets, Tensor) and targets.is_floating_point():
        targets = targets.double()
    constant = torch.zeros(1, *shape, dtype=torch.float64, device="cpu", requires_grad=True)
    search = torch.optim.LBFGS([constant], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def mean() -> Tensor:
        total, weight = problem.loss(constant.expand(count, *shape), targets)
        return total / weight

    def closure() -> Tensor:
        search.zero_grad()
        value = mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    try:
        with torch.enable_grad():
            search.step(closure)  # type: ignore[no-untyped-call]
        level = float(mean().detach())
    except Exception:  # a loss that takes no such outputs has no constant answer
        return None
    return level if math.isfinite(level) and level > 0 else None
