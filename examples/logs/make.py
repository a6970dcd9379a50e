"""Make the five sample logs of this folder: small trainings on scikit-learn's digits, in the forms of other tools.

python examples/logs/make.py [folder]     (half a minute)

| file | training | form |
|---|---|---|
| wandb.csv | SGD, lr 0.5, wd 0.005: periods | the page of W&B, "Export as CSV" |
| metrics.csv | SGD, lr 0.25, momentum 0.5, wd 0.005: periods | Lightning's CSVLogger |
| trainer_state.json | SGD, lr 0.5, wd 0.05: an equilibrium | Hugging Face Trainer |
| train.log | the first training, its loss alone | lines of text |
| events.out.tfevents.1700000000.example | SGD, lr 0.1, wd 0.001, resumed: no period yet | TensorBoard |
"""

import csv
import json
import struct
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from scaleinv.lab.data import load_dataset

Row = tuple[int, float, float, float]  # step, loss, norm of the scale-invariant weights, norm of their gradient
data = load_dataset("digits")
images, labels = data.train_images[:256].flatten(1), data.train_labels[:256]


def train(lr: float, wd: float, momentum: float = 0.0, steps: int = 3000, every: int = 4, seed: int = 0) -> list[Row]:
    """Train an MLP whose first two matrices have no scale; rows are steps, before the optimizer acts."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    free = [model[0].weight, model[3].weight]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=wd, momentum=momentum)
    generator, rows = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        batch = torch.randint(256, (128,), generator=generator)
        loss = functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        if step % every == 0:
            norm = torch.cat([w.detach().flatten() for w in free]).norm().item()
            gradient = torch.cat([w.grad.flatten() for w in free if w.grad is not None]).norm().item()
            rows.append((step, loss.item(), norm, gradient))
        optimizer.step()
    return rows


def wandb(path: Path, rows: list[Row]) -> None:
    """Write what the page of W&B exports: a column a metric and run, with its least and largest beside it."""
    names = [f"calm-lake-7 - {name}" for name in ("train/loss", "weight_norm", "grad_norm")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["Step", *(f"{name}{end}" for name in names for end in ("", "__MIN", "__MAX"))])
        for step, *values in rows:
            writer.writerow([step, *(f"{value:.6g}" for value in values for _ in range(3))])


def lightning(path: Path, rows: list[Row], lr: float) -> None:
    """Write Lightning's metrics.csv: rows of training, of the learning rate and of validation, most cells empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "grad_norm", "lr-SGD", "step", "train_loss", "val_loss", "weight_norm"])
        for k, (step, loss, norm, gradient) in enumerate(rows):
            writer.writerow([k // 100, f"{gradient:.6g}", "", step, f"{loss:.6g}", "", f"{norm:.7g}"])
            if k % 100 == 99:
                writer.writerow([k // 100, "", lr, step, "", "", ""])
                writer.writerow([k // 100, "", "", step, "", f"{loss:.6g}", ""])


def trainer(path: Path, rows: list[Row], lr: float) -> None:
    """Write a Trainer's state, with the norm that a callback added to its logs."""
    names = ("loss", "weight_norm", "grad_norm")
    history = [
        {"epoch": step / 2, "learning_rate": lr, "step": step, **{n: float(f"{x:.7g}") for n, x in zip(names, values)}}
        for step, *values in rows
    ]
    last = {"epoch": history[-1]["epoch"], "eval_loss": 0.5, "step": rows[-1][0]}
    state = {"best_metric": None, "global_step": rows[-1][0], "log_history": [*history, last], "max_steps": len(rows)}
    path.write_text(json.dumps(state, indent=0) + "\n", encoding="utf-8")


def text(path: Path, rows: list[Row]) -> None:
    """Write the lines that a training script prints."""
    lines = [
        "number of parameters: 3,498",
        *(f"step {step}/3000 | loss {loss:.6g} | lr 5.00e-01" for step, loss, *_ in rows),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def tensorboard(path: Path, rows: list[Row]) -> None:
    """Write an event file: records of length, checksum, event, checksum (left 0: our reader does not look at it)."""

    def varint(value: int) -> bytes:
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    def record(event: bytes) -> bytes:
        return struct.pack("<QI", len(event), 0) + event + bytes(4)

    written = [record(b"\x09" + struct.pack("<d", 1.7e9) + field(3, b"brain.Event:2"))]
    for k, (step, loss, norm, gradient) in enumerate(rows):
        for tag, value in (("Loss/train", loss), ("weight_norm", norm), ("grad_norm", gradient)):
            scalar = field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            written.append(record(b"\x09" + struct.pack("<d", 1.7e9 + k) + b"\x10" + varint(step) + field(5, scalar)))
    path.write_bytes(b"".join(written))


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    folder.mkdir(parents=True, exist_ok=True)
    periodic = train(0.5, 0.005)
    wandb(folder / "wandb.csv", periodic)
    lightning(folder / "metrics.csv", train(0.25, 0.005, 0.5, steps=4000), 0.25)
    trainer(folder / "trainer_state.json", train(0.5, 0.05, steps=400, every=1), 0.5)
    text(folder / "train.log", periodic)
    slow = train(0.1, 0.001, steps=2400, every=10)
    tensorboard(folder / "events.out.tfevents.1700000000.example", slow[:160] + slow[120:])
