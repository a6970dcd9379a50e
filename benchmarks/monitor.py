"""What a Monitor costs, against no monitor and against what people write instead; ratios of whole steps, interleaved.

    python benchmarks/monitor.py [mlp|resnet18|gpt2|all] [--rounds N] [--threads N]

One model; every round takes one training step with each watcher, in turn. ``ratio`` is the median over the rounds of
the time of the step with the watcher by that of the step without in the same round. ``share`` is the time spent in
the watcher itself by the time of the plain step: less noisy, since it does not contain the step. For the default
interval it is divided by the interval.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv import Monitor


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Gpt2(nn.Module):
    """The size of GPT-2 small (124M, tied head), random weights."""

    def __init__(
        self, width: int = 768, layers: int = 12, heads: int = 12, vocabulary: int = 50257, length: int = 1024
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return functional.linear(self.norm(h), self.tokens.weight)


def resnet18() -> tuple[nn.Module, Any, Callable[[], Tensor]]:
    """ResNet-18 for 32x32 images, batch 128, SGD with momentum."""
    from scaleinv.lab.models import build_model

    draw = torch.Generator().manual_seed(0)
    model = build_model("resnet18", classes=10, variant="standard", in_shape=(3, 32, 32), width=64, generator=draw)
    x, y = torch.randn(128, 3, 32, 32, generator=draw), torch.randint(10, (128,), generator=draw)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, lambda: functional.cross_entropy(model(x), y)


def gpt2() -> tuple[nn.Module, Any, Callable[[], Tensor]]:
    """GPT-2 small, 1024 tokens a step, AdamW."""
    torch.manual_seed(0)
    model = Gpt2()
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(50257, (2, 513), generator=draw)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    return model, optimizer, lambda: functional.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())


def mlp() -> tuple[nn.Module, Any, Callable[[], Tensor]]:
    """A batch-norm MLP of 27 thousand weights, batch 256, SGD with momentum: a step of about a millisecond."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    x, y = torch.randn(256, 64), torch.randint(10, (256,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return model, optimizer, lambda: functional.cross_entropy(model(x), y)


def whole_runs(make: Callable[[], Any], steps: int, rounds: int) -> None:
    """CPU time of whole runs with and without, interleaved: right also where other jobs take the cores away."""
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds + 1):  # the first round warms up
        for kind, every in (("no monitor", 0), ("every step", 1), ("default interval", None)):
            model, optimizer, loss_of = make()
            groups = ["0.weight", "3.weight"]
            monitor = None if every == 0 else Monitor(model, optimizer, groups=groups, every=every)
            begin = time.process_time()
            for _ in range(steps):
                step(model, optimizer, loss_of, monitor)
            seconds.setdefault(kind, []).append(time.process_time() - begin)
            if monitor is not None:
                monitor.close()
    base = seconds["no monitor"][1:]
    print(f"  CPU time of a step: {median(base) / steps * 1e3:.2f} ms (median of {rounds} runs of {steps} steps)")
    for kind in ("every step", "default interval"):
        print(f"  {kind:<17} ratio {median(t / p for t, p in zip(seconds[kind][1:], base)):.3f}")


