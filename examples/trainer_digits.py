"""Hugging Face Trainer: one callback.  python examples/trainer_digits.py [steps]

Needs transformers, accelerate and scikit-learn. In a loop of your own with Accelerate, ``Monitor(model, optimizer)``
is enough.
"""

import argparse
import tempfile

import torch
import transformers
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from scaleinv.monitor.callbacks.huggingface import MonitorCallback

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("steps", nargs="?", type=int, default=300)
steps: int = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
data = [
    {"x": torch.tensor(i, dtype=torch.float32) / 16, "labels": torch.tensor(label)} for i, label in zip(images, labels)
]


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64, bias=False), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x, labels=None):
        logits = self.net(x)
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


callback = MonitorCallback(inputs=torch.rand(8, 64))
with tempfile.TemporaryDirectory() as folder:
    options = transformers.TrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=64,
        learning_rate=1e-2, weight_decay=0.5, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(Digits(), options, train_dataset=data, callbacks=[callback]).train()
print(callback.monitor.summary())
