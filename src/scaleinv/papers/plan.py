"""What checks would cost here: every run they ask for, from some measured steps of each kind of run.

A check decides as it goes what it trains next: a re-training starts from a run it asked for before. So a plan carries
the check out on placeholders, short runs on a handful of images, and writes down what is asked for. What a check
asks for only after it has seen something in a run, such as checkpoints of its longest phases B, is not foreseen: its
plan says "at least". A check that trains without run folders is not foreseen at all.

A run of S steps and E evaluations on N train and M test images takes S s + E (N a + M b) seconds: ``s`` a step, ``a``
the exact metrics of a train image (0 with ``evaluation="online"``), ``b`` a test image; all three are measured.
"""

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scaleinv.lab.build import build
from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset
from scaleinv.lab.data.source import find
from scaleinv.lab.evaluate import evaluation_epochs, exact_metrics, test_rows
from scaleinv.lab.images import Images
from scaleinv.lab.memory import keep_freed_memory
from scaleinv.lab.train import recorder_of, run, train_step
from scaleinv.papers.claim import Claim, Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.scales import Scale, data_of
from scaleinv.studies.obtain import Request, dataset_of, job_of

#: steps that are timed, after some that are not
TIMED, FIRST = 20, 3
#: test images that are timed
TESTED = 500
#: a placeholder: steps, batch size, width of its network, images of its train and test sets
SHORT, SMALL, NARROW, FEW = 24, 4, 4, 32
#: what makes no difference to the time of a step
_NO_MATTER = (
    "epochs",
    "steps",
    "keep_every",
    "eval_every",
    "norm",
    "weight_decay",
    "schedule",
    "warmup",
    "label_noise",
)


class NotForeseen(Exception):
    """What a check will train cannot be said before it has trained."""


@dataclass(frozen=True)
class RunPace:
    """Seconds, on one thread: of a step, of the exact metrics of a train image, of a test image."""

    step: float
    train_image: float
    test_image: float

    def seconds(self, config: RunConfig, dataset: Dataset) -> float:
        """Compute how long the whole run takes.

        >>> import types
        >>> four = types.SimpleNamespace(steps=8, eval_every=2, gradient="batch", batch_size=5, evaluation="online")
        >>> images = types.SimpleNamespace(train_labels=range(10), test_labels=range(100))
        >>> RunPace(1.0, 1.0, 0.01).seconds(four, images)  # 8 steps, and tests after epochs 0, 2, 4
        11.0
        """
        n, m = len(dataset.train_labels), len(dataset.test_labels)
        per_epoch = 1 if config.gradient != "batch" else math.ceil(n / config.batch_size)
        evaluations = len(evaluation_epochs(math.ceil(config.steps / per_epoch), config.eval_every))
        exact = n * self.train_image if config.evaluation == "exact" else 0.0
        return config.steps * self.step + evaluations * (exact + m * self.test_image)


@dataclass(frozen=True)
class Planned:
    """What a claim would train here. ``runs`` and ``steps``: those that no claim before it in the plan asked for.

    ``shared``: runs that one did. ``why``: why there may be more, or "".
    """

    id: str
    scale: Scale
    runs: int
    shared: int
    steps: int
    seconds: float
    declared: float  # core-seconds of the catalogue
    why: str


@dataclass(frozen=True)
class _Cost:
    steps: int
    seconds: float


@dataclass(frozen=True)
class PlanContext(Context):
    """A context that trains placeholders and writes down what was asked for."""

    paces: dict[str, RunPace] = field(default_factory=dict, compare=False)  # by kind of run, of all claims of the plan
    asked: dict[str, _Cost] = field(default_factory=dict, compare=False)  # by request, of this claim

    def folders(self, requests: Sequence[Request]) -> list[Path]:
        """Write the requests down; return folders of placeholders."""
        return [self._placeholder(request) for request in requests]

    def seed(self, seed: int) -> int:
        """Raise :class:`NotForeseen`: a check asks for a seed where it trains by itself."""
        raise NotForeseen("it trains without run folders")

    def _placeholder(self, request: Request) -> Path:
        dataset = dataset_of(request.settings)
        if repr(request) not in self.asked:
            # where it starts makes no difference to its time
            fresh = dataclasses.replace(request, start=None, start_epoch=None)
            config = job_of(self.root, fresh, dataset, self.device).config
            self.asked[repr(request)] = _Cost(config.steps, self._pace(request, dataset).seconds(config, dataset))
        return self._short(request, dataset)

    def _pace(self, request: Request, dataset: Dataset) -> RunPace:
        kind = repr(sorted((k, v) for k, v in vars(request.settings).items() if k not in _NO_MATTER))
        if kind not in self.paces:
            self.paces[kind] = measure(request, dataset, self.device)
        return self.paces[kind]

    def _short(self, request: Request, dataset: Dataset) -> Path:
        """Train a placeholder: a narrow network on a few images, every epoch evaluated and kept."""
        few = cut(dataset, FEW, FEW)
        changed: dict[str, Any] = {"steps": SHORT, "batch_size": SMALL, "width": NARROW, "subset": None, "epochs": None}
        changed |= {"schedule": "constant", "warmup": 0, "label_noise": 0.0, "eval_every": 1, "keep_every": 1}
        small = dataclasses.replace(
            request, settings=dataclasses.replace(request.settings, **changed), start_epoch=None
        )
        job = job_of(self.root, small, few, self.device)
        run(job.config, few, job.folder, start=job.start, origin=job.origin, device=self.device)
        return job.folder


