"""Experiment trackers: TensorBoard, wandb, MLflow, trackio. Each library is optional, imported when the sink opens."""

import importlib
from collections import deque
from typing import Any

from scaleinv.errors import UserError
from scaleinv.monitor.records import Alert, Record
from scaleinv.monitor.sinks.base import Groups, Tracker
from scaleinv.monitor.state import MonitorState


def need(module: str, package: str, what: str) -> Any:
    """Import an optional library, or say in one line how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"{what} needs {package}: pip install {package}") from None


class TensorBoard(Tracker):
    """Writes scalars into a log folder, or into a ``SummaryWriter`` of yours (which stays open). Alerts are texts."""

    def __init__(
        self, writer: Any = "runs", *, groups: Groups = "free", select: str | None = None, invert: bool = False
    ) -> None:
        super().__init__(groups=groups, select=select, invert=invert)
        self._given: Any = writer
        self._writer: Any = None
        self._own = False

    def open(self, monitor: MonitorState) -> None:
        super().open(monitor)
        if hasattr(self._given, "add_scalar"):
            self._writer = self._given
            return
        for module in ("tensorboard", "torch.utils.tensorboard"):
            library = need(module, "tensorboard", "the TensorBoard sink")
        self._writer, self._own = library.SummaryWriter(str(self._given)), True

    def write(self, record: Record) -> None:
        for name, value in self.numbers(record).items():
            self._writer.add_scalar(name, value, record.step)

    def alert(self, alert: Alert) -> None:
        self._writer.add_text(f"scaleinv/alert/{alert.kind}", str(alert), alert.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close() if self._own else self._writer.flush()


class Wandb(Tracker):
    """Logs to Weights & Biases: the run given, else the active one, else a new one (closed with the monitor).

    The x axis is ``scaleinv/step``. Into a run of yours it never moves W&B's own step: a logged step joins the row that
    your next ``wandb.log`` commits, so that none of your rows comes too late; of several logged steps between two of
    your rows the last is kept. If you log nothing at all, every logged step is sent when the monitor closes.
    """

    def __init__(self, run: Any = None, *, groups: Groups = "free", select: str | None = None, invert: bool = False,
                 **options: Any) -> None:  # fmt: skip
        super().__init__(groups=groups, select=select, invert=invert)
        self._run, self._options, self._own = run, options, False
        self._start: int | None = None
        self._waiting: deque[dict[str, float]] = deque(maxlen=10_000)

    def open(self, monitor: MonitorState) -> None:
        super().open(monitor)
        wandb = need("wandb", "wandb", "the wandb sink")
        if self._run is None:
            self._run = wandb.run
        if self._run is None:
            self._run, self._own = wandb.init(**self._options), True
        self._run.define_metric("scaleinv/step")
        self._run.define_metric("scaleinv/*", step_metric="scaleinv/step")
        if not self._own:
            self._start = self._present_step()

    def _present_step(self) -> int | None:
        step = getattr(self._run, "step", None)
        return step if isinstance(step, int) else None

    def write(self, record: Record) -> None:
        row = {**self.numbers(record), "scaleinv/step": record.step}
        if self._own:
            self._run.log(row)
        else:
            self._run.log(row, commit=False)
            self._waiting.append(row)

    def alert(self, alert: Alert) -> None:
        if alert.severity != "note":
            self._run.alert(title=f"scaleinv: {alert.kind}", text=str(alert))

    def close(self) -> None:
        if self._own:
            self._run.finish()
        elif self._waiting and self._start is not None and self._present_step() == self._start:
            for row in self._waiting:  # nobody else has logged: nobody's rows are in the way
                self._run.log(row)


class MLflow(Tracker):
    """Logs to the active MLflow run, else to a new one (ended with the monitor). Names have ``.`` for ``+``."""

    def __init__(
        self,
        *,
        groups: Groups = "free",
        select: str | None = None,
        invert: bool = False,
        tracking_uri: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(groups=groups, select=select, invert=invert)
        self._uri, self._options, self._own = tracking_uri, options, False

    def open(self, monitor: MonitorState) -> None:
        super().open(monitor)
        self._mlflow = need("mlflow", "mlflow-skinny", "the MLflow sink")
        if self._uri is not None:
            self._mlflow.set_tracking_uri(self._uri)
        active = self._mlflow.active_run()
        if active is None:
            active, self._own = self._mlflow.start_run(**self._options), True
        self._id = active.info.run_id

    def write(self, record: Record) -> None:
        numbers = {name.replace("+", "."): value for name, value in self.numbers(record).items()}
        self._mlflow.log_metrics(numbers, step=record.step, run_id=self._id)

    def alert(self, alert: Alert) -> None:
        client = self._mlflow.tracking.MlflowClient()
        client.set_tag(self._id, f"scaleinv.alert.{alert.kind}", str(alert)[:5000])

    def close(self) -> None:
        if self._own:
            self._mlflow.end_run()


class Trackio(Tracker):
    """Logs to trackio (local): the active run, else a new one in ``project`` (finished with the monitor)."""

    def __init__(
        self,
        project: str | None = None,
        *,
        groups: Groups = "free",
        select: str | None = None,
        invert: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(groups=groups, select=select, invert=invert)
        self._project, self._options = project, options

    def open(self, monitor: MonitorState) -> None:
        super().open(monitor)
        self._trackio = need("trackio", "trackio", "the trackio sink")
        if self._project is not None:
            self._trackio.init(project=self._project, **self._options)

    def write(self, record: Record) -> None:
        self._trackio.log(self.numbers(record), step=record.step)

    def close(self) -> None:
        if self._project is not None:
            self._trackio.finish()
