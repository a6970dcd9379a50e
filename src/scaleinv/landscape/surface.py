"""The loss of one network on one data set as a function of its weights: what every analysis of this room looks at.

Batches are fixed: the images in order, cut at ``batch_size``. With batch norm the loss of a batch depends on all its
images, so the train loss is by definition ``L(x) = sum_b n_b/N L_b(x)`` over these batches, in train mode (as in the
released code of Kodryan et al. 2022), and gradients and Hessians are those of this L. ``batch_size=None`` makes the
whole set one batch: the loss of full-batch gradient descent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import fresh_bn_statistics, mode
from scaleinv.lab.build import Setup
from scaleinv.lab.evaluate import Evaluated, test_metrics

#: the state of a network by name, parameters and buffers, as ``state_dict()`` gives it
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Surface(Evaluated):
    """A network, its scale-invariant tensors by group, its loss and its data. No function of this room changes it.

    >>> from scaleinv.lab.data import load_dataset
    >>> from scaleinv.lab.build import group_names, group_tensors
    >>> from scaleinv.lab.losses import get_loss
    >>> from scaleinv.lab.models import build_model
    >>> data = load_dataset("digits", subset=64)
    >>> draw = torch.Generator().manual_seed(0)
    >>> net = build_model("mlp", classes=data.classes, in_shape=data.in_shape, width=8, generator=draw)
    >>> groups = group_tensors(net, group_names("mlp", "si", "batch", data.in_shape, 10))
    >>> train, test = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    >>> surface = Surface(net, groups, get_loss("ce"), train, test, batch_size=16)
    >>> len(surface.batches())
    4
    >>> values(surface).train_error > 0.5
    True
    """

    @classmethod
    def of_setup(cls, setup: Setup, batch_size: int | None) -> Surface:
        """The surface a run of the lab moves on; ``batch_size`` is that of its config."""
        return cls(setup.model, setup.groups, setup.loss, setup.train, setup.test, batch_size)

    @property
    def names(self) -> list[str]:
        """The names of :attr:`tensors` in the network's state."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return [names[id(t)] for t in self.tensors]

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's present state."""
        return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def point(self, weights: Weights) -> list[Tensor]:
        """The scale-invariant tensors among ``weights``, in float64."""
        self.check(weights)
        return [weights[name].detach().double() for name in self.names]

    def radius(self, weights: Weights) -> float:
        """rho, the norm of all scale-invariant weights together."""
        return float(geometry.norm(self.point(weights)))

    def on_sphere(self, weights: Weights, radius: float) -> dict[str, Tensor]:
        """The weights with the scale-invariant ones scaled by one factor to the norm ``radius``; the rest as it is."""
        rho = self.radius(weights)
        if not rho > 0:
            raise UserError(f"weights of norm {rho} have no direction, so they cannot be put on a sphere")
        factor = radius / rho
        scaled = {name: (weights[name].double() * factor).to(weights[name].dtype) for name in self.names}
        return {**weights, **scaled}

    def check(self, weights: Weights) -> None:
        """Refuse the weights of another network."""
        own = {name: t.shape for name, t in self.model.state_dict().items()}
        if own != {name: t.shape for name, t in weights.items()}:
            odd = sorted(set(own) ^ set(weights)) or [n for n in own if own[n] != weights[n].shape]
            raise UserError(f"these are the weights of another network ({odd[0]} differs); give runs of one network")

    @contextmanager
    def at(self, weights: Weights | None = None) -> Iterator[None]:
        """Give the network these weights within (``None``: its own), in train mode; only x requires gradients.

        Afterwards everything is as it was, bit for bit: weights, buffers, modes, ``requires_grad``.
        """
        model = self.model
        held = [*model.parameters(), *model.buffers()]
        kept = [t.detach().clone(memory_format=torch.preserve_format) for t in held]
        wanted = {id(t) for t in self.tensors}
        asked = [(p, p.requires_grad) for p in model.parameters()]
        if weights is not None:
            self.check(weights)
        try:
            with torch.no_grad():
                own = model.state_dict()
                for name, value in (weights or {}).items():
                    own[name].copy_(value)
            for p, _ in asked:
                p.requires_grad_(id(p) in wanted)
            with mode(model, True):
                yield
        finally:
            with torch.no_grad():
                for t, value in zip(held, kept):
                    t.copy_(value)
            for p, flag in asked:
                p.requires_grad_(flag)


@dataclass(frozen=True)
class Values:
    """Losses (in the loss's unit) and error fractions at one point."""

    train_loss: float  # train mode, fixed batches
    train_error: float
    test_loss: float  # eval mode; NaN without test images
    test_error: float


def values(surface: Surface, weights: Weights | None = None, *, recompute_bn: bool = True) -> Values:
    """Measure losses and errors at ``weights``; one forward pass over the train set and one over the test set.

    The same train pass recomputes the BN statistics (their average over the batches) that the test pass uses, unless
    ``recompute_bn=False`` asks for the running statistics among the weights, as the papers'
    released code has it for the test error.
    """
    images, labels = surface.test
    with surface.at(weights), torch.no_grad():
        if not recompute_bn:
            test = test_metrics(surface.model, images, labels, surface.loss)
        with fresh_bn_statistics(surface.model):
            total, wrong, count = 0.0, 0, 0
            for x, y, share in surface.parts():
                logits = surface.model(x)
                total += share * float(surface.loss(logits, y))
                wrong += int((logits.argmax(1) != y).sum())
                count += len(y)
            if recompute_bn:
                test = test_metrics(surface.model, images, labels, surface.loss)
    return Values(total, wrong / count, *test)
