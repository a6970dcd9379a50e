"""A plain training loop on scikit-learn's digits, with a Monitor.  python examples/digits_loop.py [steps] [run folder]

Needs scikit-learn. BatchNorm makes the convolutions scale-invariant; their biases are dead, and the monitor says so.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from scaleinv import Monitor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("steps", nargs="?", type=int, default=1500)
parser.add_argument("sinks", nargs="*", help="where the monitor writes, such as a folder")
asked = parser.parse_args()
steps: int = asked.steps
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
y = torch.tensor(labels)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Flatten(), nn.Linear(32 * 4, 10),
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, weight_decay=5e-3)
monitor = Monitor(model, optimizer, inputs=x[:64], total_steps=steps, sinks=asked.sinks)

for _ in range(steps):
    batch = torch.randint(len(x), (64,))
    loss = functional.cross_entropy(model(x[batch]), y[batch])
    optimizer.zero_grad()
    loss.backward()
    monitor.loss(loss)
    optimizer.step()

print(monitor.summary())
monitor.close()
