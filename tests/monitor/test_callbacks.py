"""The callbacks, each with the real library on a small real run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net, same_weights
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from scaleinv import Monitor

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def dataset(count: int = 8) -> TensorDataset:
    pairs = batches(count)
    return TensorDataset(torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs]))


def steps_of(folder: Path) -> list[int]:
    from scaleinv.runfolder.read import load_run

    return load_run(folder).table("online", "total", "loss").steps.tolist()


def test_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.loggers import CSVLogger

    from scaleinv.monitor.callbacks.lightning import MonitorCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()
            self.losses: list[float] = []

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = functional.cross_entropy(self.net(batch[0]), batch[1])
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    groups = [f"net.{name}" for name in FREE]

    def trainer(epochs: int, callback: Any, **options: Any) -> Any:
        callbacks = [] if callback is None else [callback]
        return lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", callbacks=callbacks, enable_progress_bar=False, gradient_clip_val=0.5,
            enable_model_summary=False, default_root_dir=tmp_path, accumulate_grad_batches=2, log_every_n_steps=1,
            **options,
        )  # fmt: skip

    loader = DataLoader(dataset(), batch_size=24)
    sinks = {"sinks": str(tmp_path / "rows")}
    callback, module, plain = MonitorCallback(groups=groups, every=1, **sinks), Module(), Module()
    logger = CSVLogger(tmp_path, name="log")
    first = trainer(2, callback, logger=logger)
    first.fit(module, loader)
    trainer(2, None, logger=False).fit(plain, loader)
    assert same_weights(module, plain)
    h = callback.monitor.history()
    assert h["step"].tolist() == list(range(8))
    assert h["net.0.weight/lr"] == pytest.approx([0.1] * 4 + [0.05] * 4)
    assert h["loss"] == pytest.approx(np.reshape(module.losses, (8, 2)).mean(axis=1))
    gradient = np.sqrt(sum(h[f"{g.name}/g"] ** 2 for g in callback.monitor.groups))
    assert gradient.max() <= 0.5 * (1 + 1e-5)  # after clipping
    text = (Path(logger.log_dir) / "metrics.csv").read_text()
    assert "scaleinv/net.0.weight/elr" in text.splitlines()[0]
    first.save_checkpoint(tmp_path / "x.ckpt")
    trainer(1, MonitorCallback(groups=groups, every=1, **sinks), logger=False).fit(Module(), loader)
    assert steps_of(tmp_path / "rows") == list(range(8))  # left as it is
    assert steps_of(tmp_path / "rows-2") == list(range(4))
    again = MonitorCallback(groups=groups, every=1, **sinks)
    trainer(3, again, logger=False).fit(module, loader, ckpt_path=tmp_path / "x.ckpt", weights_only=False)
    assert again.monitor.history()["step"].tolist() == list(range(12))
    assert steps_of(tmp_path / "rows") == list(range(12))


class Classifier(nn.Module):
    """A model as transformers likes it: gives the loss when it gets labels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.losses: list[float] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.net(x)
        if labels is None:
            return {"logits": logits}
        loss = functional.cross_entropy(logits, labels)
        if self.training:
            self.losses.append(loss.item())
        return {"loss": loss, "logits": logits}


def test_hugging_face_trainer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from scaleinv.monitor.callbacks.huggingface import MonitorCallback

    data = [{"x": x, "labels": y} for x, y in dataset()]

    def trainer(model: nn.Module, callback: Any, steps: int) -> Any:
        options = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=steps, per_device_train_batch_size=24, gradient_accumulation_steps=2,
            learning_rate=0.01, report_to=[], use_cpu=True, save_steps=4, disable_tqdm=True, seed=1,
            save_strategy="steps" if callback is not None else "no", eval_strategy="steps", eval_steps=3,
        )  # fmt: skip
        callbacks = [] if callback is None else [callback]
        return transformers.Trainer(model, options, train_dataset=data, eval_dataset=data[:24], callbacks=callbacks)

    groups = [f"net.{name}" for name in FREE]
    plain, model = Classifier(), Classifier()
    trainer(plain, None, 4).train()
    sinks = {"sinks": str(tmp_path / "rows")}
    callback = MonitorCallback(groups=groups, every=1, **sinks)
    trainer(model, callback, 4).train()
    assert same_weights(plain, model)
    h = callback.monitor.history()
    assert h["step"].tolist() == [0, 1, 2, 3]
    assert h["loss"] == pytest.approx(np.reshape(model.losses, (4, 2)).mean(axis=1))
    np.testing.assert_allclose(h["net.0.weight/elr"], h["net.0.weight/lr"] / h["net.0.weight/rho"], rtol=1e-6)
    assert callback.monitor.total_steps == 4
    assert not model._forward_hooks
    trainer(Classifier(), MonitorCallback(groups=groups, every=1, **sinks), 2).train()
    assert steps_of(tmp_path / "rows") == [0, 1, 2, 3]  # left as it is
    assert steps_of(tmp_path / "rows-2") == [0, 1]
    again = MonitorCallback(groups=groups, every=1, **sinks)
    trainer(Classifier(), again, 6).train(resume_from_checkpoint=True)
    assert again.monitor.history()["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert steps_of(tmp_path / "rows") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("kwargs", [True, False])
def test_the_loss_is_the_trainers(tmp_path: Path, accumulated: int, kwargs: bool) -> None:
    """A model that takes ``num_items_in_batch`` divides by it already, one that does not gives means."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from scaleinv.monitor.callbacks.huggingface import MonitorCallback

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = net()

        def forward(self, x: Any, labels: Any = None) -> dict[str, Any]:
            return {"loss": functional.cross_entropy(self.net(x), labels)}

    class Scaled(Tokens):
        def forward(self, x: Any, labels: Any = None, **more: Any) -> dict[str, Any]:
            items = more.get("num_items_in_batch")
            whole = functional.cross_entropy(self.net(x), labels, reduction="sum")
            return {"loss": whole / (len(x) if items is None else items)}

    options = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=8, gradient_accumulation_steps=accumulated, max_steps=4,
        logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    data = [{"x": x[i], "labels": y[i]} for x, y in batches(5) for i in range(24)]
    callback = MonitorCallback(every=1)
    trainer = transformers.Trainer(Scaled() if kwargs else Tokens(), options, train_dataset=data, callbacks=[callback])
    trainer.train()
    told = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    np.testing.assert_allclose(callback.monitor.history()["loss"], told, rtol=1e-3)


def test_accelerate_loop() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(dataset(), batch_size=24))
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            monitor.loss(loss)
            optimizer.step()
            optimizer.zero_grad()
    h = monitor.history()
    assert h["step"].tolist() == [0, 1, 2, 3]
    assert (h["0.weight/angle"] > 0).all()
