"""timm's resnet18 with AdamW on digits blown up to 32x32.  python examples/timm_resnet18.py [steps]

Needs timm and scikit-learn. Every convolution has a BatchNorm behind it, so all 20 are
scale-invariant; the last layer and most gains and biases of the norms are not, and of these the monitor tells angles
only.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from scaleinv import Monitor
from scaleinv.plugins import load_object

create_model = load_object("timm:create_model")  # as `import timm`, which fails where no torchvision fits torch
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("steps", nargs="?", type=int, default=60)
steps: int = parser.parse_args().steps
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
small = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
x, y = functional.interpolate(small, size=(32, 32)), torch.tensor(labels)

model = create_model("resnet18", num_classes=10, in_chans=1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
monitor = Monitor(model, optimizer, inputs=x[:8], total_steps=steps)

for _ in range(steps):
    batch = torch.randint(len(x), (32,))
    loss = functional.cross_entropy(model(x[batch]), y[batch])
    optimizer.zero_grad()
    loss.backward()
    monitor.loss(loss)
    optimizer.step()

print(monitor.summary())
monitor.close()
