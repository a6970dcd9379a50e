"""A GPT whose query and key matrices keep their norm ("hyperball"): the ELR is scheduled.

python examples/gpt_hyperball.py [steps]

Needs tiny-shakespeare. Sphere takes the scale-invariant matrices; AdamW does the rest as ever. The monitor shows a
constant norm, and an angle that follows the schedule at once, where weight decay would need 1/(2 lr wd) steps to
follow.
"""

import argparse

import torch
from gpt import GPT, batch, text
from torch.nn import functional

from scaleinv import Monitor, Sphere

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("steps", nargs="?", type=int, default=400)
steps: int = parser.parse_args().steps
torch.manual_seed(0)
data = text()
model = GPT(qk_norm=True)
free = {n: [p] for n, p in model.named_parameters() if n.endswith((".q.weight", ".k.weight"))}

adamw = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
sphere = Sphere(adamw, free, elr=lambda step: 1e-3 if step < steps // 2 else 2e-4, granularity="tensor")
monitor = Monitor(model, sphere, groups=free, every=max(1, steps // 20))

for _ in range(steps):
    x, y = batch(data)
    loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    sphere.zero_grad()
    loss.backward()
    monitor.loss(loss)
    sphere.step()

print(monitor.summary())
table = monitor.history()
for i in range(0, len(table["step"]), 3):
    row = [table[f"blocks.0.q.weight/{quantity}"][i] for quantity in ("rho", "elr", "angle")]
    told = f"rho {row[0]:.4f}  ELR {row[1]:.1e}  angle {row[2]:.1e}"
    print(f"step {table['step'][i]:4d}  loss {table['loss'][i]:.3f}  {told}")
monitor.close()
