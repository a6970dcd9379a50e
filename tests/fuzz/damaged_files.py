"""A fuzzer of files: each damage to a folder of ours is refused or without effect, never silent.

Every file of a run, a killed run, a sweep, monitored runs in both forms and kept results of claims is damaged in every
way; whatever reads it must then give what it gave before, or refuse it by a UserError.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import random
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "faults"))
import scenarios
from injection import Injection, in_child
from torch import nn

from scaleinv import Monitor
from scaleinv.errors import UserError
from scaleinv.lab.start import find_start, read_start
from scaleinv.monitor.sinks import RunFolder
from scaleinv.papers.verify import Outcome, _load, _store
from scaleinv.runfolder.inspect import inspect
from scaleinv.runfolder.layout import LANDSCAPE, RESULT, SWEEP_MAP, kept_epochs
from scaleinv.runfolder.manifest import MANIFEST
from scaleinv.runfolder.progress import read_progress
from scaleinv.runfolder.read import load_run, load_sweep
from scaleinv.runfolder.seal import HEADS
from scaleinv.runfolder.steps import has_steps, load_steps
from scaleinv.studies.landscape import read_study

#: damages in all
DAMAGES = 1000
#: of these, the killed run is also trained to its end
TRAINED = 60

Damage = Callable[[Path, random.Random], None]


def flipped(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncated(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data) + 1)])


def emptied(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def zeroed(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = draw.randrange(len(data) + 1)
    length = min(draw.randrange(1, 513), len(data) - start)
    data[start : start + length] = bytes(length)
    path.write_bytes(data)


def appended(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randrange(1, 64)))


def removed(path: Path, draw: random.Random) -> None:
    path.unlink()


def a_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def swapped(path: Path, draw: random.Random) -> None:
    """Another file of the folder in its place; not what a killed write left: that would be the write."""
    others = [p for p in path.parent.iterdir() if p.is_file() and p != path and p.suffix != ".part"] or [path]
    path.write_bytes(draw.choice(others).read_bytes())


def linked(path: Path, draw: random.Random) -> None:
    """A link in its place: to another file, to nothing, to a device without an end."""
    target = draw.choice(["/dev/zero", "/etc/hostname", "nowhere", "/dev/null"])
    path.unlink()
    path.symlink_to(target)


def a_pipe(path: Path, draw: random.Random) -> None:
    """A pipe that nobody writes to, in its place: who opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def bomb(path: Path, draw: random.Random) -> None:
    """A small file that unpacks to a gigabyte."""
    if draw.random() < 0.5:
        path.write_bytes(gzip.compress(bytes(1 << 22)))
        return
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 22))
    path.write_bytes(stream.getvalue())


