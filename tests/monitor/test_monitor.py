"""The two lines: nothing changes, the numbers are right, and what a user does with them."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net, same_weights, train
from torch import nn

from scaleinv import Monitor, UserError
from scaleinv.monitor.sinks import Lines, Sink
from scaleinv.symmetry import find_symmetries

pytestmark = pytest.mark.numerics


def sgd(model: nn.Module, **options: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options})


@pytest.mark.parametrize("every", [1, 3, None])
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Adagrad", "RMSprop", "Rprop"])
def test_training_is_the_same_bit_for_bit(kind: str, every: int | None) -> None:
    def run(watched: bool) -> tuple[nn.Module, list[float]]:
        model = net()
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
        monitor = Monitor(model, optimizer, groups=FREE, every=every) if watched else None
        return model, train(model, optimizer, 12, monitor)

    (plain, losses), (watched, seen) = run(False), run(True)
    assert losses == seen
    assert same_weights(plain, watched)


def test_numbers_of_plain_sgd_obey_the_identities() -> None:
    """Norm (Lobacheva et al. 2021, eq. 4), angle and sum rule (Kodryan et al. 2022, eq. 7) of every step."""
    model = net(dtype=torch.float64)
    lr, wd = 0.1, 0.01
    optimizer = sgd(model, lr=lr, weight_decay=wd)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    losses = train(model, optimizer, 20, monitor, dtype=torch.float64)
    h = monitor.history()
    assert h["step"].tolist() == list(range(20))
    assert h["loss"] == pytest.approx(losses, rel=1e-12)
    keep = 1 - lr * wd
    for name in FREE:
        rho, eg, elr, angle = (h[f"{name}/{q}"] for q in ("rho", "eg", "elr", "angle"))
        assert elr == pytest.approx(lr / rho**2, rel=1e-12)
        assert np.tan(angle) == pytest.approx(elr * eg / keep, rel=1e-4)  # eps of the norm is 1e-5
        assert h[f"{name}/ess"] == pytest.approx(elr * eg, rel=1e-12)
        assert rho[1:] ** 2 == pytest.approx((keep**2 * rho**2 + (lr * eg) ** 2 / rho**2)[:-1], rel=1e-5)
        assert h[f"{name}/decay"] == pytest.approx(lr * wd * rho, rel=1e-12)
        assert np.abs(h[f"{name}/g_radial"]).max() < 1e-3
        assert h[f"{name}/radial"] == pytest.approx(-lr * wd * rho, rel=2e-2)  # eps again
        step = np.hypot(h[f"{name}/tangential"], h[f"{name}/radial"])  # the gradient is its tangential part
        assert h[f"{name}/alignment"] == pytest.approx(h[f"{name}/tangential"] / step, abs=1e-3)
    assert 1 / h["total/elr"] == pytest.approx(sum(1 / h[f"{n}/elr"] for n in FREE), rel=1e-12)
    assert h["total/rho"] ** 2 == pytest.approx(sum(h[f"{n}/rho"] ** 2 for n in FREE), rel=1e-12)


def test_groups_found_given_and_unknown() -> None:
    model, (x, _) = net(), batches(1)[0]
    optimizer = sgd(model)
    found = Monitor(model, optimizer, inputs=x)
    kinds = {g.name: g.kind for g in found.groups}
    assert [n for n, k in kinds.items() if k == "scale-invariant"] == FREE
    assert kinds["6.weight"] == "own scale"
    assert {g.name: g.kind for g in Monitor(model, optimizer, groups=find_symmetries(model, x)).groups} == kinds
    hand = Monitor(model, optimizer, groups={"both": [model[0].weight, "3.weight"]})
    assert [(g.name, g.kind) for g in hand.groups][:2] == [("both", "scale-invariant"), ("1.weight", "scale unknown")]
    none = Monitor(model, optimizer, every=1)
    assert {g.kind for g in none.groups} == {"scale unknown"}
    train(model, optimizer, 2)
    h = none.history()
    assert np.isnan(h["0.weight/elr"]).all()
    assert np.isnan(h["total/elr"]).all()
    assert (h["0.weight/angle"] > 0).all()
    assert "no ELR" in str(none.summary())
    for m in (found, hand, none):
        m.close()


def test_intervals() -> None:
    model = net()
    optimizer = sgd(model)
    third, chosen = Monitor(model, optimizer, every=3), Monitor(model, optimizer)
    train(model, optimizer, 40)
    assert third.history()["step"].tolist() == list(range(0, 40, 3))
    assert (
        chosen.every > 10
    )  # a step of this net takes well under a millisecond, so logging it costs much more than 1 %
    assert third.step == chosen.step == 40


def test_unlogged_steps_copy_and_transfer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    optimizer = sgd(model)
    monitor = Monitor(model, optimizer, every=1000)
    train(model, optimizer, 1, monitor)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("work on a step that is not logged")

    monkeypatch.setattr("scaleinv.monitor.monitor.StepProbe", refuse)
    monkeypatch.setattr("scaleinv.monitor.reading.to_host", refuse)
    train(model, optimizer, 3, monitor)
    assert monitor.step == 4
    assert not monitor._losses
    assert not monitor._open


def test_one_transfer_a_logged_step_and_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    import scaleinv.monitor.reading as module

    model = net()
    optimizer = sgd(model)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    calls = []
    original = module.to_host
    monkeypatch.setattr(module, "to_host", lambda parts: calls.append(len(parts)) or original(parts))
    x, y = batches(1)[0]
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    monitor.loss(loss)

    def refuse(self: torch.Tensor) -> None:
        raise AssertionError("item() on the hot path")

    for name in ("item", "__float__", "__bool__", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    optimizer.step()
    monkeypatch.undo()
    assert len(calls) == 1
    assert monitor.history()["loss"] == pytest.approx([loss.item()])


def test_numbers_that_arrive_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: the copy is queued, and read by a later step or when it is asked for."""
    import scaleinv.monitor.reading as module

    class Event:
        done = False

        def query(self) -> bool:
            return self.done

        def synchronize(self) -> None:
            self.done = True

    original = module.to_host
    monkeypatch.setattr(module, "to_host", lambda parts: (original(parts)[0], Event()))
    model = net()
    optimizer = sgd(model)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 3, monitor)
    assert len(monitor._history) == 0
    assert monitor.history()["step"].tolist() == [0, 1, 2]


