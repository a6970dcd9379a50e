"""Build what trains from a config: the network, its groups, the optimizer, the data as the network wants them."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import entering_sizes, rescale_statistics
from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset
from scaleinv.lab.evaluate import Evaluated
from scaleinv.lab.images import Images, as_problem
from scaleinv.lab.models import build_model
from scaleinv.lab.network import make_network, names_of_groups, weights_checksum
from scaleinv.lab.optimizers import law_of_optimizer, make_optimizer
from scaleinv.lab.plain_steps import PlainSteps
from scaleinv.lab.problem import Judge, Problem, Split, judge_of
from scaleinv.lab.random import INIT, REFERENCE, generator
from scaleinv.lab.schedule import parse_schedule, rate_share
from scaleinv.lab.splits import Held
from scaleinv.lab.start import read_start
from scaleinv.runfolder.checkpoint import DamagedCheckpoint, load_weights
from scaleinv.sphere.optimizer import Sphere
from scaleinv.symmetry import find_symmetries
from scaleinv.theory.rates import Law

#: examples on which the size of what enters a BN layer is measured
STATISTICS_EXAMPLES = 256


@dataclass(frozen=True)
class Setup:
    """A network at its start and everything its training needs."""

    config: RunConfig

    problem: Problem
    judge: Judge
    model: nn.Module
    groups: Mapping[str, Sequence[Tensor]]  # scale-invariant tensors, by group
    optimizer: torch.optim.Optimizer
    sphere: Sphere | None  # the same object as optimizer, on the sphere
    train: Any  # a Split; Held unpacks to (inputs, targets)
    test: Any  # None: there is none
    law: Law  # sgd: ELR = rate / rho^2; normalised: rate / rho
    device: torch.device
    base_rates: list[float] = field(default_factory=list)  # of the optimizer's groups, before the schedule
    radius: float = math.nan  # norm of all scale-invariant weights at the start
    started: bool = False  # whether the weights are those of config.start
    plain: PlainSteps | None = None  # steps on the sphere with few calls, where they can be taken so

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Compute the mean loss of a batch."""
        return self.judge.measure(outputs, targets)[0]

    def evaluated(self) -> Evaluated:
        """Return what the exact metrics look at; one batch where the gradient is ``full``."""
        size = None if self.config.gradient == "full" else self.config.batch_size
        given = None if isinstance(self.problem, Images) else self.judge
        return Evaluated(self.model, self.groups, self.loss, self.train, self.test, size, given, self.device)

    def set_rates(self, step: int) -> None:
        """Put the rates of ``step`` into the optimizer; nothing where they never change."""
        config = self.config
        if config.schedule == "constant" and not config.warmup:
            return
        share = rate_share(parse_schedule(config.schedule), step, config.steps, config.warmup)
        for group, base in zip(self.optimizer.param_groups, self.base_rates):
            group["lr"] = base * share

    @torch.no_grad()
    def hold_norm(self, radius: float) -> None:
        """Put the scale-invariant weights back on the sphere of that radius, as one vector."""
        tensors = [t for ts in self.groups.values() for t in ts]
        torch._foreach_mul_(tensors, radius / geometry.norm(tensors))

    def learning_rates(self) -> list[float]:
        """Return the rates that act at the next step: of all scale-invariant weights together, then of every group.

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


def build(
    config: RunConfig,
    source: Dataset | Problem,
    *,
    start: Path | None = None,
    device: torch.device | str | None = None,
) -> Setup:
    """Build a run's parts; equal configs give equal bits. The weights of all runs with one seed start equal.

    - ``source``: a data set of the package, for the network that ``config`` names, or a Problem.
    - ``start``: the file of weights that ``config.start`` names; without it the weights are as drawn, for a run that
      loads a checkpoint of its own anyway.
    - ``device``: which one of ``config.device``'s type.
    """
    place = torch.device(config.device if device is None else device)
    problem = as_problem(config, source)
    model, names = network(config, problem)
    model = model.to(place)
    judge = judge_of(problem)
    train, test = (on_device(problem.split(name), place) for name in ("train", "test"))
    assert train is not None
    if start is not None:
        try:
            load_weights(model, read_start(start, config.start))
        except DamagedCheckpoint as error:
            raise UserError(f"{start} is of another network ({error}); --from takes a run of the same one") from error
    groups = group_tensors(model, names)
    tensors = [t for ts in groups.values() for t in ts]
    by_rows = config.elr is not None and config.granularity == "row"

    def look() -> None:
        inputs, _ = train.batch(slice(0, min(len(train), STATISTICS_EXAMPLES)), place)
        judge.outputs(model, inputs)

    before = None
    if start is not None and (config.radius is not None or by_rows):  # fresh statistics speak of no weights yet
        before = entering_sizes(model, look)
    with torch.no_grad():
        norm = geometry.norm(tensors)
        radius = float(norm) if config.radius is None else config.radius
        if config.radius is not None:
            torch._foreach_mul_(tensors, radius / norm)
    wrapped = {id(t) for t in tensors}
    others = [p for p in model.parameters() if id(p) not in wrapped]
    rate = config.lr if config.lr is not None else 0.0
    other_rate = rate if config.other_lr is None else config.other_lr
    for p in others:
        p.requires_grad_(p.requires_grad and other_rate > 0)
    others = [p for p in others if p.requires_grad]
    plans: list[dict[str, object]] = [{"params": tensors, "lr": rate, "weight_decay": config.weight_decay}]
    if others:
        plans.append({"params": others, "lr": other_rate, "weight_decay": config.weight_decay})
    optimizer: torch.optim.Optimizer = make_optimizer(config, plans, rate)
    law = law_of_optimizer(config, optimizer)
    sphere = None
    if config.elr is not None:
        at: dict[str, Any] = {"granularity": config.granularity, "law": law, "projection": "literal"}
        optimizer = sphere = Sphere(optimizer, groups, config.elr, **at)
    if before is not None:
        rescale_statistics(model, look, before)
    return Setup(
        config=config,
        problem=problem,
        judge=judge,
        model=model,
        groups=groups,
        optimizer=optimizer,
        sphere=sphere,
        train=train,
        test=test,
        law=law,
        device=place,
        base_rates=[float(group["lr"]) for group in optimizer.param_groups],
        radius=radius,
        started=start is not None,
        plain=PlainSteps(sphere) if sphere is not None and PlainSteps.suit(sphere) else None,
    )


def network(config: RunConfig, problem: Problem) -> tuple[nn.Module, tuple[tuple[str, ...], ...]]:
    """Make the network at its start and name the tensors of every scale-invariant group."""
    if isinstance(problem, Images):
        model = problem.model(generator(config.seed, INIT))
        shape, classes = problem.dataset.in_shape, problem.dataset.classes
        return model, group_names(config.model, config.variant, config.normalization, shape, classes)
    model = make_network(problem, config.seed, config.variant, config.head_norm)
    if config.weights is not None and weights_checksum(model) != config.weights:
        raise UserError(
            f"the model of {config.problem} starts with other weights than when the run was made: its code has "
            "changed, which is another run; choose another --out"
        )
    return model, names_of_groups(problem, model, config.variant).names


def on_device(split: Split | None, device: torch.device) -> Split | None:
    """Have what is held in memory lie on the device."""
    return split.to(device) if isinstance(split, Held) and device.type != "cpu" else split


def reference_generator(config: RunConfig, step: int) -> torch.Generator:
    """Make the generator of the random directions that set the level of regime 3 at a step, one for all of a seed."""
    return generator(config.seed, REFERENCE, step)


_TWIN_WIDTH, _TWIN_SIDE, _TWIN_BATCH = 4, 16, 12


@functools.cache
def group_names(
    model: str, variant: str, norm: str, in_shape: tuple[int, int, int], classes: int
) -> tuple[tuple[str, ...], ...]:
    """Name the tensors of every scale-invariant group of weight matrices, in the order of use; each in one group.

    Groups of norm gains and biases alone are left out: rho of the papers counts weight matrices.

    >>> group_names("mlp", "si", "batch", (1, 8, 8), 10)
    (('layers.0.weight',), ('layers.1.weight',), ('layers.2.weight',))
    """
    twin_shape = in_shape if model == "mlp" else (in_shape[0], *(min(side, _TWIN_SIDE) for side in in_shape[1:]))
    generator = torch.Generator().manual_seed(0)
    twin = build_model(
        model, variant=variant, in_shape=twin_shape, classes=classes, width=_TWIN_WIDTH, norm=norm, generator=generator
    )
    inputs = torch.randn(_TWIN_BATCH, *twin_shape, generator=generator, device="cpu")
    found = find_symmetries(twin, inputs, defect=False)
    if found.verdict != "clear":
        raise UserError(f"the scale-invariant weights of {model} ({variant}, {norm} norm): {found.headline()}")
    return tuple(tensors for _, tensors in found.groups)


def group_tensors(network: nn.Module, names: tuple[tuple[str, ...], ...]) -> dict[str, tuple[Tensor, ...]]:
    """Return the groups as tensors of ``network``; a group is named after its tensors, joined by ``+``."""
    if not names:
        raise UserError("the network has no scale-invariant weights, so there is no sphere to train on")
    parameters = dict(network.named_parameters())
    return {"+".join(group): tuple(parameters[name] for name in group) for group in names}
