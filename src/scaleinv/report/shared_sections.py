"""What the page of a run and of a sweep have in common: what was trained, what the words mean, how to reproduce it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from scaleinv.plots.drawing import Drawing
from scaleinv.report.facts import AnyFacts
from scaleinv.report.page import Section, fragment
from scaleinv.text import MISSING, clean, plain

WORDS = [
    ("ELR", "effective learning rate, lr / ρ² for SGD: the rate that acts on the weights' direction; ρ is their norm"),
    ("effective gradient", "ρ times the gradient norm: the gradient at the same direction on the unit sphere"),
    ("ESS", "effective step size, ELR times effective gradient: the tangent of the angle by which one step turns"),
    ("cosine", "between the weights before and after a step, mean over the steps of an epoch"),
    ("1 convergence", "the loss goes to a minimum, and the effective gradient with it"),
    ("2 chaotic equilibrium", "the loss stays at a level that the ELR sets, away from both the minimum and chance"),
    ("3 divergence", "chance error; consecutive weights are unrelated, as in a random walk on the sphere"),
    ("undecided", "the evidence within the horizon does not decide"),
    ("boundary", "the interval between neighbouring ELRs that are decided differently; over several seeds, the union"),
]
PERIOD_WORDS = [
    ("period", "from one break-down (destabilisation) of training to the next"),
    ("phase A", "after a break-down: gradients lengthen the weights, the ELR falls, the loss comes down"),
    ("phase B", "weight decay wins: the norm shrinks, the ELR grows, the loss stays low"),
    ("phase C", "the break-down: the ELR has grown too large for the minimum; loss and gradient jump, then the norm"),
    ("1/(lr wd)", "steps in which weight decay alone shrinks the squared norm by e², the natural unit of a period"),
    ("l, L", "lower and upper bound of the effective gradient, percentiles 1 and 99 of a window"),
]


class Glossary(Section[AnyFacts]):
    """What the words mean, folded."""

    def html(self, facts: AnyFacts, drawn: Sequence[Drawing]) -> str:
        return fragment("parts.html.j2", "glossary", WORDS + (PERIOD_WORDS if facts.has_periods else []))


class Reproduce(Section[AnyFacts]):
    """The command, the versions, the seed and the data behind the page."""

    def html(self, facts: AnyFacts, drawn: Sequence[Drawing]) -> str:
        first: Mapping[str, Any] = next(iter(facts.environments), {})
        argv = first.get("argv")
        command = command_line([clean(part) for part in argv]) if isinstance(argv, list) and argv else ""
        keys = {key for other in facts.environments for key in {*other, *first} if other.get(key) != first.get(key)}
        told = [("seed" if len(facts.seeds) == 1 else "seeds", ", ".join(map(str, facts.seeds)))] if facts.seeds else []
        told += [
            (_words(key), plain(value))
            for key, value in facts.config.items()
            if "fingerprint" in str(key) or "sha256" in str(key)
        ]
        told += [(_words(key), plain(value)) for key, value in first.items() if key != "argv"]
        settings = [(_words(key), plain(value)) for key, value in facts.config.items() if value is not None]
        differing = ", ".join(map(_words, sorted(map(str, keys))))
        return fragment("parts.html.j2", "reproduce", command, told, differing, settings)


def command_line(argv: Sequence[str]) -> str:
    """The command as one types it: without the path of the program.

    >>> command_line(["/home/me/.venv/bin/scaleinv", "sweep", "--elr", "1e-4:1:21"])
    'scaleinv sweep --elr 1e-4:1:21'
    """
    program = argv[0].replace("\\", "/").rsplit("/", 1)[-1]
    if program == "__main__.py":
        return shlex.join(["python", "-m", "scaleinv", *argv[1:]])
    return shlex.join([program, *argv[1:]])


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
    return _LABELS.get(key, str(key).replace("_", " "))
