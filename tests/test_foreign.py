"""What others wrote is data, never code; importing asks no network; files have the permissions of the umask."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import structure

from scaleinv.errors import UserError
from scaleinv.reading import MOST_BYTES, parse_json, path_fault, read_bytes
from scaleinv.runfolder.files import read_json

FILES = structure.sources()
ROOT = Path(__file__).parents[1]
#: who may unpickle: CIFAR's files by an unpickler that makes arrays alone; what a process sends to its own workers
PICKLES = {"lab/data/formats.py", "lab/launch/crew.py"}
#: calls that execute what they read, or may
EXECUTE = {"eval", "exec", "compile", "__import__"}


def calls() -> list[tuple[str, ast.Call, str]]:
    found = []
    for path, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                found.append((structure.name_of(path), node, ast.unparse(node.func)))
    return found


def keyword(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(k.value) for k in call.keywords if k.arg == name), None)


def test_torch_loads_weights_only() -> None:
    found = [(where, call) for where, call, name in calls() if name in ("torch.load", "load") and where != "plugins.py"]
    loads = [(where, call) for where, call in found if ast.unparse(call.func) == "torch.load"]
    assert len(loads) >= 2  # the search finds those that are there
    assert [where for where, call in loads if keyword(call, "weights_only") is not True] == []
    arrays = [(where, call) for where, call, name in calls() if name in ("np.load", "numpy.load")]
    assert len(arrays) >= 2
    assert [where for where, call in arrays if keyword(call, "allow_pickle") is not False] == []


def test_files_are_written_whole_and_through_no_link() -> None:
    """By runfolder/files.py alone; what Path and open() write ends half-written, and where a link points to."""
    ways = re.compile(r"\.write_(text|bytes)$")
    assert [f"{where}: {name}" for where, _, name in calls() if ways.search(name)] == []
    opened = [
        (where, ast.unparse(call)) for where, call, name in calls() if re.search(r"(?<!tarfile)(^|\.)open$", name)
    ]
    assert len(opened) > 5  # the search finds those that are there
    mode = re.compile(r"open\([^)]*['\"][rbt]*[wax]")
    assert [one for one in opened if mode.search(one[1]) and one[0] != "runfolder/files.py"] == []


def test_no_foreign_pickle_is_read() -> None:
    readers = re.compile(r"(^|\.)(pickle|cPickle|dill|joblib|marshal|shelve|cloudpickle)\.(load|loads|Unpickler|open)$")
    found = {where for where, _, name in calls() if readers.search(name)}
    found |= {
        structure.name_of(path)
        for path, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("Unpickler" in ast.unparse(base) for base in node.bases)
    }
    assert found == PICKLES
    executed = {(where, name) for where, _, name in calls() if name in EXECUTE}
    assert executed == set()
    unsafe = re.compile(
        r"yaml\.(load|unsafe_load|full_load)$|pandas\.read_pickle$|pd\.read_pickle$|os\.system$|\.extractall$"
    )
    assert [(where, name) for where, _, name in calls() if unsafe.search(name)] == []
    assert not any(keyword(call, "shell") for _, call, name in calls() if name.startswith("subprocess."))


def test_foreign_names_reach_a_terminal_or_a_page_by_one_way_each() -> None:
    """By say() and Terminal, and by esc(): they show the codes of what a terminal obeys or a page hides."""
    found = [(where, name) for where, _, name in calls()]
    assert [where for where, name in found if name == "html.escape" and where != "text.py"] == []
    assert [where for where, name in found if name == "Console" and where != "studies/terminal.py"] == []
    bare = {where for where, name in found if name == "print" and where.startswith("cli/")}
    assert bare <= {"cli/__init__.py", "cli/ending.py", "cli/actions/completion.py"}  # words of ours alone


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "\u202eabc", "x\x9b1m", "\x1b]0;title\x07", "\u2066y\u2069"])
def test_a_hostile_name_is_shown(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of a folder, of a run's model, of a column of a log, and a value of a config."""
    from scaleinv.cli import run

    odd = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
    folder = tmp_path / f"run-{text}"
    folder.mkdir()
    config = {"model": text, "data": text, "elr": 0.1, "seed": 0, "optimizer": text, "problem": text}
    (folder / "config.json").write_text(json.dumps({"format": 4, "config": config, "identity": text}))
    (folder / "result.json").write_text(json.dumps({"status": "failed", "message": text, "steps": 1, "epochs": 1}))
    assert run(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text("utf-8")
    assert text not in page
    assert not odd.search(page)
    log = tmp_path / f"{text}.csv"
    log.write_text(f"step,loss,{text}\n" + "".join(f"{k},{1 / (k + 1)},1\n" for k in range(40)))
    assert run(["periods", str(log)]) == 0
    assert run(["periods", str(log), "--columns", f"rho={text}x"]) == 2
    assert run(["periods", str(tmp_path / f"no-{text}")]) == 2
    said = "".join(capsys.readouterr())
    shown = text[: text.index(odd.search(text)[0])] + repr(odd.search(text)[0])[1:-1]  # type: ignore[index]
    assert shown in said
    assert not odd.search(said)


def test_a_terminal_of_rich_colours_but_does_not_obey() -> None:
    from io import StringIO

    from scaleinv.studies.terminal import Terminal

    out = StringIO()
    console = Terminal(file=out, force_terminal=True, color_system="standard", width=60)
    console.print("[bold]good[/] \x1b[2J\u202eevil", highlight=False)
    assert "\x1b[1mgood" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert r"\x1b[2J\u202eevil" in out.getvalue()


_IMPORT_ALL = """
import importlib, pkgutil, socket, sys

def refuse(*_):
    raise AssertionError("an import asks the network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import scaleinv
names = [m.name for m in pkgutil.walk_packages(scaleinv.__path__, "scaleinv.")]
failed = []
for name in names:
    if name == "scaleinv.__main__":
        continue
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("scaleinv"):
            raise
        failed.append(name)
print(len(names), len(failed))
"""


@pytest.mark.slow
def test_importing_asks_no_network_and_writes_nothing(tmp_path: Path) -> None:
    """Every module; those that want an extra which is not installed aside."""
    environment = {**os.environ, "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "mpl"), "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", _IMPORT_ALL],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names, failed = map(int, done.stdout.split())
    assert names > 250
    assert failed < 10
    assert {path.name for path in tmp_path.iterdir()} <= {"mpl", ".cache", ".config"}


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o027])
def test_files_have_the_permissions_of_the_umask(mask: int, tmp_path: Path) -> None:
    """A run, its page, a kept answer: no file for more eyes than the user asked, nor for fewer."""
    from scaleinv.cli import run

    before = os.umask(mask)
    try:
        small = ["--elr", "0.1", "--steps", "2", "--model", "mlp", "--width", "4", "--quiet", "--keep-every", "1"]
        assert run(["train", *small, "--out", str(tmp_path / "run")]) == 0
        assert run(["report", str(tmp_path / "run")]) == 0
        assert run(["verify", "--list", "--html", str(tmp_path / "v.html")]) == 0
    finally:
        os.umask(before)
    wrong = {}
    for path in (tmp_path / "run", *(tmp_path / "run").rglob("*")):
        most = 0o777 if path.is_dir() else 0o666
        if path.stat().st_mode & 0o777 != most & ~mask:
            wrong[path.name] = oct(path.stat().st_mode & 0o777)
    assert wrong == {}