def test_close_context_and_reuse() -> None:
    model = net()
    optimizer = sgd(model)
    with Monitor(model, optimizer, every=1) as monitor:
        train(model, optimizer, 2, monitor)
    train(model, optimizer, 2, monitor)
    assert monitor.closed
    assert len(monitor.history()["step"]) == 2
    monitor.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    second = Monitor(model, optimizer, every=1)
    train(model, optimizer, 2, second)
    assert second.history()["step"].tolist() == [0, 1]


def test_exception_in_the_loop_leaves_a_usable_monitor() -> None:
    model = net()
    optimizer = sgd(model)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 2, monitor)

    def broken() -> float:
        raise KeyError("batch")

    with pytest.raises(KeyError):
        optimizer.step(broken)
    train(model, optimizer, 2, monitor)
    h = monitor.history()
    assert h["step"].tolist() == [0, 1, 2, 3]
    assert (h["total/angle"] > 0).all()


def test_an_error_of_the_monitor_does_not_end_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    optimizer = sgd(model)
    monitor = Monitor(model, optimizer, every=1)
    monkeypatch.setattr("scaleinv.monitor.reading.derive", lambda *_: 1 / 0)
    with pytest.warns(RuntimeWarning, match="stopped measuring at step 0, training goes on: ZeroDivisionError"):
        train(model, optimizer, 3, monitor)
    assert monitor.closed


class Broken(Sink):
    count = 0

    def write(self, record: object) -> None:
        self.count += 1
        raise OSError("no space left")


def test_a_sink_that_raises_is_told_once() -> None:
    model = net()
    optimizer = sgd(model)
    bad, seen = Broken(), []
    monitor = Monitor(model, optimizer, every=1, sinks=[bad, seen.append])
    with pytest.warns(RuntimeWarning, match="the sink Broken failed .* no space left") as told:
        train(model, optimizer, 4, monitor)
    assert len(told) == 1
    assert bad.count == 1
    assert [s["step"] for s in seen] == [0, 1, 2, 3]
    monitor.close()


def test_copies_of_model_and_optimizer_are_free_of_it() -> None:
    model = net()
    optimizer = sgd(model, momentum=0.9)
    monitor = Monitor(model, optimizer, every=1, sinks=lambda row: None)
    train(model, optimizer, 2, monitor)
    other_model, other = copy.deepcopy((model, optimizer))
    train(other_model, other, 2)
    pickle.loads(pickle.dumps(optimizer))
    assert len(monitor.history()["step"]) == 2
    twin = copy.deepcopy(monitor)
    train(model, optimizer, 1, monitor)
    assert len(twin.history()["step"]) == 2
    assert len(monitor.history()["step"]) == 3
    assert twin.closed
    assert "2 steps logged, closed" in repr(twin)


