"""A callback for Lightning (``lightning`` or ``pytorch_lightning``): ``Trainer(callbacks=[MonitorCallback()])``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scaleinv.errors import UserError
from scaleinv.monitor.monitor import Monitor
from scaleinv.monitor.records import Record
from scaleinv.monitor.sinks.base import Tracker

if TYPE_CHECKING:
    _Callback: Any = object
else:
    try:
        from lightning.pytorch import Callback as _Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback as _Callback
        except ImportError:
            raise UserError("the Lightning callback needs Lightning: pip install lightning") from None


class _Loggers(Tracker):
    """The trainer's own loggers, at the monitor's steps."""

    def __init__(self, loggers: list[Any]) -> None:
        super().__init__()
        self._loggers = loggers

    def write(self, record: Record) -> None:
        for logger in self._loggers:
            logger.log_metrics(self.numbers(record), step=record.step)


class MonitorCallback(_Callback):  # type: ignore[misc]
    """A :class:`~scaleinv.Monitor` of the trainer's optimizers, from the start of ``fit`` to its end.

    Its numbers go to the trainer's loggers (``log=False``: not), and its state into Lightning's checkpoints. The loss
    is what ``training_step`` returns, averaged over accumulated batches. Other options are those of Monitor; names are
    those of the LightningModule's parameters.

    ``monitor``: the Monitor, after the start of ``fit``.
    """

    def __init__(self, *, log: bool = True, **options: Any) -> None:
        self._log, self._options = log, options
        self._restored: dict[str, Any] | None = None
        self.monitor: Monitor | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach the monitor: the optimizers are there now."""
        options = dict(self._options)
        sinks = options.pop("sinks", ())
        given = list(sinks) if isinstance(sinks, (list, tuple)) else [sinks]
        if self._log and trainer.loggers:
            given.append(_Loggers(list(trainer.loggers)))
        if self.monitor is not None:
            self.monitor.close()
        self.monitor = Monitor(pl_module, trainer.optimizers, sinks=given, **options)
        self.monitor.epoch = trainer.current_epoch
        if self._restored is not None:
            self.monitor.load_state_dict(self._restored)
            self._restored = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Tell the monitor the epoch, which its rows hold."""
        if self.monitor is not None:
            self.monitor.epoch = trainer.current_epoch

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Tell the loss of ``training_step``, which Lightning has divided by the number of accumulated batches."""
        if self.monitor is not None:
            self.monitor.loss(loss.detach() * trainer.accumulate_grad_batches)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the monitor; its history stays."""
        if self.monitor is not None:
            self.monitor.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the monitor, so that what was measured is written."""
        self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Give the monitor's state to Lightning's checkpoint."""
        return {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state from Lightning's checkpoint; the monitor gets it when training starts."""
        self._restored = state_dict or None
