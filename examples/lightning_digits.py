"""Lightning: one callback.  python examples/lightning_digits.py [epochs]

Needs lightning and scikit-learn. The numbers go to the trainer's own logger.
"""

import argparse
import logging
import tempfile

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from scaleinv.monitor.callbacks.lightning import MonitorCallback

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("epochs", nargs="?", type=int, default=10)
epochs: int = parser.parse_args().epochs

logging.getLogger("lightning").setLevel(logging.ERROR)
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.5)


callback = MonitorCallback(groups=["net.0.weight"])
with tempfile.TemporaryDirectory() as folder:
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[callback],
        logger=CSVLogger(folder), enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Digits(), DataLoader(data, batch_size=64, shuffle=True))
print(callback.monitor.summary())
