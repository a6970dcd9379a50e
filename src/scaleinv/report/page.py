"""The parts every page is made of. A page loads nothing: style and script are in it, and its policy forbids any
request.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from scaleinv.plots.style import regime_colours, regime_names
from scaleinv.runfolder.read import Run
from scaleinv.text import MISSING, clean, esc, numbers_whole, plain

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_SHAPES = {
    1: '<circle cx="6" cy="6" r="5"/>',
    2: '<rect x="1.2" y="1.2" width="9.6" height="9.6"/>',
    3: '<path d="M6 .8 11.4 11H.6Z"/>',
}


def page(title: str, body: Iterable[str]) -> str:
    """The whole file."""
    css = files("scaleinv.report").joinpath("page.css").read_text("utf-8")
    js = files("scaleinv.report").joinpath("page.js").read_text("utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="generator" content="scaleinv"><link rel="icon" href="data:,">',
            f"<title>{esc(title)}</title>",
            f"<style>\n{css}</style></head>",
            "<body><main>",
            *body,
            "</main>",
            f"<script>\n{js}</script>",
            "</body></html>",
            "",
        ]
    )


def mark(regime: int | None) -> str:
    """The sign of a regime; decoration, its name stands beside it."""
    if regime in _SHAPES:
        drawn = f'<g fill="{regime_colours[regime]}">{_SHAPES[regime]}</g>'
    else:
        drawn = f'<path d="M6 1 11 6 6 11 1 6Z" fill="none" stroke="{regime_colours[None]}" stroke-width="1.8"/>'
    return f'<svg class="mark" viewBox="0 0 12 12" aria-hidden="true">{drawn}</svg>'


def regime_cell(regime: int | None) -> str:
    """``1 convergence`` with its sign."""
    name = f"{regime} {regime_names[regime]}" if regime else regime_names[None]
    return f"{mark(regime)}{name}"


def card(label: str, value: str, note: str = "", kind: str = "") -> str:
    """A key number with its name; the texts are escaped here."""
    below = f'<span class="note">{esc(note)}</span>' if note else ""
    return f'<dl class="card {kind}"><dt>{esc(label)}</dt><dd>{numbers_whole(esc(value))}{below}</dd></dl>'


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """A list of names and values."""
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in items)
    return f'<dl class="pairs">{rows}</dl>' if rows else ""


def table(head: Sequence[tuple[str, bool]], rows: Iterable[str], caption: str) -> str:
    """A table; ``head`` holds (name, is it text); the rows are HTML."""
    cells = "".join(f'<th scope="col"{" class=text" if text else ""}>{esc(name)}</th>' for name, text in head)
    return (
        f'<div class="table"><table><caption>{esc(caption)}</caption><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def words_section(more: Sequence[tuple[str, str]] = ()) -> str:
    """What the words mean, folded; ``more`` after those every page needs."""
    items = [
        (
            "ELR",
            "effective learning rate, lr / ρ² for SGD: the rate that acts on the weights' direction; ρ is their norm",
        ),
        ("effective gradient", "ρ times the gradient norm: the gradient at the same direction on the unit sphere"),
        (
            "ESS",
            "effective step size, ELR times effective gradient: the tangent of the angle one step turns the weights by",
        ),
        ("cosine", "between the weights before and after a step, mean over the steps of an epoch"),
        ("1 convergence", "the loss goes to a minimum, and the effective gradient with it"),
        ("2 chaotic equilibrium", "the loss stays at a level that the ELR sets, away from both the minimum and chance"),
        ("3 divergence", "chance error; consecutive weights are unrelated, as in a random walk on the sphere"),
        ("undecided", "the evidence within the horizon does not decide"),
        (
            "boundary",
            "the interval between neighbouring ELRs that are decided differently; over several seeds, the union",
        ),
    ]
    return f"<details><summary>What the words mean</summary>{pairs([*items, *more])}</details>"


def reproduce_section(
    environments: Sequence[Mapping[str, Any]], config: Mapping[str, Any], extra: Sequence[tuple[str, str]]
) -> str:
    """The command, the versions, the seed and the data behind the page."""
    environment = environments[0] if environments else {}
    argv = environment.get("argv")
    parts = ["<h2>How to reproduce</h2>"]
    if isinstance(argv, list) and argv:
        parts.append(f"<pre>{esc(command_line([clean(part) for part in argv]))}</pre>")
    differing = sorted(
        {str(key) for other in environments for key in {*other, *environment} if other.get(key) != environment.get(key)}
    )
    told = [(_words(key), plain(value)) for key, value in environment.items() if key != "argv"]
    fingerprints = [
        (_words(key), plain(value))
        for key, value in config.items()
        if "fingerprint" in str(key) or "sha256" in str(key)
    ]
    parts.append(pairs([*extra, *fingerprints, *told]))
    if differing:
        parts.append(
            f"<p>The runs were not all made alike; they differ in: {esc(', '.join(map(_words, differing)))}.</p>"
        )
    settings = [(_words(key), plain(value)) for key, value in config.items() if value is not None]
    if settings:
        parts.append(f"<details><summary>All settings</summary>{pairs(settings)}</details>")
    return "".join(parts)


def command_line(argv: Sequence[str]) -> str:
    """The command as one types it: without the path of the program.

    >>> command_line(["/home/me/.venv/bin/scaleinv", "sweep", "--elr", "1e-4:1:21"])
    'scaleinv sweep --elr 1e-4:1:21'
    """
    program = argv[0].replace("\\", "/").rsplit("/", 1)[-1]
    if program == "__main__.py":
        return shlex.join(["python", "-m", "scaleinv", *argv[1:]])
    return shlex.join([program, *argv[1:]])


def common_config(runs: Sequence[Run]) -> dict[str, Any]:
    """The settings that all runs share."""
    if not runs:
        return {}
    first = runs[0].config
    return {key: value for key, value in first.items() if all(run.config.get(key) == value for run in runs[1:])}


_OPTIONS = {"lr": "lr", "weight_decay": "wd", "momentum": "momentum"}


def about(config: Mapping[str, Any]) -> str:
    """What was trained, in a line: ``convnet, width 16, si, on digits, batch 16``; what the config does not say is
    left out.
    """
    said = []
    if config.get("model") is not None:
        said.append(plain(config["model"]))
    if config.get("width") is not None:
        said.append(f"width {plain(config['width'])}")
    if config.get("variant") is not None:
        said.append({"si": "scale-invariant"}.get(str(config["variant"]), plain(config["variant"])))
    line = ", ".join(said) or MISSING
    if config.get("data") is not None:
        line += f" · {plain(config['data'])}"
    if config.get("subset") is not None:
        line += f", first {plain(config['subset'])}"
    if config.get("batch_size") is not None:
        line += f" · batch {plain(config['batch_size'])}"
    optimizers = config.get("optimizers")
    for one in optimizers if isinstance(optimizers, list) else []:  # of a run that a Monitor measured
        first: Mapping[str, Any] = next(iter(one.get("groups") or [{}]), {})
        set_to = ", ".join(f"{name} {plain(first[key])}" for key, name in _OPTIONS.items() if first.get(key))
        line += f" · {plain(one.get('class', ''))} {set_to}"
    return line


_LABELS = {
    "git": "git revision",
    "scaleinv": "scaleinv version",
    "data_fingerprint": "data fingerprint (sha256)",
    "start": "start weights (sha256)",
}


def _words(key: Any) -> str:
    if key in _LABELS:
        return _LABELS[key]
    return str(key).replace("_", " ")
