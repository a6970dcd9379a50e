"""Train one run from wherever it stopped to its horizon, bit for bit as if it had never stopped."""

import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaleinv.errors import StateError, UserError
from scaleinv.geometry import all_finite
from scaleinv.lab.build import Setup, build, reference_generator
from scaleinv.lab.config import RunConfig, check, present_config
from scaleinv.lab.data import Dataset, batches
from scaleinv.lab.devices import reproducible
from scaleinv.lab.evaluate import evaluation_epochs, exact_metrics, test_rows
from scaleinv.lab.first_loss import stored_task
from scaleinv.lab.global_random import FIRST_PASS, PASS, READ, STEP, kept_generators, seed_all, seed_torch
from scaleinv.lab.images import Images
from scaleinv.lab.levels import limit_rows, reference_rows, shared_rows
from scaleinv.lab.memory import keep_freed_memory, require_memory
from scaleinv.lab.problem import Judge, Problem
from scaleinv.lab.random import TRANSFORM, generator
from scaleinv.lab.read_ahead import ahead
from scaleinv.lab.recorder import BatchCounts, StepRecorder
from scaleinv.lab.similarity import EpochSimilarity
from scaleinv.lab.splits import Held, Streamed, examples_in
from scaleinv.lab.start import Start
from scaleinv.runfolder.checkpoint import DamagedCheckpoint, load_weights
from scaleinv.runfolder.environment import environment, other_hardware
from scaleinv.runfolder.files import Busy
from scaleinv.runfolder.progress import Progress, read_progress
from scaleinv.runfolder.rows import Row
from scaleinv.runfolder.seal import rewrite_sealed
from scaleinv.runfolder.store import RunStore
from scaleinv.runfolder.threads import check_openmp
from scaleinv.runfolder.write import read_result, recorded_environment
from scaleinv.text import visible

#: seconds between checkpoints: what a kill costs at most (besides the step or evaluation it interrupts) ...
CHECKPOINT_SECONDS = 4.0
#: ... unless writing them would take more than this share of the time
CHECKPOINT_SHARE = 0.05
#: seconds for which the numbers of short epochs wait for each other: made together they cost less
EPOCHS_WAIT = 0.1
#: examples whose order is drawn at a time: that of several small epochs
DRAWN = 2**14
#: seconds within which a process that is about to end leaves a run
_SOON = 5.0
_log = logging.getLogger("scaleinv")
#: a train error of at least this share of the error of guessing may become that of regime 3
GUESSING = 0.75


class Stopped(Exception):
    """A run was asked to stop before its end; its checkpoint holds the step of the message."""


@dataclass(frozen=True)
class RunEvent:
    """Something a watcher may want to show; never part of the results."""

    kind: str  # resumed | epoch | ended | notice
    step: int
    steps: int  # the horizon
    epoch: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


#: inputs and targets
Batch = tuple[Any, Any]