def retyped(path: Path, draw: random.Random) -> None:
    """A value of a JSON file of another type or size; elsewhere bytes of another number."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        zeroed(path, draw)
        return
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys if isinstance(one[key], (dict, list))]
    if places:
        holder, key = draw.choice(places)
        values: list[Any] = [None, [], {}, "x", -1, 1e300, True, 10**40, [[[[]]]], "../../x", 0.5]
        holder[key] = draw.choice(values)
    path.write_text(json.dumps(content))


def edited(path: Path, draw: random.Random) -> None:
    """One digit is another: what nobody sees."""
    data = bytearray(path.read_bytes())
    digits = [k for k, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if digits:
        k = draw.choice(digits)
        data[k] = 0x30 + (data[k] - 0x30 + draw.randrange(1, 10)) % 10
    path.write_bytes(data)


WAYS: tuple[Damage, ...] = (
    *(flipped,) * 6, truncated, emptied, zeroed, appended, removed, a_folder, a_pipe, swapped, linked, bomb, retyped,
    edited,
)  # fmt: skip


def from_twin(copy: Path, twin: Path) -> tuple[Damage, ...]:
    """Whole files of another run of the same shape: one, one with the list that vouches for it, all but config.json."""

    def there(path: Path) -> Path:
        parts = list(path.relative_to(copy).parts)
        if parts[0] == "runs" and len(parts) > 1:
            place = sorted(p.name for p in (copy / "runs").iterdir()).index(parts[1])
            parts[1] = sorted(p.name for p in (twin / "runs").iterdir())[place]
        return twin.joinpath(*parts)

    def take(path: Path) -> None:
        if there(path).is_file():
            path.write_bytes(there(path).read_bytes())

    def copied(path: Path, draw: random.Random) -> None:
        take(path)

    def copied_with_list(path: Path, draw: random.Random) -> None:
        take(path)
        for folder in [path.parent, *path.parent.parents]:
            if (folder / MANIFEST).exists():
                take(folder / MANIFEST)
                break

    def all_but_head(path: Path, draw: random.Random) -> None:
        folder = next(p for p in path.parents if any((p / name).exists() for name in HEADS))
        for other in folder.rglob("*"):
            if other.is_file() and other.name not in HEADS:
                take(other)

    return copied, copied, copied_with_list, all_but_head


def folders(root: Path, seed: int = 0) -> dict[str, Path]:
    """Make one of each kind."""
    scenarios.run(root / "whole", seed)
    scenarios.landscape(root / "whole")
    scenarios.sweep(root / "swept", seed)
    scenarios.monitored(root / "watched", seed)
    _lines(root / "lines", seed)
    killed = root / "killed"
    calls = Injection(killed, 150, reads=False)
    in_child(lambda: scenarios.run(killed, seed), calls)
    for number in range(2):
        outcome = Outcome(f"claim-{number}", "toy", "holds", {"x": 0.25}, {"x": 0.5}, {"x": "0.1"}, "said", 1.5)
        _store(root / "cache" / "claims" / f"{number}.json", outcome)
    return {
        "run": root / "whole" / "run",
        "killed run": killed / "run",
        "sweep": root / "swept" / "sweep",
        "monitored run": root / "watched" / "run",
        "lines": root / "lines",
        "cache": root / "cache" / "claims",
    }


def _lines(folder: Path, seed: int) -> None:
    """A monitored run without pyarrow, with alerts."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sink = RunFolder(folder, form="jsonl", seconds=0.0)
    with Monitor(model, optimizer, groups=["0.weight"], every=1, sinks=sink):
        for step in range(4):
            data = torch.randn(16, 4, generator=torch.Generator().manual_seed(100 * seed + step))
            nn.functional.cross_entropy(model(data), torch.arange(16) % 3).backward()
            optimizer.step()


def read_run(folder: Path) -> dict[str, str]:
    """Read all that is read of a run; a refusal is ``refused``."""

    def weights(name: str) -> Any:
        start = find_start(name)
        return sorted((k, v.numpy().tobytes()) for k, v in read_start(start.file, start.checksum).items())

    readers: dict[str, Callable[[], Any]] = {
        "run": lambda: _run(folder),
        "steps": lambda: dataclasses.asdict(load_steps(folder)) if has_steps(folder) else None,
        "last weights": lambda: weights(str(folder)),
        "kept": lambda: kept_epochs(folder),
        "landscape": lambda: read_study(folder),
        "progress": lambda: read_progress(folder),
    }
    for epoch in (0, 1, 2):
        readers[f"epoch {epoch}"] = lambda epoch=epoch: weights(f"{folder}@{epoch}")
    return {name: _tried(reader) for name, reader in readers.items()}


def _run(folder: Path) -> Any:
    run = load_run(folder)
    rows = {key: (s.steps.tolist(), s.epochs.tolist(), s.values.tobytes()) for key, s in run.metrics.items()}
    return run.config, run.identity, run.environment, run.result, rows, run.lineage, run.alerts


def _tried(reader: Callable[[], Any]) -> str:
    try:
        return repr(reader())
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"several lines: {error}"


def read_all(kind: str, folder: Path) -> dict[str, str]:
    """Read all that is read of a folder."""
    if kind == "cache":
        # a result that cannot be read is measured again, which costs time and changes nothing
        return {
            path.name: _tried(lambda path=path: _load(path, f"claim-{path.stem}", "toy") or _refuse())
            for path in sorted(folder.iterdir())
        }
    if kind != "sweep":
        return read_run(folder)
    found = {"sweep": _tried(lambda: _sweep(folder)), "landscape": _tried(lambda: read_study(folder))}
    for run in sorted((folder / "runs").iterdir()):
        found |= {f"{run.name} {name}": value for name, value in read_run(run).items()}
    return found


