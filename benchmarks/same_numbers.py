"""Train eight configs with an older commit and with the present source, and compare the results bit for bit.

    python benchmarks/same_numbers.py OLD_COMMIT

Compared are the final weights, the weights that were kept, every metric row, every recorded step, the config, its
identity and the result (without the times it took). ``renamed.json`` beside this file lists the names that have
changed between the two, old to new; any other difference is an error. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
RENAMED: dict[str, dict[str, str]] = json.loads((ROOT / "benchmarks" / "renamed.json").read_text())
COMMON = "--data digits --threads 1 --quiet"
CONFIGS = {
    "sphere-sgd-total-exact": "--elr 0.01 --epochs 6 --batch-size 64 --keep-every 3",
    "sphere-momentum-row-exact": "--elr 0.005 --momentum 0.9 --granularity row --epochs 4 --augment "
    "--record-steps True",
    "sphere-adam-group-online": "--elr 0.001 --optimizer adam --granularity group --epochs 4 --evaluation online",
    "space-sgd-exact": "--lr 0.1 --weight-decay 0.01 --epochs 6 --schedule cosine --warmup 20",
    "space-momentum-online": "--lr 0.05 --momentum 0.9 --weight-decay 0.001 --variant standard --epochs 4 "
    "--evaluation online --recompute-bn",
    "space-adamw-group": "--lr 0.01 --optimizer adamw --weight-decay 0.1 --granularity group --model mlp --loss mse "
    "--epochs 5 --label-noise 0.2 --seed 3",
    "sphere-guessing-accumulate": "--elr 2.0 --gradient accumulate --batch-size 128 --epochs 30 --normalization group",
    "resumed": "--lr 0.1 --momentum 0.5 --weight-decay 0.02 --epochs 60 --eval-every 20",
}
#: killed as soon as it has a checkpoint, then run again
RESUMED = "resumed"


def train(source: Path, name: str, folder: Path) -> bool:
    """Train one config with the package in ``source``; whether it was killed on the way."""
    command = [sys.executable, "-m", "scaleinv", "train", *COMMON.split(), *CONFIGS[name].split(), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    where = [sys.executable, "-c", "import scaleinv; print(scaleinv.__file__)"]
    if not subprocess.run(where, env=environment, capture_output=True, text=True).stdout.startswith(str(source)):
        sys.exit(f"another scaleinv than the one in {source} would be run")
    killed = False
    if name == RESUMED:
        with subprocess.Popen(command, env=environment, cwd=folder.parent, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not list((folder / "checkpoints").glob("step-*")):
                time.sleep(0.02)
            if killed := process.poll() is None:
                process.send_signal(signal.SIGKILL)
    done = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} with {source}: {done.stdout}{done.stderr}")
    return killed


def renamed(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {RENAMED[kind].get(name, name): value for name, value in values.items()}


def content(folder: Path, old: bool) -> dict[str, dict[str, Any]]:
    """What a run folder holds, by kind and name; an old one under its new names."""

    def named(kind: str, values: dict[str, Any]) -> dict[str, Any]:
        return renamed(kind, values) if old else values

    config = json.loads((folder / "config.json").read_text())
    identity = RENAMED["identity"].get(config["identity"], config["identity"]) if old else config["identity"]
    result = json.loads((folder / "result.json").read_text())
    del result["timing"]
    result.pop("checksum", None)  # of all of it, the times included
    found = {"config": named("config", config["config"]), "identity": {"identity": identity}}
    found["result"] = named("result", result)
    (last,) = (folder / "checkpoints").glob("step-*")
    files = [last / "weights.safetensors", *sorted((folder / "weights").glob("*.safetensors"))]
    found["weights"] = {
        f"{file.relative_to(folder).as_posix()}: {tensor}": (str(value.dtype), tuple(value.shape), bits(value.numpy()))
        for file in files
        for tensor, value in load_file(file).items()
    }
    rows = named("columns", columns(pq.read_table(folder / "metrics" / "part-final.parquet", partitioning=None)))
    for kind, column in (("quantities", "quantity"), ("splits", "split")):
        if old:
            rows[column] = np.array([RENAMED[kind].get(word, word) for word in rows[column]])
    found["rows"] = {name: bits(column) for name, column in rows.items()} | {"number of": len(rows["value"])}
    steps = folder / "metrics" / "steps-final.parquet"
    if steps.exists():
        recorded = named("steps", columns(pq.read_table(steps, partitioning=None)))
        found["steps"] = {name: bits(column) for name, column in recorded.items()}
        found["steps"]["number of"] = len(next(iter(recorded.values())))
    return found


def columns(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in table.column_names}


def bits(values: np.ndarray) -> bytes:
    """Equal for equal bits alone: NaN is NaN, and 0.0 is not -0.0."""
    return b"\0".join(str(v).encode() for v in values) if values.dtype.kind in "OUS" else values.tobytes()


def differences(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind, {}), new.get(kind, {})
        for name in sorted(before.keys() | after.keys()):
            if name not in before or name not in after:
                found.append(f"{kind}: {name} is only in the {'old' if name in before else 'new'} run")
            elif before[name] != after[name]:
                short = all(not isinstance(side[name], (bytes, tuple)) for side in (before, after))
                found.append(f"{kind}: {name} differs" + (f", {before[name]} and {after[name]}" if short else ""))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD_COMMIT")
    parser.add_argument("--only", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    chosen = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="scaleinv-same-numbers-"))
    tree = work / "old-source"
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), chosen.old], check=True)
    rows = steps = tensors = 0
    failed = []
    try:
        for side in ("old", "new"):
            (work / side).mkdir()
        for name in chosen.only:
            with ThreadPoolExecutor(2) as both:
                sides = ((tree, work / "old"), (ROOT, work / "new"))
                jobs = [both.submit(train, source, name, folder / name) for source, folder in sides]
                killed = [job.result() for job in jobs]
            if name == RESUMED and not all(killed):
                failed.append(f"{name}: ended before it could be killed, so nothing was resumed")
            old, new = content(work / "old" / name, old=True), content(work / "new" / name, old=False)
            found = differences(old, new)
            failed += [f"{name}: {one}" for one in found]
            rows, tensors = rows + new["rows"]["number of"], tensors + len(new["weights"])
            steps += new.get("steps", {}).get("number of", 0)
            print(f"{name:<28} {'same' if not found else f'{len(found)} differences'}", flush=True)
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
        shutil.rmtree(work, ignore_errors=True)
    print("\n".join(failed), end="\n" if failed else "")
    told = sum(map(len, RENAMED.values()))
    print(
        f"{len(chosen.only)} configs, {tensors} tensors, {rows} rows and {steps} recorded steps compared bit for bit; "
        f"{told} renamed names; {len(failed)} differences"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
