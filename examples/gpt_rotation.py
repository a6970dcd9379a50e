"""How fast does a GPT turn?  python examples/gpt_rotation.py [steps] [adamw|muon] [qk|plain]

Needs tiny-shakespeare. With qk-norm the query and key matrices are scale-invariant each by itself, and AdamW and Muon
turn them at a rate that learning rate, weight decay and beta alone decide. Without it no matrix is. In both,
everything that writes into the residual stream (embeddings, attention outputs, MLP outputs) is scale-invariant
together, since every reader normalises.
"""

import argparse

import torch
from gpt import GPT, batch, text
from torch.nn import functional

from scaleinv import Monitor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("steps", nargs="?", type=int, default=800)
parser.add_argument("kind", nargs="?", choices=["adamw", "muon"], default="adamw")
parser.add_argument("attention", nargs="?", choices=["qk", "plain"], default="qk")
asked = parser.parse_args()
steps, kind = asked.steps, asked.kind
torch.manual_seed(0)
data = text()
model = GPT(qk_norm=asked.attention == "qk")

matrices = [p for n, p in model.named_parameters() if n.startswith("blocks")]
rest = [p for n, p in model.named_parameters() if not n.startswith("blocks")]
if kind == "muon":
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.2)
    optimizers = [muon, torch.optim.AdamW(rest, lr=3e-3, weight_decay=1.0)]
else:
    optimizers = [torch.optim.AdamW(matrices + rest, lr=3e-3, weight_decay=1.0)]
monitor = Monitor(model, optimizers, inputs=batch(data, 4)[0], total_steps=steps)

for _ in range(steps):
    x, y = batch(data)
    loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    model.zero_grad()
    loss.backward()
    monitor.loss(loss)
    for optimizer in optimizers:
        optimizer.step()

print(monitor.summary())
for f in monitor.forecasts():
    print(f"{f.group:24s} turns {f.angle:.2e} rad a step, predicted at equilibrium {f.equilibrium_angle:.2e}")
monitor.close()
