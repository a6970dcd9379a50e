"""What keeping freed memory saves of a training step: the processor's time with it over that without.

SI ConvNet of width 16, batch 32, images of CIFAR-10's size, one thread. Both ways run in processes of their own, in
turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional


def measure(keep: bool, steps: int) -> float:
    """Milliseconds of processor time a step."""
    from scaleinv.lab.memory import keep_freed_memory
    from scaleinv.lab.models import build_model

    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    net = build_model("convnet", classes=10, in_shape=(3, 32, 32), width=16, generator=draw)
    net = net.to(memory_format=torch.channels_last)
    images = torch.randn(32, 3, 32, 32, generator=draw).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (32,), generator=draw)
    start = 0.0
    for step in range(steps + 5):
        if step == 5:
            start = time.process_time()
        net.zero_grad(set_to_none=True)
        functional.cross_entropy(net(images), labels).backward()
    return 1e3 * (time.process_time() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--way", choices=["keep", "give"], help="one way, in this process")
    options = parser.parse_args()
    if options.way:
        print(measure(options.way == "keep", options.steps))
        return
    times: dict[str, list[float]] = {"keep": [], "give": []}
    for _ in range(options.rounds):
        for way, values in times.items():
            command = [sys.executable, __file__, "--way", way, "--steps", str(options.steps)]
            values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    ratio = statistics.median(a / b for a, b in zip(times["keep"], times["give"]))
    medians = {way: statistics.median(values) for way, values in times.items()}
    print(f"a step: {medians['give']:.1f} ms, with freed memory kept {medians['keep']:.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
