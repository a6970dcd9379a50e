"""Run ``scaleinv reproduce``."""

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scaleinv.cli.actions.launching import cancel_jobs, choice, jobs_run_on
from scaleinv.cli.reproduce import ReproduceCommand
from scaleinv.errors import UserError
from scaleinv.lab.devices import choose_device
from scaleinv.lab.launch.base import Job
from scaleinv.lab.train import RunEvent
from scaleinv.papers.context import Context
from scaleinv.papers.figure import FigureEntry
from scaleinv.report.page import render
from scaleinv.runfolder.files import write_bytes
from scaleinv.runfolder.threads import cores
from scaleinv.studies.progress import ProgressView, describe
from scaleinv.studies.terminal import say

_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
_WORDS = {"svg": "SVG", "pdf": "PDF", "png": "PNG", "json": "numbers (JSON)"}


def run(command: ReproduceCommand) -> int:
    """Draw the figures, or list them. Exit status 0: done."""
    launch = choice(command.launcher, command.launcher_args)
    if command.cancel:
        return cancel_jobs(launch, command.runs)
    chosen, formats = command.chosen(), command.formats()
    if command.list:
        _list([entry for entry, _ in chosen], command.json)
        return 0
    there = next(path for path in (command.out, *command.out.parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, not a folder; choose another --out")

    device = choose_device(command.device)
    paths: list[Path] = []
    try:
        with jobs_run_on(launch), ProgressView(total=1, quiet=command.quiet) as view:

            def watch(job: Job, event: RunEvent) -> None:
                view.event(job.config, event)
                if event.kind == "ended":
                    view.say(f"{describe(job.config)}: ended after {event.step} steps")

            for number, (entry, scale) in enumerate(chosen, 1):
                head = f"[{number}/{len(chosen)}] {entry.id} ({scale})"
                view.say(f"{head}: {entry.title}; about {_cost(entry.scales[scale])} of one core where no run is kept")
                begin = time.perf_counter()
                workers = command.workers or (cores() if device == "cpu" else 1)
                context = Context(scale, command.runs, workers, watch, launch, device=device)
                paths += entry.make(context, command.out, formats).paths
                view.say(f"{head}: drawn, {time.perf_counter() - begin:.1f} s")
        if command.all:
            paths.append(write_gallery(command.out, [entry for entry, _ in chosen]))
    finally:  # what is there is told, whatever stops the rest
        if command.json:
            say(json.dumps({"files": [str(path) for path in paths]}))
        else:
            for path in paths:
                say(path)
    return 0


def write_gallery(out: Path, entries: Sequence[FigureEntry]) -> Path:
    """Write ``out/index.html`` with the figures of ``entries`` that lie in ``out``, at every scale; return its path.

    The pictures are within the page; vector files and numbers are linked beside it.
    """
    every = [(entry, scale) for entry in entries for scale in entry.scales]
    there = [_shown(out, entry, scale) for entry, scale in every if (out / f"{entry.stem(scale)}.json").exists()]
    path = out / "index.html"
    write_bytes(path, render("gallery.html.j2", title="Figures of the papers", figures=there).encode("utf-8"))
    return path


def _shown(out: Path, entry: FigureEntry, scale: str) -> dict[str, Any]:
    stem = entry.stem(scale)
    files = {kind: path for kind in _WORDS if (path := out / f"{stem}.{kind}").exists()}
    shown = next((kind for kind in _TYPES if kind in files), None)
    data = "" if shown is None else base64.b64encode(files[shown].read_bytes()).decode("ascii")
    return {
        "entry": entry,
        "scale": scale,
        "stem": stem,
        "picture": "" if shown is None else f"data:{_TYPES[shown]};base64,{data}",
        "command": f"scaleinv reproduce {entry.id}" + (f" --scale {scale}" if len(entry.scales) > 1 else ""),
        "links": [(quote(path.name), _WORDS[kind]) for kind, path in files.items()],
    }


def _cost(seconds: float) -> str:
    """``40 s``, ``5 min``, ``1.5 h``, ``12 days``: core time in words."""
    for unit, size, most in (("s", 1.0, 120.0), ("min", 60.0, 5400.0), ("h", 3600.0, 48 * 3600.0)):
        if seconds < most:
            return f"{seconds / size:.2g} {unit}" if seconds / size < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _list(entries: list[FigureEntry], as_json: bool) -> None:
    if as_json:
        fields = ("id", "paper", "place", "title")
        listed = [{**{f: getattr(e, f) for f in fields}, "scales": dict(e.scales)} for e in entries]
        say(json.dumps({"figures": listed}))
        return
    wide = max(len(entry.id) for entry in entries)
    for entry in entries:
        say(f"{entry.id:<{wide}}  {entry.title} ({entry.paper}, {entry.place})")
        costs = ", ".join(f"{scale} {_cost(cost)}" for scale, cost in entry.scales.items())
        say(f"{'':<{wide}}  scales, in time of one core: {costs}")
