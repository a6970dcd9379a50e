"""A callback for Hugging Face's Trainer: ``Trainer(..., callbacks=[MonitorCallback()])``.

In a loop of your own with Accelerate no callback is needed: ``Monitor(model, optimizer)`` after
``accelerator.prepare``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.monitor.monitor import Monitor

if TYPE_CHECKING:
    _Callback: Any = object
else:
    try:
        from transformers import TrainerCallback as _Callback
    except ImportError:
        raise UserError("the Trainer callback needs transformers: pip install transformers accelerate") from None

_FILE = "scaleinv_monitor.pt"


class MonitorCallback(_Callback):  # type: ignore[misc]
    """A :class:`~scaleinv.Monitor` of the Trainer's optimizer, from the start of ``train`` to its end.

    The loss is the Trainer's: the model's own (``output.loss``), averaged over accumulated batches, or summed where the
    Trainer gives the model ``num_items_in_batch``, by which it divides already. (With ``compute_loss_func`` or label
    smoothing the Trainer computes another loss; tell that one yourself: ``callback.monitor.loss(loss)``.) The state is
    saved beside every checkpoint and taken up when training is resumed from one in ``output_dir``. Options are those of
    Monitor; for your trackers give sinks, e.g. ``sinks=Wandb()``, which joins the run that the Trainer has opened.

    ``monitor``: the Monitor, after the start of ``train``.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._hook: Any = None
        self._parts: list[Tensor] = []  # losses of the batches since the last step
        self._divided = False
        self._times = 1
        self.monitor: Monitor | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach the monitor: model and optimizer are there now."""
        self._stop()
        options = {"total_steps": state.max_steps or None, **self._options}
        model: nn.Module = kwargs["model"]
        self.monitor = Monitor(model, kwargs["optimizer"], **options)
        self._hook = model.register_forward_hook(self._take_loss, with_kwargs=True)
        self._parts, self._divided = [], False
        # the model's loss is divided by the items of all processes, which the Trainer multiplies by their number
        several = getattr(args, "average_tokens_across_devices", False)
        self._times = max(1, getattr(args, "world_size", 1)) if several else 1
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE
        if state.global_step and saved.exists():
            self.monitor.load_state_dict(torch.load(saved, weights_only=True))

    def _take_loss(self, model: nn.Module, inputs: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not (model.training and torch.is_grad_enabled()) or self.monitor is None:
            return
        loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
        if loss is None and isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            loss = output[0] if output[0].ndim == 0 else None
        if isinstance(loss, Tensor):
            self._divided = kwargs.get("num_items_in_batch") is not None
            self._parts.append(loss.detach())

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the monitor the loss of the accumulated batches."""
        if self.monitor is not None and self._parts:
            parts = torch.stack([p.float().mean() for p in self._parts])
            self.monitor.loss(parts.sum() * self._times if self._divided else parts.mean())
        self._parts = []

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the monitor the epoch, which its rows hold."""
        if self.monitor is not None:
            self.monitor.epoch = int(state.epoch or 0)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save the monitor's state beside the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.monitor is not None and state.is_world_process_zero and folder.is_dir():
            torch.save(self.monitor.state_dict(), folder / _FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the monitor; its history stays."""
        self._stop()

    def _stop(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if self.monitor is not None:
            self.monitor.close()
