"""The networks and data sets that come with the package, as a Problem like anybody's own."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset, augment
from scaleinv.lab.losses import get_loss
from scaleinv.lab.models import build_model
from scaleinv.lab.problem import Judge, Measured, Problem, SplitName, class_errors, plain_judge
from scaleinv.lab.random import HEAD, generator
from scaleinv.lab.splits import Held


class Images:
    """A network of the package on one of its data sets, as a run's config says."""

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        self.config, self.dataset = config, lay_out(dataset, config.model)
        self.name, self.fingerprint = dataset.name, dataset.fingerprint
        self.chance_error, self.constant_loss = config.chance_error, config.constant_loss
        self.judge: Judge = plain_judge(get_loss(config.loss))

    def model(self, generator_: torch.Generator) -> nn.Module:
        """Build the network; the head is drawn from a stream of its own, so that it is one for all widths."""
        config = self.config
        model = build_model(
            config.model,
            variant=config.variant,
            in_shape=self.dataset.in_shape,
            classes=self.dataset.classes,
            width=config.width,
            head_norm=config.head_norm,
            norm=config.normalization,
            norm_eps=config.norm_eps,
            generator=generator_,
            head_generator=generator(config.seed, HEAD),
        )
        return model if config.model == "mlp" else model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def split(self, name: SplitName) -> Held:
        """Give the images and labels; there may be no test images."""
        if name == "train":
            return Held(self.dataset.train_images, self.dataset.train_labels)
        return Held(self.dataset.test_images, self.dataset.test_labels)

    def augmented(self, images: Tensor, number: int) -> Tensor:
        """Crop and flip a batch at random; ``number``: of the batch, every one has a draw of its own."""
        return augment(images, seed=self.config.seed, step=number, pad_value=self.dataset.pad_value)

    def call(self, model: nn.Module, inputs: Any) -> Any:
        """Give the logits."""
        return model(inputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Measured:
        """Give (sum, images)."""
        mean, count = self.judge.measure(outputs, targets)
        return mean * count, count

    def error(self, outputs: Tensor, targets: Tensor) -> Measured:
        """Give (wrong answers, images)."""
        return class_errors(outputs, targets)


def lay_out(dataset: Dataset, model: str) -> Dataset:
    """Bring the data set into the memory format the network is fastest with; no copy where it has it already."""
    if model == "mlp":
        return dataset
    names = ("train_images", "test_images")
    images = {name: getattr(dataset, name).contiguous(memory_format=torch.channels_last) for name in names}
    return dataclasses.replace(dataset, **images)


def as_problem(config: RunConfig, source: Dataset | Problem) -> Problem:
    """Join a data set of the package with the network its config names; a Problem is one already."""
    return Images(config, source) if isinstance(source, Dataset) else source
