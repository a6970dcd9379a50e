"""Map the three regimes of your own network on your own arrays: five lines, a minute.

    python examples/own_problem.py [OUT]

Sequences of 40 places and 2 channels in three equally frequent classes, so a network that guesses errs in two of three
cases. Everything else is measured: which weights have no scale, what a constant answer costs, where the regimes lie.
"""

import argparse

import numpy as np
from torch import nn

import scaleinv as si


def make_net(width: int = 8) -> nn.Module:
    """Any factory of an nn.Module will do."""
    return nn.Sequential(
        nn.Conv1d(2, width, 5, padding=2, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(width, 2 * width, 5, padding=2, bias=False),
        nn.BatchNorm1d(2 * width),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 3),
    )


def waves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Waves of three frequencies, at random phases, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    inputs = rng.normal(0, 0.4, (count, 2, 40))
    inputs[:, 0] += np.sin(0.2 * (labels[:, None] + 2) * np.arange(40) + phase)
    return inputs, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="runs/own-problem")
    out = parser.parse_args().out
    problem = si.classification(make_net, train=waves(240, 0), test=waves(240, 1))
    # si: norms without gains and a frozen last layer, so that every trained weight has no scale
    sweep = si.sweep(problem, elr="1e-3:1:9", epochs=60, out=out, variant="si", batch_size=16)
    print(sweep)


if __name__ == "__main__":
    main()