def cut(dataset: Dataset, train: int, test: int) -> Dataset:
    """Return a data set of the first so many images, under a fingerprint of its own."""
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:train],
        train_labels=dataset.train_labels[:train],
        test_images=dataset.test_images[:test],
        test_labels=dataset.test_labels[:test],
        fingerprint=f"{dataset.fingerprint[:32]}-first-{train}-{test}",
    )


def measure(request: Request, dataset: Dataset, device: str = "cpu") -> RunPace:
    """Time the median step of a run, and its metrics, on one thread."""
    changed: dict[str, Any] = {"epochs": None, "steps": FIRST + TIMED, "schedule": "constant", "warmup": 0}
    asked = dataclasses.replace(
        request, settings=dataclasses.replace(request.settings, **changed), start=None, start_epoch=None
    )
    whole = job_of(Path(), asked, dataset, device).config
    whole_set = whole.gradient != "batch"
    few = cut(dataset, len(dataset.train_labels) if whole_set else whole.steps * whole.batch_size, TESTED)
    config = job_of(Path(), asked, few, device).config
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        setup = build(config, few, device=device)
        setup.model.train()
        recorder = recorder_of(setup, config.steps)
        parts_of = [[cut] for cut in setup.evaluated().batches()]
        if whole_set:
            parts_of = [[one for step in parts_of for one in step]]
        times = []
        for number in range(FIRST + TIMED):
            begin = _now(device)
            parts = [setup.train.batch(part) for part in parts_of[number % len(parts_of)]]
            if config.augment and isinstance(setup.problem, Images):
                parts = [(setup.problem.augmented(inputs, number), targets) for inputs, targets in parts]
            train_step(setup, recorder, parts, setup.radius if config.fix_norm else None)
            times.append(_now(device) - begin)
        what = setup.evaluated()
        where: dict[str, Any] = {"step": 0, "epoch": 0, "recompute_bn": False}
        tests = _timed(lambda: test_rows(what, **where), device) if len(few.test_labels) else 0.0
        train_image = 0.0
        if config.evaluation == "exact":
            rates = setup.learning_rates()
            both = _timed(lambda: exact_metrics(what, rates, law=setup.law, **where), device)
            train_image = max(0.0, both - tests) / len(few.train_labels)
    finally:
        torch.set_num_threads(threads)
    return RunPace(statistics.median(times[FIRST:]), train_image, tests / max(1, len(few.test_labels)))


def _timed(act: Callable[[], object], device: str) -> float:
    begin = _now(device)
    act()
    return _now(device) - begin


def _now(device: str) -> float:
    """Read the clock once the device has done what it was given."""
    if not device.startswith("cpu"):
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def plan(
    chosen: Sequence[tuple[Claim, Scale]],
    *,
    device: str = "cpu",
    ended: Callable[[Planned], None] = lambda one: None,
) -> list[Planned]:
    """Plan every claim at its scale, in the order given; a run that several ask for counts for the first of them.

    Raises :class:`UserError` where a data set is needed that is not there.
    """
    for name in sorted({data for _, scale in chosen if (data := data_of(scale)) is not None}):
        find(name)
    found: list[Planned] = []
    paces: dict[str, RunPace] = {}
    seen: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="scaleinv-plan-") as root:
        for claim, scale in chosen:
            context = PlanContext(scale, Path(root), device=device, paces=paces)
            why = _foresee(claim, context)
            new = [cost for key, cost in context.asked.items() if key not in seen]
            seen.update(context.asked)
            one = Planned(
                claim.id,
                scale,
                runs=len(new),
                shared=len(context.asked) - len(new),
                steps=sum(cost.steps for cost in new),
                seconds=sum(cost.seconds for cost in new),
                declared=claim.scales[scale],
                why=why,
            )
            found.append(one)
            ended(one)
    return found


def _foresee(claim: Claim, context: PlanContext) -> str:
    """Carry the check out on placeholders; say why its plan may lack runs, or ""."""
    sheet = Sheet()
    try:
        claim.fill(sheet, context)
    except NotForeseen as why:
        return str(why)
    except Exception:  # placeholders have no minima, no regimes, no periods: a check may stop anywhere
        return _MORE
    return _MORE if set(sheet.verdicts) - set(sheet.measured) else ""  # it said that something is missing


_MORE = "it may train more, by what it finds in these runs"
