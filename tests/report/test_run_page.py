"""The page of a single run, ended well, badly or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import folders
from test_sweep_page import EVIL, Reader

from scaleinv.report import write_figures, write_report
from scaleinv.runfolder.layout import FORMAT

PANELS = [
    "run-loss",
    "run-error",
    "run-eg",
    "run-cosine",
    "group-angle",
    "group-rho",
    "group-elr",
    "group-eg",
    "group-ess",
]


def read(folder: Path) -> Reader:
    return Reader(write_report(folder).read_text("utf-8"))


def figures(reader: Reader) -> list[str | None]:
    return [attrs["id"] for tag, attrs in reader.elements if tag == "figure"]


def test_a_run_that_ended(tmp_path: Path) -> None:
    entry = folders.write_run(tmp_path / "r", 0.1, 60, 1)
    reader = read(tmp_path / "r")
    assert "Training run at ELR 0.1" in reader.text
    assert "Finished, 60 epochs done." in reader.text
    assert "regime 2 chaotic equilibrium" in reader.text
    assert f"test error {100 * entry['test_error']:.1f} %" in reader.text
    assert f"train loss {entry['train_loss']:.3g}" in reader.text
    assert "5400 steps" in reader.text
    assert figures(reader) == PANELS
    for group in folders.GROUPS:
        assert group in reader.text


def test_a_run_that_diverged(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "r", 3.0, 60, 1, diverge_at=25)
    reader = read(tmp_path / "r")
    assert "Diverged: the loss is no longer a finite number" in reader.text
    assert "train loss not finite" in reader.text
    titles = [word for word in reader.words if "not finite from epoch 25" in word]
    assert titles


def test_a_run_in_progress_and_one_without_numbers(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "r", 0.1, 5, 1, ended=False)
    assert "Not ended: running, or stopped and waiting to be resumed, 5 epochs done." in read(tmp_path / "r").text
    for part in (tmp_path / "r" / "metrics").iterdir():
        part.unlink()
    reader = read(tmp_path / "r")
    assert "Nothing was measured yet." in reader.text
    assert figures(reader) == []


def test_a_run_that_was_resumed_says_what_the_time_covers(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "r", 0.1, 60, 1)
    path = tmp_path / "r" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "timing": {"seconds": 75.0, "steps_here": 900}, "message": "all <well>"}))
    reader = read(tmp_path / "r")
    assert "time 1 min 15 s since it was resumed, 900 steps" in reader.text
    assert "all <well>" in reader.text


def test_names_of_groups_cannot_escape(tmp_path: Path) -> None:
    groups = (EVIL.replace("\ud800", ""), "$\\frac{", "_hidden]]>", "<!--", "漢字" * 40)
    folders.write_run(tmp_path / "r", 0.1, 5, 1, groups=groups, config={"data": EVIL, "model": EVIL})
    reader = read(tmp_path / "r")
    assert [tag for tag, _ in reader.elements].count("script") == 1
    assert not any(name.startswith("on") for _, attrs in reader.elements for name in attrs)
    assert "_hidden]]>" in reader.text
    write_figures(tmp_path / "r", ["png"])  # our font has no such glyphs, and that is no error


def test_many_groups_are_thinned_and_said(tmp_path: Path) -> None:
    groups = tuple(f"row{i}" for i in range(480))
    folders.write_run(tmp_path / "r", 0.1, 30, 1, groups=groups)
    page = write_report(tmp_path / "r")
    assert page.stat().st_size < 3e6
    assert "32 of 480 groups drawn" in page.read_text("utf-8")


def test_zero_losses_and_constant_curves_are_drawn(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "r", 0.1, 5, 1)
    for part in (tmp_path / "r" / "metrics").iterdir():
        part.unlink()
    rows = [(e, e, "online", "total", q, 0.0) for e in range(5) for q in ("loss", "error", "eg", "cosine")]
    folders.write_parts(tmp_path / "r" / "metrics", rows)
    reader = read(tmp_path / "r")
    assert figures(reader) == PANELS[:4]
    assert "no finite value" not in reader.text
    assert "no positive value" in reader.text


def test_a_run_that_a_monitor_measured_counts_steps_and_shows_its_alerts(tmp_path: Path) -> None:
    rows = [
        (5 * i, i // 4, "online", group, quantity, 0.1 * (i + 1))
        for i in range(20)
        for group in ("total", "0.weight")
        for quantity in ("loss", "rho", "elr", "eg", "angle")
        if group == "total" or quantity != "loss"
    ]
    folders.write_parts(tmp_path / "r" / "metrics", rows)
    optimizer = {"class": "SGD", "law": "sgd", "groups": [{"lr": 0.2, "weight_decay": 0.005, "momentum": 0}]}
    config = {"source": "monitor", "model": "Sequential", "time": "epoch", "optimizers": [optimizer]}
    head = {"format": FORMAT, "config": config, "identity": "x", "environment": folders.ENVIRONMENT}
    (tmp_path / "r" / "config.json").write_text(json.dumps(head))
    result = {"status": "finished", "steps": 97, "message": "measured by Monitor", "timing": {"seconds": 3.0}}
    (tmp_path / "r" / "result.json").write_text(json.dumps(result))
    alert = {"kind": "still", "step": 35, "group": "0.weight", "reason": "has not <turned>", "remedy": "see"}
    (tmp_path / "r" / "alerts.jsonl").write_text(json.dumps(alert) + '\n{"kind": "cut o')
    reader = read(tmp_path / "r")
    assert "Finished, 97 steps done: measured by Monitor." in reader.text
    assert "steps 97 20 logged" in reader.text
    assert "Sequential · SGD lr 0.2, wd 0.005" in reader.text
    assert "step 35, 0.weight has not <turned>. To do: see." in reader.text
    assert "regime undecided" not in reader.text
    assert "line: each logged step" in reader.text.lower()
    drawn = [attrs.get("aria-label") or "" for _, attrs in reader.elements] + reader.words
    assert any("against step" in text for text in drawn)
    assert not any("against epoch" in text or "of each epoch" in text for text in drawn)