def _refuse() -> Any:
    raise UserError("not kept")


def _sweep(folder: Path) -> Any:
    sweep = load_sweep(folder)
    return sweep.config, sweep.summary, [run.name for run in sweep.runs]


def one(kind: str, folder: Path, twin: Path, before: dict[str, str], draw: random.Random, train: bool) -> str:
    """Damage a copy in one way; empty where that is refused or without effect. ``twin``: another of the kind."""
    with tempfile.TemporaryDirectory(dir=_SCRATCH) as place:
        copy = Path(place) / folder.name
        shutil.copytree(folder, copy)
        files = [p for p in sorted(copy.rglob("*")) if p.is_file() and not p.name.endswith("lock")]
        ways = WAYS if kind == "cache" else (*WAYS, *from_twin(copy, twin))
        file, way = draw.choice(files), draw.choice(ways)
        where = f"{kind}: {file.relative_to(copy)} {way.__name__}"
        way(file, draw)
        try:
            after = read_all(kind, copy)
        except Exception as error:
            return f"{where}: {type(error).__name__}: {error}"
        if not file.exists():
            before = {**before, **_before_it_was_made(file.name, folder, after)}
        for name, value in after.items():
            if value not in ("refused", "None", before.get(name)):
                return f"{where}: {name} is read as something else"
            if value == "None" != before.get(name) and name not in ("progress", "steps"):
                return f"{where}: {name} is read as nothing"
        if train and kind == "killed run":
            ended = in_child(lambda: scenarios.run(Path(place)))
            if ended.how not in ("ok", "user error"):
                return f"{where}: training on: {ended.how} {ended.said[-400:]}"
            known = {name for one in inspect(copy) for name in one.damaged} if ended.how == "ok" else set()
            wrong = scenarios.difference(scenarios.content(copy), _WHOLE["content"]) if ended.how == "ok" else ""
            if wrong and wrong.partition(" ")[0] not in known:
                return f"{where}: trained on: {wrong}"
    return ""


def _before_it_was_made(name: str, folder: Path, after: dict[str, str]) -> dict[str, str]:
    """What is read where a file is gone that is written last, or by another command: what was read before it was."""
    if name == RESULT:  # a run in progress
        return {reader: value for reader, value in after.items() if reader.endswith("run")}
    if name == SWEEP_MAP:  # a sweep in progress
        sweep = load_sweep(folder)
        return {"sweep": repr((sweep.config, None, [run.name for run in sweep.runs]))}
    if name == LANDSCAPE:  # not measured
        return {"landscape": repr(read_study(Path("nowhere")))}
    return {}


#: memory where there is a file system of it
_SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_WHOLE: dict[str, dict[str, Any]] = {}


def figures(share: float, seed: int) -> tuple[dict[str, int], list[str]]:
    """Damage, read, compare."""
    draw, wrong = random.Random(seed), list[str]()
    count, trained = max(6, round(share * DAMAGES)), max(1, round(share * TRAINED))

    with tempfile.TemporaryDirectory(dir=_SCRATCH) as root:
        made, twins = folders(Path(root) / "one"), folders(Path(root) / "twin", 1)
        _WHOLE["content"] = scenarios.content(made["run"])
        del _WHOLE["content"][LANDSCAPE], _WHOLE["content"][".landscape.lock"]
        before = {kind: read_all(kind, folder) for kind, folder in made.items()}
        kinds = list(made)
        for number in range(count):
            kind = kinds[number % len(kinds)]
            train = kind == "killed run" and number // len(kinds) < trained
            if found := one(kind, made[kind], twins[kind], before[kind], draw, train):
                wrong.append(f"damage {number} of seed {seed}: {found}")
    return {"damages": count, "silent or a traceback": len(wrong)}, wrong
