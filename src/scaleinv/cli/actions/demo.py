"""Run ``scaleinv demo``: the toy function at three ELRs, the doctor's table of a small network, what to try next."""

import json
import sys
import textwrap
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from scaleinv.cli.demo import DemoCommand
from scaleinv.runfolder.files import plain
from scaleinv.studies.terminal import Terminal, say
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.render import terminal_table
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy

_ALPHAS = (1.0, 2.0, 3.0, 4.0, 5.0)
#: ELR times sum(alpha): below the threshold of convergence, in equilibrium, far beyond
_K = (0.6, 1.5, 30.0)
_NAMES = {1: "1 convergence", 2: "2 chaotic equilibrium", 3: "3 divergence"}
_STEPS, _SEEDS, _SHOWN = 4000, 4, 30
_BARS = "▁▂▃▄▅▆▇█"
_LR = 0.1
_NEXT = """\
What next
  your own model   scaleinv doctor FILE.py:FACTORY --input 8,3,32,32
  your own loop    monitor = scaleinv.Monitor(model, optimizer, inputs=batch), and at the end print(monitor.summary())
  your own log     scaleinv periods LOG.csv --lr 0.1 --weight-decay 5e-4   does the loss spike because of weight decay?
  real images      scaleinv sweep --data digits --model convnet --elr 1e-4:1:12 --epochs 60 --out runs/map"""


def run(command: DemoCommand) -> int:
    """Compute and print. Exit status 0: done."""
    began = time.perf_counter()
    console, said = Terminal(highlight=False, soft_wrap=True), not command.json
    if said:
        _intro(console)
    regimes = []
    for k in _K:
        regimes.append(_regime(k))
        if said:
            _row(console, regimes[-1])
    model = _network()
    found = find_symmetries(model, torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), device="cpu"))
    if command.json:
        say(json.dumps(plain({"toy": regimes, "doctor": found.to_dict()}), allow_nan=False))
        return 0
    console.print()
    head = "A small network: conv, batch norm, conv, batch norm, linear head. Which of its weights have no scale?"
    console.print(f"[bold]2[/] {head}\n")
    table = Terminal()
    for line in terminal_table(found, lr=_LR):
        table.print(line)
    console.print()
    told = (
        "On the weights called single, weight decay changes no function: it changes their norm, and with it the rate "
        "that acts on them. The bias called dead does nothing at all. The demo took "
    )
    console.print(textwrap.fill(f"{told}{time.perf_counter() - began:.0f} s.", 100) + "\n")
    console.print(_NEXT)
    return 0


def _intro(console: Terminal) -> None:
    console.print(
        "[bold]1[/] Three regimes. The toy function F = sum a_i x_i^2 / (x_i^2 + y_i^2), a = 1 to 5, does not change "
        "when x_i, y_i are\n  scaled, as weights in front of batch norm. On the sphere the effective learning rate "
        "(ELR) alone decides:\n"
    )
    console.print(
        f"    {'ELR':>6}  {'F at each of the first steps':<{_SHOWN}}  {'F':>8}  {'theory':>8}  {'cosine':>6}  regime"
    )


def _regime(k: float) -> dict[str, Any]:
    """Simulate at one ELR: F of the first steps, its level and the cosine over the second half, and theory's level."""
    total = sum(_ALPHAS)
    first = toy.simulate(_ALPHAS, [k / total], _SHOWN, every=1)
    record = toy.simulate(_ALPHAS, [k / total], _STEPS, seeds=_SEEDS)
    late = slice(len(record.loss) // 2, None)
    regime = kodryan2022.toy_regime(k)
    level = 0.0 if k < 1 else (kodryan2022.equilibrium_level(k) if regime == 2 else 0.5) * total
    return {
        "elr": k / total,
        "k": k,
        "regime": regime,
        "series": first.loss_at_end[:, 0, 0],
        "level": float(record.loss[late, 0].mean()),
        "theory": float(level),
        "cosine": float(record.cosine[late, 0].mean()),
    }


def _row(console: Terminal, found: dict[str, Any]) -> None:
    text = f"    {found['elr']:>6.3f}  {_line(found['series'])}  {found['level']:>8.2g}  {found['theory']:>8.2g}"
    console.print(f"{text}  {found['cosine']:>6.2f}  {_NAMES[found['regime']]}")


def _line(values: NDArray[np.float64]) -> str:
    """Draw a series as a line of bars, from 0 to the largest value of the toy function."""
    bars = _BARS if "utf" in (sys.stdout.encoding or "").lower() else " .:-=+*#"
    places = np.clip(values / sum(_ALPHAS) * (len(bars) - 1), 0, len(bars) - 1).round().astype(int)
    return "".join(bars[place] for place in places)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