def test_every_pin_is_exact_and_comes_from_an_index() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    form = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.+!]*(; [^@]+)?")
    assert [pin for pin in pins if not form.fullmatch(pin)] == []
    names = [pin.partition("==")[0] for pin in pins]
    assert len(pins) > 100
    assert "torch" in names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "too deep"),
        ('{"a":' * 100_000, "too deep"),
        ("9" * 5000, "a whole number of 5000 digits"),
        ("-" + "9" * 309, "a whole number of 309 digits"),
        ("[1, 1" + "0" * 400 + "]", "a whole number of 401 digits"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_json_has_bounds(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=why):
        read_json(path)


def test_json_within_the_bounds_is_what_it_was() -> None:
    text = json.dumps({"a": [10**300, -1, 1e308], "sum": "9" * 400, "b": {"c": None}})
    assert parse_json(text) == json.loads(text)


def test_only_files_are_read_and_no_endless_ones(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "a pipe"), (tmp_path / "zero", "a device")):
        with pytest.raises(UserError, match=f"is {kind}, not a file"):
            read_json(path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # a hole: it takes no space
    with pytest.raises(UserError, match="holds more than 256 MiB"):
        read_bytes(large)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"cannot read .*loop"):
        read_json(tmp_path / "loop")


def test_names_no_file_can_have() -> None:
    for text in ("", "a\0b", "a\udce9", "x/" + "ü" * 128, "a/" * 2048):
        assert path_fault(text)
    for text in ("runs/grüße", "漢字", "~nouser", "a" * 255, "new\nline", "-x"):
        assert path_fault(text) == ""
