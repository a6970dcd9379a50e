"""Train a small network with weight decay until its loss spikes, and log it as a CSV.

python examples/spikes.py [FILE.csv]; then: scaleinv periods FILE.csv --lr 0.5 --weight-decay 0.005. Needs scikit-learn.
examples/spikes.csv is what it wrote on one machine; on another the spikes come at other steps.
"""

import argparse
import csv
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from scaleinv import Monitor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("file", nargs="?", type=Path, default=Path("spikes.csv"), metavar="FILE.csv")
out: Path = parser.parse_args().file

torch.manual_seed(0)
pixels, digits = load_digits(return_X_y=True)
x, y = torch.tensor(pixels[:256], dtype=torch.float32) / 16, torch.tensor(digits[:256])
model = nn.Sequential(
    nn.Linear(64, 32, bias=False),
    nn.BatchNorm1d(32),
    nn.ReLU(),
    nn.Linear(32, 32, bias=False),
    nn.BatchNorm1d(32),
    nn.ReLU(),
    nn.Linear(32, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.005)
monitor = Monitor(model, optimizer, inputs=x[:32], every=1)
for _ in range(2000):
    batch = torch.randint(len(x), (128,))
    loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
    optimizer.zero_grad()
    loss.backward()
    monitor.loss(loss)
    optimizer.step()

history = monitor.history()
columns = {"step": "step", "loss": "loss", "rho": "total/rho", "eg": "total/eg"}
with out.open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(columns)
    table.writerows([f"{value:.5g}" for value in row] for row in zip(*(history[name] for name in columns.values())))
