"""From a config to what trains: the network, its groups, the optimizer, the data as the network wants them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset
from scaleinv.lab.groups import group_names, group_tensors
from scaleinv.lab.losses import Loss, get_loss
from scaleinv.lab.models import build_model
from scaleinv.sphere import Sphere

#: what a random stream is for; a number once used keeps its meaning
_INIT, _HEAD, _REFERENCE = 1, 2, 3


def generator(seed: int, *purpose: int) -> torch.Generator:
    """A generator whose stream depends on (seed, purpose) alone; no two share one."""
    state = np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


@dataclass(frozen=True)
class Setup:
    """A network at its start and everything its training needs."""

    model: nn.Module
    groups: Mapping[str, Sequence[Tensor]]  # scale-invariant tensors, by group
    optimizer: torch.optim.Optimizer
    sphere: Sphere | None  # the same object as optimizer, on the sphere
    loss: Loss
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def learning_rates(self) -> list[float]:
        """The rates that act at the next step: of all scale-invariant weights together, then of every group.

        ELR = rate / rho^2. The first is NaN where the groups lie on spheres of their own and have rates of their own.
        """
        if self.sphere is None:
            rate = float(self.optimizer.param_groups[0]["lr"])
        elif self.sphere.granularity == "total":
            rate = self.sphere.learning_rate(0, self.sphere.elr)
        else:
            elr = self.sphere.elr
            return [math.nan] + [self.sphere.learning_rate(i, elr) for i in range(len(self.groups))]
        return [rate] * (1 + len(self.groups))


def lay_out(dataset: Dataset, model: str) -> Dataset:
    """The data set in the memory format the network is fastest with; no copy where it has it already."""
    if model == "mlp":
        return dataset
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images.contiguous(memory_format=torch.channels_last),
        test_images=dataset.test_images.contiguous(memory_format=torch.channels_last),
    )


def build(config: RunConfig, dataset: Dataset) -> Setup:
    """Build a run's parts; equal configs give equal bits. The weights of all runs with one seed start equal."""
    model = build_model(
        config.model,
        variant=config.variant,
        in_shape=dataset.in_shape,
        classes=dataset.classes,
        width=config.width,
        head_norm=config.head_norm,
        norm=config.norm,
        norm_eps=config.norm_eps,
        generator=generator(config.seed, _INIT),
        head_generator=generator(config.seed, _HEAD),
    )
    dataset = lay_out(dataset, config.model)
    if config.model != "mlp":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    names = group_names(config.model, config.variant, config.norm, dataset.in_shape, dataset.classes)
    groups = group_tensors(model, names)
    wrapped = {id(t) for tensors in groups.values() for t in tensors}
    others = [p for p in model.parameters() if id(p) not in wrapped]
    rate = config.lr if config.lr is not None else 0.0
    other_rate = rate if config.other_lr is None else config.other_lr
    for p in others:
        p.requires_grad_(p.requires_grad and other_rate > 0)
    others = [p for p in others if p.requires_grad]
    plans: list[dict[str, object]] = [
        {"params": [t for ts in groups.values() for t in ts], "lr": rate, "weight_decay": config.weight_decay}
    ]
    if others:
        plans.append({"params": others, "lr": other_rate, "weight_decay": config.weight_decay})
    optimizer: torch.optim.Optimizer = torch.optim.SGD(plans, lr=rate, momentum=config.momentum, foreach=True)
    sphere = None
    if config.elr is not None:
        optimizer = sphere = Sphere(optimizer, groups, config.elr, granularity=config.granularity)
    return Setup(
        model=model,
        groups=groups,
        optimizer=optimizer,
        sphere=sphere,
        loss=get_loss(config.loss),
        train=(dataset.train_images, dataset.train_labels),
        test=(dataset.test_images, dataset.test_labels),
    )


def reference_generator(config: RunConfig, step: int) -> torch.Generator:
    """For the random directions that set the level of regime 3 at a step: shared by all runs of a seed."""
    return generator(config.seed, _REFERENCE, step)