class Naive:
    """What users write: norms, gradient norms and angles of every parameter, one ``.item()`` each."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.rows, self.spent = model, [], 0.0

    def before(self) -> None:
        self.old = {n: p.detach().clone() for n, p in self.model.named_parameters()}

    def after(self) -> None:
        row = {}
        for n, p in self.model.named_parameters():
            w, x = self.old[n].flatten(), p.detach().flatten()
            row[n] = (w.norm().item(), p.grad.norm().item(), functional.cosine_similarity(w, x, dim=0).item())
        self.rows.append(row)
        del self.old


class Histograms(Naive):
    """What watchers of experiment trackers do: a histogram of every weight and gradient."""

    def before(self) -> None:
        pass

    def after(self) -> None:
        for p in self.model.parameters():
            for t in (p.detach(), p.grad):
                low, high = t.min().item(), t.max().item()
                self.rows.append(torch.histc(t.float(), 64, low, high).tolist())


def step(model: nn.Module, optimizer: Any, loss_of: Callable[[], Tensor], watcher: Any = None) -> float:
    """Seconds of one training step."""
    begin = time.perf_counter()
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    if isinstance(watcher, Monitor):
        watcher.loss(loss)
    if isinstance(watcher, Naive):
        inside = time.perf_counter()
        watcher.before()
        watcher.spent = time.perf_counter() - inside
    optimizer.step()
    if isinstance(watcher, Naive):
        inside = time.perf_counter()
        watcher.after()
        watcher.spent += time.perf_counter() - inside
    return time.perf_counter() - begin


def timed(monitor: Monitor) -> list[float]:
    """Make the monitor tell the time it takes in its hooks."""
    spent: list[float] = []

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            result = method(*args)
            spent.append(time.perf_counter() - begin)
            return result

        return call

    for hooks in (monitor.optimizers[0]._optimizer_step_pre_hooks, monitor.optimizers[0]._optimizer_step_post_hooks):
        for hook in hooks.values():
            hook.call = wrap(hook.call)
    return spent


def measure(name: str, make: Callable[[], Any], rounds: int) -> None:
    model, optimizer, loss_of = make()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    print(f"\n{name}: {weights / 4e6:.1f}M weights, {len(list(model.parameters()))} tensors")
    step(model, optimizer, loss_of)  # allocates gradients and the state of the optimizer
    times: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    copied = 0
    for _ in range(rounds):
        for kind in ("no monitor", "every step", "naive .item()", "histograms"):
            if kind == "no monitor":
                plain = step(model, optimizer, loss_of)
                times.setdefault(kind, []).append(plain)
                continue
            if kind == "every step":
                monitor = Monitor(model, optimizer, every=1)
                spent = timed(monitor)
                sizes: list[int] = []
                look = optimizer.register_step_post_hook(lambda *_, m=monitor, sizes=sizes: sizes.append(held(m)))
                seconds = step(model, optimizer, loss_of, monitor)
                copied = max(copied, *sizes)
                look.remove()
                left = held(monitor)
                monitor.close()
                inside = sum(spent)
                assert left == 0, "a copy is left between the steps"
            else:
                watcher = (Naive if kind.startswith("naive") else Histograms)(model)
                seconds = step(model, optimizer, loss_of, watcher)
                inside = watcher.spent
            times.setdefault(kind, []).append(seconds)
            print(f"    {kind}: step {seconds:.2f} s (plain {plain:.2f} s), of it {inside:.3f} s watching", flush=True)
            shares.setdefault(kind, []).append(inside)
    base = median(times["no monitor"])
    print(f"  plain step {base:.3f} s (median of {rounds})")
    print(f"  copy held while a logged step is taken: {copied / weights:.2f} of the weights; between steps: 0")
    for kind in ("every step", "naive .item()", "histograms"):
        ratio = median(t / p for t, p in zip(times[kind], times["no monitor"]))
        print(f"  {kind:<15} ratio {ratio:.3f}   share {median(shares[kind]) / base:.2%}")
    from scaleinv.monitor.interval import SHARE, nice

    share = median(shares["every step"]) / base
    every = nice(share / SHARE)
    print(f"  {'default interval':<15} every {every} at these costs, share {share / every:.2%}")


def held(monitor: Monitor) -> int:
    """Bytes of weights a monitor holds."""
    return sum(probe.bytes_held for probe in monitor._open.values())


def unlogged(make: Callable[[], Any]) -> None:
    """What the hooks cost on a step that is not logged."""
    model, optimizer, _ = make()
    monitor = Monitor(model, optimizer, every=10**6)
    monitor._steps.round = 1
    hooks = [*optimizer._optimizer_step_pre_hooks.values(), *optimizer._optimizer_step_post_hooks.values()]
    monitor._steps._due = [10**6]
    begin = time.process_time()
    for _ in range(10_000):
        for hook in hooks:
            hook(optimizer, (optimizer,), {})
    print(f"  a step that is not logged: {(time.process_time() - begin) / 1e4 * 1e6:.1f} microseconds")


def sums_alone(make: Callable[[], Any]) -> None:
    """What copies and sums of a logged step cost, without hooks, rates, records and rules: a floor of its cost."""
    from scaleinv.monitor.small import SmallStep, small_places

    model, _, loss_of = make()
    loss_of().backward()
    tensors = list(model.parameters())
    begin = time.process_time()
    with torch.no_grad():
        for _ in range(1000):
            for places in small_places(tensors).values():
                step_of = SmallStep(places, tensors)
                step_of.look()
                step_of.sums()
    print(f"  copies and sums of a logged step alone: {(time.process_time() - begin) * 1e3:.0f} microseconds")


def identical(make: Callable[[], Any], steps: int) -> None:
    """Losses and weights with and without, bit for bit."""
    results = []
    for watched in (False, True):
        model, optimizer, loss_of = make()
        monitor = Monitor(model, optimizer, every=1) if watched else None
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        results.append((losses, copy.deepcopy(model.state_dict())))
        assert monitor is None or len(monitor.history()["step"]) == steps
    (a, wa), (b, wb) = results
    same = a == b and all(torch.equal(wa[k], wb[k]) for k in wa)
    print(f"  losses and weights with and without after {steps} steps: {'bit-identical' if same else 'DIFFERENT'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="?", default="all", choices=["mlp", "resnet18", "gpt2", "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.which in ("mlp", "all"):
        print(f"\nmlp ({mlp.__doc__})")
        whole_runs(mlp, 500, options.rounds)
        whole_runs(mlp, 3000, max(1, options.rounds // 2))  # the default interval settles within 16 logged steps
        unlogged(mlp)
        sums_alone(mlp)
        identical(mlp, 20)
    for name, make in (("resnet18", resnet18), ("gpt2", gpt2)):
        if options.which in (name, "all"):
            measure(f"{name} ({make.__doc__})", make, options.rounds)
            unlogged(make)
            identical(make, 2)


if __name__ == "__main__":
    main()
