"""What the recorder says of every step, against what the saved weights and gradients say."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests import rounding
from torch import Tensor

from scaleinv.lab.build import Setup, build
from scaleinv.lab.config import Settings
from scaleinv.lab.data import Dataset, batches, load_dataset
from scaleinv.lab.recorder import StepRecorder
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import recorder_of
from scaleinv.runfolder.rows import Row

pytestmark = pytest.mark.numerics

SUBSET, BATCH = 97, 16  # six batches of 16, and one image more


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits", subset=SUBSET)


def setup(data: Dataset, *, elr: float | None = 1e-2, lr: float | None = None, **options: Any) -> Setup:
    settings = Settings(subset=SUBSET, batch_size=BATCH, width=3, epochs=2, **options)
    return build(resolve(settings, data, elr=elr, lr=lr, seed=0, threads=1), data)


def flat(tensors: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([t.detach().double().numpy().ravel() for t in tensors])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Kahan's formula in long double."""
    u, v = (x.astype(np.longdouble) for x in (a, b))
    u, v = u / np.sqrt(u @ u), v / np.sqrt(v @ v)
    return float(2 * np.arctan2(np.sqrt(((u - v) ** 2).sum()), np.sqrt(((u + v) ** 2).sum())))


def answers(right: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Two classes; the first ``right`` of ``size`` answers are right."""
    return [(torch.tensor([[1.0, 0.0]]).expand(size, 2), torch.tensor([0] * right + [1] * (size - right)))]


class Diary:
    """Weights and gradients of every step, kept as they are."""

    def __init__(self) -> None:
        self.before: list[list[Tensor]] = []
        self.after: list[list[Tensor]] = []
        self.gradients: list[list[Tensor]] = []
        self.loss: list[float] = []
        self.wrong: list[int] = []
        self.sizes: list[int] = []
        self.rates: list[list[float]] = []


def epoch(
    s: Setup, recorder: StepRecorder, number: int, diary: Diary | None = None, steps: slice = slice(None)
) -> None:
    s.model.train()
    tensors = [t for ts in s.groups.values() for t in ts]
    for batch in batches(SUBSET, BATCH, seed=0, epoch=number)[steps]:
        x, y = s.train[0][batch], s.train[1][batch]
        s.optimizer.zero_grad()
        logits = s.model(x)
        loss = s.loss(logits, y)
        loss.backward()
        rates = s.learning_rates()
        recorder.before_step(loss.detach(), [(logits.detach(), y)])
        if diary is not None:
            diary.before.append([t.detach().clone() for t in tensors])
            diary.gradients.append([torch.zeros_like(t) if t.grad is None else t.grad.clone() for t in tensors])
            diary.loss.append(loss.item())
            diary.wrong.append(int((logits.argmax(1) != y).sum()))
            diary.sizes.append(len(y))
            diary.rates.append(rates)
        s.optimizer.step()
        recorder.after_step(rates)
        if diary is not None:
            diary.after.append([t.detach().clone() for t in tensors])


def expected(s: Setup, diary: Diary) -> dict[tuple[str, str], float]:
    """Means over the steps, computed slowly from the diary."""
    found: dict[tuple[str, str], float] = {}
    sizes = np.array(diary.sizes)
    found["total", "loss"] = float((np.array(diary.loss) * sizes).sum() / sizes.sum())
    found["total", "error"] = sum(diary.wrong) / int(sizes.sum())
    position, columns = 0, {"total": slice(None)}
    for name, ts in s.groups.items():
        columns[name] = slice(position, position + len(ts))
        position += len(ts)
    for i, (name, part) in enumerate(columns.items()):
        values: dict[str, list[float]] = {q: [] for q in ("rho", "g", "eg", "elr", "ess", "angle", "cosine")}
        for old, new, gradient, rates in zip(diary.before, diary.after, diary.gradients, diary.rates):
            x, x2, g = flat(old[part]), flat(new[part]), np.linalg.norm(flat(gradient[part]))
            rho, turned = np.linalg.norm(x), angle(x, x2)
            row = (rho, g, rho * g, rates[i] / rho**2, rates[i] / rho * g, turned, math.cos(turned))
            for q, v in zip(values, row):
                values[q].append(float(v))
        for q, v in values.items():
            if q != "cosine" or name == "total":
                found[name, q] = float(np.mean(v))
        # the first of a handful of steps is the only one whose gradient is held against the weights
        x, g = flat(diary.before[0][part]), flat(diary.gradients[0][part])
        found[name, "radial"] = abs(float(x @ g)) / float(np.linalg.norm(x) * np.linalg.norm(g))
    return found


def bounds(s: Setup, diary: Diary, *, plain: bool) -> dict[tuple[str, str], float]:
    """How far the recorder may be from :func:`expected`, to first order in the rounding of its sums.

    The usual way takes norms in float64, the step ``d`` and the products with the gradient in float32: each number of
    them is off by u of itself at most. The short way (``plain``) takes its dot products in float32, and its angle is of
    the step as meant: the weights there are rounded once when they decay, once by the step, once on the way back to the
    sphere.
    """
    found: dict[tuple[str, str], float] = {("total", "loss"): 0.0, ("total", "error"): 0.0}
    position, columns = 0, {"total": slice(None)}
    for name, ts in s.groups.items():
        columns[name] = slice(position, position + len(ts))
        position += len(ts)
    for i, (name, part) in enumerate(columns.items()):
        rows: list[dict[str, float]] = []
        for old, new, gradient, rates in zip(diary.before, diary.after, diary.gradients, diary.rates):
            pairs = [(flat([a]), flat([b])) for a, b in zip(old[part], gradient[part])]
            x, x2, g = flat(old[part]), flat(new[part]), flat(gradient[part])
            rho, rho2, size, turned = (*(float(np.linalg.norm(v)) for v in (x, x2, g)), angle(x, x2))
            if plain:
                of_rho = sum(rounding.of_sum(a * a) for a, _ in pairs) / rho**2 / 2
                of_g = sum(rounding.of_sum(b * b) for _, b in pairs) / size**2 / 2
                of_dot = sum(rounding.of_sum(a * b) for a, b in pairs)
                # atan2(across, along): an error across counts by cos, one along by sin
                lr = rates[0]
                across = lr * (size * rho * (of_g + of_rho) + abs(float(x @ g)) / (size * rho) * of_dot)
                along = 2 * abs(rho * rho2 * math.cos(turned)) * of_rho + lr * of_dot
                of_angle = (abs(math.cos(turned)) * across + math.sin(turned) * along) / (rho * rho2)
                of_angle += rounding.turn_of_rounded_weights(turned, x.size, 3)
            else:
                of_rho = of_g = x.size * rounding.U64
                of_dot = rounding.U * float(np.abs(x * g).sum())
                # 2 asin(sqrt(h)), h = (d^2 - (rho' - rho)^2)/(4 rho rho')
                apart = 2 * abs(rho2 - rho) * (rho + rho2) * of_rho
                of_h = (2 * rounding.U * float(((x - x2) ** 2).sum()) + apart) / (4 * rho * rho2)
                of_angle = 2 * of_h / math.sin(turned) + 2 * of_rho * turned
            rate = rates[i]
            rows.append({
                "rho": rho * of_rho, "g": size * of_g, "eg": rho * size * (of_rho + of_g),
                "elr": rate / rho**2 * 2 * of_rho, "ess": rate / rho * size * (of_rho + of_g), "angle": of_angle,
                "cosine": math.sin(turned) * of_angle,
                "radial": (of_dot + abs(float(x @ g)) * (of_rho + of_g)) / (rho * size),
            })  # fmt: skip
        for q in rows[0]:
            if q != "cosine" or name == "total":
                found[name, q] = rows[0][q] if q == "radial" else float(np.mean([row[q] for row in rows]))
    return found


def table(rows: list[Row]) -> dict[tuple[str, str], float]:
    assert {r.split for r in rows} == {"online"}
    found = {(r.group, r.quantity): r.value for r in rows}
    assert len(found) == len(rows)
    return found


CASES: dict[str, dict[str, Any]] = {
    "sphere": {},
    "tiny steps": {"elr": 1e-7},
    "huge steps": {"elr": 1e3},
    "momentum": {"momentum": 0.9},
    "resnet": {"model": "resnet18"},
    "mlp": {"model": "mlp"},
    "group": {"granularity": "group"},
    "row": {"granularity": "row"},
    "standard": {"variant": "standard"},
    "squared loss": {"loss": "mse"},
    "whole space": {"elr": None, "lr": 0.1, "weight_decay": 1e-2},
    "plain whole space": {"elr": None, "lr": 0.1, "weight_decay": 1e-2},
    "plain whole space, no decay": {"elr": None, "lr": 0.01},
    "plain whole space, large decay": {"elr": None, "lr": 0.1, "weight_decay": 4.0},
    "plain sphere": {},
    "plain sphere, tiny steps": {"elr": 1e-5},
    "plain sphere, huge steps": {"elr": 1e3},
    "plain sphere, mlp": {"model": "mlp"},
    "plain sphere, resnet": {"model": "resnet18"},
}


@pytest.mark.parametrize("case", CASES)
def test_every_number_is_what_the_weights_say(case: str, data: Dataset) -> None:
    s = setup(data, **CASES[case])
    plain = CASES[case].get("weight_decay", 0.0) if "plain" in case else None
    recorder = StepRecorder(s.groups, 6, plain_decay=plain)
    for number in range(2):  # the second epoch starts from the weights the first has left
        diary = Diary()
        epoch(s, recorder, number, diary)
        assert diary.sizes == [16, 16, 16, 16, 16, 17]
        rows = recorder.flush(6 * (number + 1), number + 1)
        assert {(r.step, r.epoch) for r in rows} == {(6 * (number + 1), number + 1)}
        found, slow = table(rows), expected(s, diary)
        assert list(found) == list(slow)
        allowed = bounds(s, diary, plain=plain is not None)
        for key, value in slow.items():
            bound = 0.0 if math.isnan(allowed[key]) else allowed[key]  # of a rate that is none
            assert found[key] == pytest.approx(value, rel=1e-12, abs=bound, nan_ok=True), key
    measured = found["total", "angle"]
    if case == "tiny steps":
        assert 1e-7 < measured < 1e-4
    if case == "huge steps":
        assert measured > 1.4
    if case in ("group", "row"):
        assert math.isnan(found["total", "elr"])  # there is no one rate


def test_the_elr_on_the_sphere_is_the_configs(data: Dataset) -> None:
    s = setup(data, elr=3e-3)
    recorder = StepRecorder(s.groups, 6)
    epoch(s, recorder, 0)
    found = table(recorder.flush(6, 1))
    assert found["total", "elr"] == pytest.approx(3e-3, rel=1e-6)
    own = [found[name, "elr"] for name in s.groups]
    assert min(own) > 3e-3  # 1/elr = sum of 1/elr_i
    granular = setup(data, elr=3e-3, granularity="group")
    recorder = StepRecorder(granular.groups, 6)
    epoch(granular, recorder, 0)
    found = table(recorder.flush(6, 1))
    assert [found[name, "elr"] for name in granular.groups] == pytest.approx([3e-3] * 4, rel=1e-6)


def test_the_short_way_is_taken_where_all_weights_share_a_factor(data: Dataset) -> None:
    def decay(**options: Any) -> float | None:
        return recorder_of(setup(data, **options), 6).plain_decay

    assert decay() == 0.0
    assert decay(elr=None, lr=0.1, weight_decay=1e-2) == 1e-2
    assert decay(elr=None, lr=0.1, weight_decay=1e-2, fix_norm=True) == 1e-2
    assert decay(granularity="group") is decay(granularity="row") is decay(momentum=0.9) is None
    assert decay(optimizer="adam") is None


def test_an_empty_recorder_has_nothing_to_say(data: Dataset) -> None:
    recorder = StepRecorder(setup(data).groups, 3)
    assert recorder.flush(0, 0) == []


def test_a_step_that_failed_is_not_counted(data: Dataset) -> None:
    s = setup(data)
    recorder = StepRecorder(s.groups, 6)
    epoch(s, recorder, 0, steps=slice(0, 3))
    recorder.before_step(torch.tensor(99.0), answers(0, 16))  # and the optimizer raised
    reference = StepRecorder(s.groups, 6)
    reference.load_state_dict(recorder.state_dict())
    rows = recorder.flush(3, 1)
    assert table(rows)["total", "loss"] < 50
    assert rows == reference.flush(3, 1)


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_killed_epoch_goes_on_where_it_was(data: Dataset, at: int) -> None:
    s = setup(data)
    recorder = StepRecorder(s.groups, 6)
    epoch(s, recorder, 0)
    recorder.flush(6, 1)
    epoch(s, recorder, 1, steps=slice(0, at))
    buffer = io.BytesIO()
    torch.save(recorder.state_dict(), buffer)
    buffer.seek(0)
    resumed = StepRecorder(s.groups, 6)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))

    # the same later steps, recorded by both
    kept = [t.detach().clone() for ts in s.groups.values() for t in ts]
    epoch(s, recorder, 1, steps=slice(at, None))
    whole = recorder.flush(12, 2)
    with torch.no_grad():
        for t, value in zip((t for ts in s.groups.values() for t in ts), kept):
            t.copy_(value)
    epoch(s, resumed, 1, steps=slice(at, None))
    assert resumed.flush(12, 2) == whole


def test_recording_changes_nothing(data: Dataset) -> None:
    def weights(record: bool) -> list[bytes]:
        s = setup(data, momentum=0.9)
        recorder = StepRecorder(s.groups, 6)
        if record:
            epoch(s, recorder, 0)
        else:
            s.model.train()
            for batch in batches(SUBSET, BATCH, seed=0, epoch=0):
                s.optimizer.zero_grad()
                s.loss(s.model(s.train[0][batch]), s.train[1][batch]).backward()  # type: ignore[no-untyped-call]
                s.optimizer.step()
        return [t.detach().numpy().tobytes() for t in s.model.state_dict().values()]

    assert weights(True) == weights(False)


def test_tensors_without_gradient_count_as_zero() -> None:
    w, frozen = torch.ones(3, requires_grad=True), torch.full((2,), 2.0)
    recorder = StepRecorder({"w": [w], "frozen": [frozen]}, 2)
    w.grad = torch.tensor([0.0, 3.0, 4.0])
    recorder.before_step(torch.tensor(1.0), answers(1, 2))
    recorder.after_step([0.0, 0.0, 0.0])
    found = table(recorder.flush(1, 1))
    assert found["w", "g"] == 5.0
    assert found["frozen", "g"] == 0.0
    assert found["total", "g"] == 5.0
    assert found["total", "angle"] == 0.0
    assert found["total", "rho"] == pytest.approx(math.sqrt(11))
    assert found["total", "error"] == 0.5


def test_numbers_that_are_none_are_recorded_as_such() -> None:
    w = torch.ones(3, requires_grad=True)
    recorder = StepRecorder({"w": [w]}, 2)
    w.grad = torch.tensor([0.0, math.inf, 0.0])
    recorder.before_step(torch.tensor(math.nan), answers(0, 2))
    with torch.no_grad():
        w[0] = math.inf
    recorder.after_step([0.1, 0.1])
    found = table(recorder.flush(1, 1))
    assert math.isnan(found["total", "loss"])
    assert found["total", "eg"] == math.inf
    assert math.isnan(found["total", "angle"])


def test_large_tensors_are_measured_to_the_last_digits() -> None:
    g = torch.Generator().manual_seed(0)
    w = torch.rand(1500, 2000, generator=g).requires_grad_()
    recorder = StepRecorder({"w": [w]}, 1)
    w.grad = torch.rand(w.shape, generator=g)
    before = flat([w])
    recorder.before_step(torch.tensor(1.0), answers(0, 1))
    with torch.no_grad():
        w += 1e-4 * torch.rand(w.shape, generator=g)
    recorder.after_step([1.0, 1.0])
    found = table(recorder.flush(1, 1))
    assert found["w", "g"] == pytest.approx(np.linalg.norm(flat([w.grad])), rel=3e-7)
    assert found["w", "angle"] == pytest.approx(angle(before, flat([w])), rel=1e-6)


@pytest.mark.parametrize("scale", [1e25, 1e-25, math.inf])
@np.errstate(over="ignore", invalid="ignore")  # as the training loop has it
def test_plain_steps_beyond_the_squares_of_float32(scale: float) -> None:
    """A gradient of 1e25 has a norm, though its square is no number of float32; an infinite one stays infinite."""
    w = torch.ones(3, requires_grad=True)
    recorder = StepRecorder({"w": [w]}, 1, plain_decay=0.0)
    w.grad = torch.tensor([0.0, 3.0, 4.0]) * scale if math.isfinite(scale) else torch.tensor([0.0, math.inf, 1.0])
    recorder.before_step(torch.tensor(1.0), answers(0, 1))
    recorder.after_step([0.0, 0.0])
    found = table(recorder.flush(1, 1))
    assert found["w", "g"] == pytest.approx(5 * scale if scale > 1 else 0.0, rel=1e-6, abs=1e-20)


@pytest.mark.parametrize("angle", [1e-3, 1e-5, 1e-7])
def test_a_turn_far_smaller_than_the_decay(angle: float) -> None:
    """In phase B the norm falls by 1e-3 a step while the weights hardly turn."""
    lr, wd = 0.1, 1e-2
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20_000, generator=generator)
    g = torch.randn(20_000, generator=generator)
    g -= x * (g.double() @ x.double() / (x.double() @ x.double())).float()
    g *= (angle * (1 - lr * wd) * x.double().norm() / g.double().norm() / lr).float()
    w = x.clone().requires_grad_()
    recorder = StepRecorder({"w": [w]}, 1, plain_decay=wd, keep_steps=True)
    optimizer = torch.optim.SGD([w], lr=lr, weight_decay=wd)
    w.grad = g
    recorder.before_step(torch.zeros(()), [(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))])
    optimizer.step()
    recorder.after_step([lr, lr])
    recorder.flush(1, 1)
    (block,) = recorder.take_steps()
    # the square root of two dot products, each of one sign; g as it was scaled and the stored angle are rounded as well
    assert block["w:angle"][0] == pytest.approx(angle, rel=rounding.of_positive_sum(x.numel()) + 4 * rounding.U)