def train_step(setup: Setup, recorder: StepRecorder, parts: Sequence[Batch], radius: float | None = None) -> None:
    """Make one step on the mean gradient of ``parts`` (one batch, or the batches whose gradients accumulate), recorded.

    ``radius``: put the scale-invariant weights back to that norm. Raises :class:`StateError` where the sphere has no
    next step.
    """
    judge, model = setup.judge, setup.model
    plain = setup.plain
    if plain is None:
        setup.optimizer.zero_grad(set_to_none=True)
    else:
        plain.clear()
    if len(parts) == 1:
        inputs, targets = parts[0]
        outputs = model(inputs) if judge.call is None else judge.call(model, inputs)
        loss, weight = judge.measure(outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        mean, answers = loss.detach(), [_answer(judge, outputs, targets, weight)]
    else:
        mean, answers = _accumulate(setup, parts)
    rates = setup.learning_rates()
    recorder.before_step(mean, answers)
    if plain is None or not plain.take(rates[0], recorder.gradient_square()):
        setup.optimizer.step()
    if radius is not None:
        setup.hold_norm(radius)
    recorder.after_step(rates)


def _answer(judge: Judge, outputs: Any, targets: Any, weight: Tensor | float) -> Any:
    """What the recorder is told of a batch: plain logits and labels wait, all else is counted at once."""
    if judge.classes:
        return outputs.detach(), targets
    with torch.no_grad():
        error = judge.wrong(outputs, targets)
    return BatchCounts(weight, None, 0.0) if error is None else BatchCounts(weight, error[0].detach(), error[1])


def _accumulate(setup: Setup, parts: Sequence[Batch]) -> tuple[Tensor, list[Any]]:
    """Add up the gradients of several batches to that of their common mean; return the mean loss."""
    judge = setup.judge
    total = sum(examples_in(targets) for _, targets in parts)
    losses, weights, answers = [], [], []
    for inputs, targets in parts:
        outputs = judge.outputs(setup.model, inputs)
        loss, weight = judge.measure(outputs, targets)
        # the share of the batch; of a weight that is not the number of examples it is known after the last one
        scaled = loss * (len(targets) / total) if judge.classes else loss * weight
        scaled.backward()  # type: ignore[no-untyped-call]
        losses.append(scaled.detach())
        weights.append(weight)
        answers.append(_answer(judge, outputs, targets, weight))
    mean = torch.stack(losses).sum()
    if not judge.classes:
        whole = sum(weights)
        mean = mean / whole
        for p in setup.model.parameters():
            if p.grad is not None:
                p.grad.div_(whole)
    return mean, answers


def recorder_of(setup: Setup, capacity: int) -> StepRecorder:
    """Make the recorder that suits the optimizer of ``setup``; ``capacity``: steps of the longest epoch."""
    config = setup.config
    one_factor = config.elr is None or config.granularity == "total"  # what brings the weights back to the sphere
    plain = config.optimizer == "sgd" and not config.momentum and one_factor
    decay = config.weight_decay if plain else None
    return StepRecorder(setup.groups, capacity, law=setup.law, keep_steps=config.record_steps, plain_decay=decay)


class _Run:
    """The loop's state between its steps."""

    def __init__(
        self,
        config: RunConfig,
        source: Dataset | Problem,
        setup: Setup,
        store: RunStore,
        watch: Callable[[RunEvent], None],
        stop: Callable[[], bool],
    ) -> None:
        self.config, self.source, self.setup, self.store = config, source, setup, store
        self.watch, self.stop = watch, stop
        self.progress = Progress(store.folder, config.steps)
        self.count = len(setup.train)
        self.orders: dict[int, list[Tensor]] = {}  # the batches of this and the next epochs
        self.per_epoch = len(self.steps_of(0))
        self.radius = setup.radius if config.fix_norm else None
        self.recorder = recorder_of(setup, min(self.per_epoch, config.steps))
        self.similarity = EpochSimilarity(setup.groups, keep_start=config.start is not None)
        self.epochs = math.ceil(config.steps / self.per_epoch)
        self.evaluated = set(evaluation_epochs(self.epochs, config.eval_every))
        self.step, self.status, self.message = 0, "", ""
        self.next_save = time.monotonic() + CHECKPOINT_SECONDS
        #: of every epoch that has ended since :meth:`take_epochs` how it stands to others, by step and epoch
        self.ended: list[tuple[int, int, list[Row]]] = []
        self.next_told = time.monotonic()

    def steps_of(self, epoch: int) -> list[list[Tensor]]:
        """For every step of the epoch the batches, as indices, whose mean gradient it takes."""
        config = self.config
        if config.gradient == "full":
            return [[torch.arange(self.count, device="cpu")]]
        if epoch not in self.orders:
            draw = functools.partial(batches, self.count, config.batch_size, seed=config.seed)
            self.orders = {k: draw(epoch=k) for k in range(epoch, epoch + max(1, DRAWN // self.count))}
        order = self.orders[epoch]
        return [order] if config.gradient == "accumulate" else [[batch] for batch in order]

    def read(self, indices: Sequence[Tensor]) -> list[Batch]:
        """Read the batches of the present step; every batch has draws of its own."""
        setup, config = self.setup, self.config
        own, number = isinstance(setup.problem, Images), self.step * len(indices)
        parts: list[Batch] = []
        for k, batch in enumerate(indices, number):
            if own:
                inputs, targets = setup.train.batch(batch)
                parts.append((setup.problem.augmented(inputs, k) if config.augment else inputs, targets))  # type: ignore[attr-defined]
            else:
                draw = generator(config.seed, TRANSFORM, k)
                if not isinstance(setup.train, Held):
                    seed_all(config.seed, READ, k)
                parts.append(setup.train.batch(batch, setup.device, draw))
        if not own:
            seed_torch(config.seed, STEP, self.step)
        return parts

    def batches_of(self, steps: Sequence[Sequence[Tensor]]) -> Iterator[list[Batch]]:
        """Give the batches of steps from the present one on, read ahead where processes do that."""
        train = self.setup.train
        if not isinstance(train, Streamed) or not train.workers:
            yield from (self.read(indices) for indices in steps)
            return
        at = enumerate(steps, self.step)
        numbered = [(k, batch) for step, parts in at for k, batch in enumerate(parts, step * len(parts))]
        with ahead(train, numbered, self.config.seed, pinned=self.setup.device.type == "cuda") as found:
            for indices in steps:
                numbers = itertools.count(self.step * len(indices))
                draws = (generator(self.config.seed, TRANSFORM, k) for k in numbers)
                parts = [train.finished(next(found), self.setup.device, draw) for _, draw in zip(indices, draws)]
                seed_torch(self.config.seed, STEP, self.step)
                yield parts

    def restore(self) -> None:
        checkpoint, complaints = self.store.resume()
        for sentence in complaints:
            self.watch(RunEvent("notice", 0, self.config.steps, message=sentence))
        if checkpoint is None:
            if self.config.start is not None and not self.setup.started:
                raise UserError(f"{self.store.folder} starts from another run, whose weights are needed: give --from")
            measure = functools.partial(self.measure_reference, 0)
            self.store.append(shared_rows(self.source, self.config.to_dict(), measure))
            self.evaluate(0)
            self.keep(0)
            return
        try:
            load_weights(self.setup.model, checkpoint.weights)
            self.setup.optimizer.load_state_dict(checkpoint.state["optimizer"])
            self.recorder.load_state_dict(checkpoint.state["recorder"])
            self.similarity.load_state_dict(checkpoint.state["similarity"])
            if self.radius is not None:
                self.radius = float(checkpoint.state["radius"])
        except (DamagedCheckpoint, LookupError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"{checkpoint.folder} does not fit this run ({error}); remove {self.store.folder} to start again"
            ) from error
        self.step = checkpoint.step
        self.status, self.message = (str(checkpoint.state.get(name, "")) for name in ("status", "message"))
        if self.status == "finished" and self.step < self.config.steps:  # it was prolonged
            self.status = ""
        self.watch(RunEvent("resumed", self.step, self.config.steps, self.step // self.per_epoch))

    def state(self) -> dict[str, Any]:
        return {
            "optimizer": self.setup.optimizer.state_dict(),
            "recorder": self.recorder.state_dict(),
            "similarity": self.similarity.state_dict(),
            "radius": self.radius,
            "status": self.status,
            "message": self.message,
        }

    def save_if_due(self) -> None:
        self.progress.write(self.step, self.step // self.per_epoch)
        started, stop = time.monotonic(), self.stop()
        if started >= self.next_save or stop:
            for step, epoch, shown in self.take_epochs():
                self.tell(step, epoch, shown)
            self.store.checkpoint(self.step, self.setup.model.state_dict(), self.state())
            ended = time.monotonic()
            self.next_save = ended + max(CHECKPOINT_SECONDS, (ended - started) / CHECKPOINT_SHARE)
        if stop:
            raise Stopped(f"stopped at step {self.step} of {self.config.steps}")

    def keep(self, epoch: int) -> None:
        every = self.config.keep_every
        if every is not None and (epoch % every == 0 or epoch == self.epochs):
            self.store.keep_weights(epoch, self.setup.model.state_dict())

    def seed_pass(self) -> None:
        """Seed what a pass over the examples may draw: by dropout before the first step, by transforms at any."""
        if not isinstance(self.setup.problem, Images) and (self.step == 0 or isinstance(self.setup.train, Streamed)):
            seed_all(self.config.seed, PASS, FIRST_PASS + self.step)

    def evaluate(self, epoch: int) -> list[Row]:
        setup, config = self.setup, self.config
        self.seed_pass()
        setup.set_rates(min(self.step, config.steps - 1))
        recompute_bn = config.recompute_bn or epoch == self.epochs
        at: dict[str, Any] = {"step": self.step, "epoch": epoch, "recompute_bn": recompute_bn}
        if config.evaluation == "exact":
            rows = exact_metrics(setup.evaluated(), setup.learning_rates(), law=setup.law, **at)
        else:
            rows = test_rows(setup.evaluated(), **at)
        self.store.append(rows)
        return rows

    def measure_reference(self, epoch: int) -> list[Row]:
        draw = reference_generator(self.config, self.step)
        self.seed_pass()
        return reference_rows(self.setup.evaluated(), draw, step=self.step, epoch=epoch)

    def tell(self, step: int, epoch: int, shown: Mapping[str, float]) -> None:
        self.progress.write(self.step, epoch, shown)
        self.watch(RunEvent("epoch", step, self.config.steps, epoch, shown))

    def take_epochs(self) -> list[tuple[int, int, dict[str, float]]]:
        """Give the store the rows of all epochs that have ended; the step, epoch and numbers of each."""
        self.next_told = time.monotonic() + EPOCHS_WAIT
        found = []
        for (step, epoch, similar), rows in zip(self.ended, self.recorder.take_rows()):
            self.store.append(rows)
            self.store.append(similar)
            found.append((step, epoch, {r.quantity: r.value for r in rows if r.group == "total"}))
        self.store.append_steps(self.recorder.take_steps())
        self.ended = []
        return found

    def end_epoch(self, epoch: int, *, evaluate: bool = True) -> None:
        whole = bool(self.recorder.end(self.step, epoch)) and self.step % self.per_epoch == 0
        self.ended.append((self.step, epoch, self.similarity.rows(self.step, epoch, whole=whole)))
        if evaluate and epoch not in self.evaluated and self.recorder.has_room() and time.monotonic() < self.next_told:
            self.keep(epoch)
            return
        *earlier, (_, _, shown) = self.take_epochs()
        for others in earlier:
            self.tell(*others)
        if evaluate:
            self.keep(epoch)
        if evaluate and epoch in self.evaluated:
            measured = self.evaluate(epoch)
            # in the window in which regimes are judged, and only a run that guesses is compared with random directions
            chance, constant = self.config.chance_error, self.config.constant_loss
            if chance is not None and "error" in shown:
                better = shown["error"] < GUESSING * chance
            else:
                better = constant is not None and shown["loss"] < GUESSING * constant
            if 2 * epoch > self.epochs and not better:
                self.store.append(self.measure_reference(epoch))
                if epoch == self.epochs:
                    draw = reference_generator(self.config, 0)
                    self.store.append(limit_rows(self.setup.evaluated(), draw, step=self.step, epoch=epoch))
            shown |= {f"{r.split}_{r.quantity}": r.value for r in measured if r.group == "total"}
        self.tell(self.step, epoch, shown)

    @np.errstate(over="ignore", invalid="ignore")  # a diverged run: inf and NaN are its result
    def train(self) -> None:
        setup, config = self.setup, self.config
        setup.model.train()
        while self.step < config.steps and not self.status:
            epoch = self.step // self.per_epoch
            for parts in self.batches_of(self.steps_of(epoch)[self.step % self.per_epoch :]):
                setup.set_rates(self.step)
                try:
                    train_step(setup, self.recorder, parts, self.radius)
                except StateError as error:
                    self.diverged(str(error), epoch + 1)
                    return
                self.step += 1
                if self.step == config.steps:
                    break
                if self.step % self.per_epoch:
                    self.save_if_due()
            if not all(all_finite(t) for ts in setup.groups.values() for t in ts):
                bad = self.recorder.first_nonfinite(self.step)
                self.diverged(f"step {bad} leaves weights that are not finite", epoch + 1)
                return
            self.end_epoch(epoch + 1)
            if self.step < config.steps:
                self.save_if_due()
        self.status = self.status or "finished"

    def diverged(self, message: str, epoch: int) -> None:
        """NaN and inf are a result: keep what was measured, name the step, stop."""
        self.status, self.message = "diverged", message
        self.end_epoch(epoch, evaluate=False)


def open_store(folder: Path, config: RunConfig, origin: Mapping[str, Any], **options: Any) -> RunStore:
    """Open the folder of a run for writing; a :class:`UserError` where it holds anything else."""

    def present() -> bool:
        return present_config(folder, config) is not None

    return RunStore(folder, config.to_dict(), config.identity(), origin, present=present, **options)


def run(
    config: RunConfig,
    source: Dataset | Problem,
    folder: Path,
    *,
    start: Start | None = None,
    watch: Callable[[RunEvent], None] = lambda event: None,
    origin: Mapping[str, Any] | None = None,
    lock_wait: float = 0.0,
    device: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train ``config`` in ``folder`` and return its result; a run that has ended is not run again.

    ``source``: a data set of the package, or a Problem. ``start``: the weights that ``config.start`` names. Sets
    torch's thread count to ``config.threads`` for the process. ``origin`` replaces :func:`environment`. ``device``:
    which one of ``config.device``'s type. ``stop``: asked after every step; once it says yes, a checkpoint is written
    and :class:`Stopped` raised.
    """
    check(config)
    classes = source.classes if isinstance(source, Dataset) else config.classes
    if (source.fingerprint, classes) != (config.data_fingerprint, config.classes):
        raise UserError(f"the images of {config.data} are not those the run was made for; choose another --out")
    if isinstance(source, Dataset):
        require_memory(config, source.in_shape, source.classes, len(source.train_labels))
    check_openmp(config.threads)
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    with kept_generators(), reproducible(config.device, not config.nondeterministic):
        return _run(
            config,
            source,
            folder,
            start,
            watch,
            origin or environment(config.threads, config.device),
            lock_wait,
            device,
            stop,
        )


def _run(
    config: RunConfig,
    source: Dataset | Problem,
    folder: Path,
    start: Start | None,
    watch: Callable[[RunEvent], None],
    origin: Mapping[str, Any],
    lock_wait: float,
    device: str | None,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    started = time.monotonic()
    # what it refuses is refused before anything is written
    setup = build(config, source, start=None if start is None else start.file, device=device)
    lineage = None if start is None else start.lineage()
    task = stored_task(config, setup, folder)
    with _opened(folder, config, origin, lock_wait, lineage=lineage, problem=task) as store:
        result, complaints = store.result()
        if result is not None:
            return result
        for sentence in complaints:
            watch(RunEvent("notice", 0, config.steps, message=sentence))
        live = _Run(config, source, setup, store, watch, stop)
        live.restore()
        resumed_at = live.step
        if resumed_at and (other := other_hardware(recorded_environment(folder), device or config.device)):
            sentence = f"the run was made on another machine ({other}): its bits may differ from those of one machine"
            watch(RunEvent("notice", resumed_at, config.steps, message=sentence))
        live.train()
        seconds = time.monotonic() - started
        result = {
            "status": live.status,
            "message": live.message,
            "steps": live.step,
            "epochs": live.step / live.per_epoch,
            "steps_per_epoch": live.per_epoch,
            "timing": {
                "seconds": seconds,
                "steps_here": live.step - resumed_at,
                "seconds_per_step": seconds / max(1, live.step - resumed_at),
            },
            "regime": None,
            "evidence": None,
        }
        store.finish(live.step, live.setup.model.state_dict(), live.state(), result)
        live.progress.remove()
        watch(RunEvent("ended", live.step, config.steps, live.epochs, message=live.status))
        return result


def _opened(folder: Path, config: RunConfig, origin: Mapping[str, Any], lock_wait: float, **options: Any) -> RunStore:
    """Open the store of a run; where another process trains it, say so and wait."""
    try:
        return open_store(folder, config, origin, wait=min(lock_wait, _SOON), **options)
    except Busy:
        if lock_wait <= _SOON:
            raise
    at = read_progress(folder)
    who = "another process" if at is None else f"process {at.pid} on {at.host}"
    far = "" if at is None else f" (step {at.step} of {at.steps})"
    _log.warning("waiting for %s, which trains %s%s", visible(who), visible(str(folder)), far)
    return open_store(folder, config, origin, wait=lock_wait - _SOON, **options)


def record_verdict(folder: Path, regime: int | None, evidence: Mapping[str, Any]) -> None:
    """Write what the analysis found into result.json (a later analysis may find otherwise: the metrics stay)."""
    path = folder / "result.json"
    result = read_result(path)
    if (result.get("regime"), result.get("evidence")) != (regime, dict(evidence)):
        rewrite_sealed(path, {**result, "regime": regime, "evidence": dict(evidence)})
