"""Speed and memory of ``find_symmetries`` against the naive reference; prints ratios.

    python benchmarks/symmetry.py [--columns 12] [--full] [--large gpt2|llama [--threads 2]] [--deep]

The reference is what one writes first: float64, batch 12, one ``torch.func.jvp`` over all p * exp(s_i) per tensor,
then an
SVD. It gives the null space and nothing else; ours also picks the basis, tests every claim and measures the eps
defect. The
reference is timed on ``--columns`` tensors, evenly spread, and scaled to all of them (``--full``: on all). CPU time
of one
thread, reference and ours in turns, so that a busy machine does not decide.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from scaleinv.lab.models import build_model
from scaleinv.plugins import load_object
from scaleinv.symmetry import find_symmetries, make_scale_invariant


def resnet() -> tuple[nn.Module, Tensor]:
    """ResNet-18, width 64, 61 tensors, input 12x3x16x16."""
    generator = torch.Generator().manual_seed(0)
    model = build_model("resnet18", classes=10, variant="standard", in_shape=(3, 16, 16), width=64, generator=generator)
    return model, torch.randn(12, 3, 16, 16, generator=generator)


def naive_jacobian(model: nn.Module, inputs: Tensor, which: list[int] | None = None) -> Tensor:
    """Columns of d outputs / d s, one forward-mode pass over the whole network each (M, T)."""
    parameters = {k: p.detach().double() for k, p in model.named_parameters()}
    buffers = {k: b.double() if b.is_floating_point() else b for k, b in model.named_buffers()}
    x, names = inputs.double(), list(parameters)

    def outputs(s: Tensor) -> Tensor:
        scaled = {k: parameters[k] * torch.exp(s[i]) for i, k in enumerate(names)}
        result: Tensor = functional_call(model, (scaled, {k: b.clone() for k, b in buffers.items()}), (x,))
        return result.reshape(-1)

    zero = torch.zeros(len(names), dtype=torch.float64)
    columns = []
    for i in range(len(names)) if which is None else which:
        tangent = torch.zeros_like(zero)
        tangent[i] = 1
        columns.append(jvp(outputs, (zero,), (tangent,))[1])
    return torch.stack(columns, dim=1)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def training_step(model: nn.Module, x: Tensor) -> None:
    """One step of SGD with momentum, float32."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.nn.functional.cross_entropy(model(x), torch.arange(12) % 10).backward()
    optimizer.step()


def peak(task: str) -> float:
    """MiB above an empty process that a task needs, in a process of its own."""
    command = [sys.executable, __file__, "--task", task]
    # freed blocks go back to the system, so that the peak is what was alive at once
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(result.stdout)["peak"])


def run_task(task: str) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    small = build_model("mlp", classes=10, variant="standard", in_shape=(1, 4, 4), width=4, generator=generator)
    find_symmetries(small, torch.randn(4, 1, 4, 4))  # libraries loaded
    del small
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    model, x = resnet()
    if task == "step":
        training_step(model, x)
    else:
        find_symmetries(model, x, defect=task == "all")
    print(json.dumps({"peak": memory("VmHWM") - before}))


def memory(key: str) -> float:
    """MiB from /proc/self/status (Linux)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1]) / 1024


def large(kind: str, threads: int) -> None:
    """Print CPU and wall seconds, and the peak memory in GB and in units of the float32 weights, the model included."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, ids = _language_model(kind)
    parameters = sum(p.numel() for p in model.parameters())
    weights = parameters * 4 / 2**20
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_symmetries(model, ids)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = memory("VmHWM") - before + weights
    size = f"{len(found.shapes)} tensors, {parameters / 1e6:.0f} M parameters"
    cost = f"{cpu:.1f} s CPU, {wall:.1f} s wall on {threads} thread{'s' * (threads > 1)}"
    held = f"{peak * 2**20 / 1e9:.1f} GB, {peak / weights:.1f}x the float32 weights"
    print(f"{kind}, {size}: {cost}; memory {held}; {found.verdict}: {found.headline()}")


def _language_model(kind: str) -> tuple[nn.Module, Tensor]:
    import transformers

    if kind == "gpt2":  # 124 M, 2x16 tokens
        return transformers.GPT2LMHeadModel(transformers.GPT2Config()), torch.randint(50257, (2, 16))
    config = transformers.LlamaConfig(  # 1.1 B, as TinyLlama
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
        num_key_value_heads=4, use_cache=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), torch.randint(32000, (1, 16))


def deep() -> None:
    """Print CPU seconds for a deep MLP, and for the conversion of a small ViT (needs timm)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [layer for _ in range(150) for layer in (nn.Linear(16, 16), nn.LayerNorm(16), nn.ReLU())]
    mlp = nn.Sequential(*layers, nn.Linear(16, 8))
    cpu = seconds(lambda: find_symmetries(mlp, torch.randn(64, 16), defect=False))
    print(f"MLP of 150 layers with layer norm, {len(list(mlp.parameters()))} tensors: {cpu:.1f} s CPU")
    plain = nn.Sequential(*(layer for k, layer in enumerate(layers) if k % 3 != 1), nn.Linear(16, 8))
    cpu = seconds(lambda: find_symmetries(plain, torch.randn(64, 16), defect=False))
    print(f"the same without norms, {len(list(plain.parameters()))} tensors: {cpu:.1f} s CPU")
    create = load_object("timm:create_model")
    vit = create("vit_tiny_patch16_224", num_classes=10, depth=4, embed_dim=24, num_heads=3, img_size=32)
    cpu = seconds(lambda: make_scale_invariant(vit, torch.randn(4, 3, 32, 32)))
    size = sum(p.numel() for p in vit.parameters())
    print(f"make_scale_invariant of a ViT with {size} parameters: {cpu:.1f} s CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--large", choices=["gpt2", "llama"], help="a model of that size instead (needs transformers)")
    parser.add_argument("--threads", type=int, default=1, help="of the model of that size")
    parser.add_argument("--deep", action="store_true", help="a deep MLP and the conversion of a ViT instead")
    parser.add_argument("--task", choices=["step", "search", "all"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run_task(options.task)
        return
    if options.large:
        large(options.large, options.threads)
        return
    if options.deep:
        deep()
        return
    torch.set_num_threads(1)
    model, x = resnet()
    count = len(list(model.parameters()))
    columns = count if options.full else min(options.columns, count)
    which = sorted({round(i * (count - 1) / max(columns - 1, 1)) for i in range(columns)})
    half = len(which) // 2
    first = seconds(lambda: naive_jacobian(model, x, which[:half]))
    search = seconds(lambda: find_symmetries(model, x, defect=False))
    second = seconds(lambda: naive_jacobian(model, x, which[half:]))
    everything = seconds(lambda: find_symmetries(model, x))
    naive = (first + second) * count / len(which)
    print(f"ResNet-18, width 64, {count} tensors, input 12x3x16x16, CPU seconds of one thread")
    print(f"  naive Jacobian ({len(which)} of {count} columns timed)      {naive:8.1f}")
    print(f"  search, basis and test of every claim        {search:8.1f}   ratio {naive / search:.1f}")
    print(f"  with the eps defect of every group           {everything:8.1f}   ratio {naive / everything:.1f}")
    step, ours, full = peak("step"), peak("search"), peak("all")
    shares = f"search and test {ours:.0f} ({ours / step:.1f}x); all {full:.0f} ({full / step:.1f}x)"
    print(f"  peak memory with the model, MiB: training step {step:.0f}; {shares}")


if __name__ == "__main__":
    main()