def test_state_goes_through_a_checkpoint() -> None:
    whole_model, model = net(), net()
    whole, optimizer = sgd(whole_model, momentum=0.9), sgd(model, momentum=0.9)
    reference = Monitor(whole_model, whole, groups=FREE, every=2)
    train(whole_model, whole, 5, reference)
    monitor = Monitor(model, optimizer, groups=FREE, every=2)
    train(model, optimizer, 5, monitor)
    file = io.BytesIO()
    torch.save({"m": model.state_dict(), "o": optimizer.state_dict(), "monitor": monitor.state_dict()}, file)
    monitor.close()
    file.seek(0)
    state = torch.load(file, weights_only=True)
    model, optimizer = net(1), None
    model.load_state_dict(state["m"])
    optimizer = sgd(model, momentum=0.9)
    optimizer.load_state_dict(state["o"])
    resumed = Monitor(model, optimizer, groups=FREE, every=2)
    resumed.load_state_dict(state["monitor"])
    for m, o, r in ((whole_model, whole, reference), (model, optimizer, resumed)):
        train(m, o, 5, r)
    a, b = reference.history(), resumed.history()
    assert a["step"].tolist() == [0, 2, 4, 6, 8]
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    with pytest.raises(UserError, match="not the state of a Monitor"):
        resumed.load_state_dict({"step": 1})


def test_memory_is_let_go() -> None:
    model = net()
    optimizer = sgd(model)
    monitor = Monitor(model, optimizer, every=1, keep=5)
    train(model, optimizer, 9, monitor)
    assert monitor.history()["step"].tolist() == [4, 5, 6, 7, 8]
    assert not monitor._open
    assert not monitor._measured
    ref = weakref.ref(monitor)
    monitor.close()
    del monitor
    gc.collect()
    assert ref() is None


def test_tables() -> None:
    pandas = pytest.importorskip("pandas")
    model, (x, _) = net(), batches(1)[0]
    optimizer = sgd(model, weight_decay=0.01)
    monitor = Monitor(model, optimizer, inputs=x, every=1, sinks=Lines(out := io.StringIO()))
    assert "nothing was logged" in str(monitor.summary())
    train(model, optimizer, 12, monitor)
    table = monitor.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table.index.name == "step"
    assert table["0.weight/rho"].iloc[0] == pytest.approx(float(monitor.history()["0.weight/rho"][0]))
    text = str(monitor.summary())
    assert text.startswith("12 steps, 12 logged (every step); 8 groups, 2 scale-invariant.")
    assert "0.weight" in text
    assert monitor._repr_html_().count("<tr>") == 10
    assert len(out.getvalue().splitlines()) == 12
    assert "elr" in out.getvalue()
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=io.StringIO(), width=120)
    console.print(monitor.summary())
    assert "0.weight" in console.file.getvalue()


def test_bad_input() -> None:
    model = net()
    optimizer = sgd(model)
    with pytest.raises(UserError, match="holds no parameter of this model"):
        Monitor(net(), optimizer)
    with pytest.raises(UserError, match="no parameter 'nope'"):
        Monitor(model, optimizer, groups=["nope"])
    with pytest.raises(UserError, match="every=0"):
        Monitor(model, optimizer, every=0)
    with pytest.raises(UserError, match="not both"):
        Monitor(model, optimizer, inputs=torch.zeros(2, 6), groups=FREE)
    with pytest.raises(UserError, match="give inputs with it"):
        Monitor(model, optimizer, outputs="logits")
    with pytest.raises(UserError, match="has no output 'logits'"):
        Monitor(model, optimizer, inputs=torch.zeros(4, 6), outputs="logits")
    with pytest.raises(UserError, match="stands in two groups"):
        Monitor(model, optimizer, groups=["0.weight", ["0.weight", "3.weight"]])
    with pytest.raises(UserError, match="not held by the optimizer"):
        Monitor(model, torch.optim.SGD(model[0].parameters(), lr=1.0), groups=["3.weight"])
    with pytest.raises(UserError, match=r"not a torch\.optim\.Optimizer"):
        Monitor(model, model)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="neither a folder"):
        Monitor(model, optimizer, sinks=[3])
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("large", [False, True])
def test_one_copy_of_the_weights_during_a_logged_step_and_none_between(large: bool) -> None:
    held = []

    def look() -> None:
        held.append(sum(probe.bytes_held for probe in monitor._open.values()))

    class Looks(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            look()
            super().step()

    model = nn.Sequential(nn.Linear(6, 20_000), nn.Linear(20_000, 6), net()) if large else net()
    optimizer = Looks(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, every=2)
    train(model, optimizer, 4, monitor)
    look()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert held == [weights, 0, weights, 0, 0]


def test_the_page_names_every_quantity_and_every_alert() -> None:
    from pathlib import Path

    from scaleinv.monitor import QUANTITIES, Alert

    text = (Path(__file__).parents[2] / "docs" / "howto" / "monitor.md").read_text("utf-8")
    assert [q for q in QUANTITIES if f"`{q}`" not in text] == []
    kinds = (Alert.__doc__ or "").partition("one of: ")[2].partition(".")[0].replace("\n", " ").split(",")
    assert len(kinds) == 18
    assert [k.strip() for k in kinds if f"`{k.strip()}`" not in text] == []
