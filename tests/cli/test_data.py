"""`scaleinv data` as a user types it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scaleinv.cli import run
from scaleinv.lab.data import catalog


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("SCALEINV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    form = catalog.CATALOG["fashion-mnist"][0]
    monkeypatch.setitem(catalog.CATALOG, "fashion-mnist", (form._replace(system_folders=()),))


def test_table_without_a_data_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["digits", "intact"], ["mnist", "missing"], ["fashion-mnist", "missing"], ["cifar10", "missing"],
        ["cifar100", "missing"],
    ]  # fmt: skip
    assert lines[-1].startswith("no data folder: `scaleinv data fetch NAME` makes ")
    assert lines[-1].endswith("/scaleinv/data; or name one with --data-dir or the environment variable SCALEINV_DATA")


def test_json_and_a_damaged_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(bytes(3074))
    assert run(["data", "--json", "--data-dir", str(tmp_path)]) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]
    assert rows["cifar100"]["state"] == "damaged"
    assert rows["cifar100"]["where"] == str(folder)
    assert rows["cifar100"]["bytes"] == 2 * 3074
    assert "train.bin is not the published file" in rows["cifar100"]["detail"]
    assert rows["cifar10"]["state"] == "missing"
    assert f"cifar10 is not in {tmp_path}" in rows["cifar10"]["detail"]


def test_the_real_sets_are_intact(capsys: pytest.CaptureFixture[str], real_folder: str) -> None:
    assert run(["data", "--data-dir", real_folder, "--json"]) == 0
    rows = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert rows["mnist"] == rows["cifar10"] == "intact"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["data", "--data-dir", "/nowhere"],
            "scaleinv: data folder /nowhere does not exist: create it or name another",
        ),
        (["data", "fetch"], "scaleinv: which data set? scaleinv data fetch NAME"),
        (["data", "fetch", "digits", "--data-dir", "."], "scaleinv: digits comes with scikit-learn"),
        (["data", "fetch", "foo"], "scaleinv: unknown data set 'foo'; choose one of: mnist"),
        (["data", "list", "mnist"], "scaleinv: `scaleinv data list` takes no name"),
    ],
)
def test_bad_input(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(words)
    assert captured.err.count("\n") == 1


def test_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "fetch", "cifar10", "--data-dir", str(tmp_path), "--mirror", "http://127.0.0.1:1"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scaleinv: cannot download http://127.0.0.1:1/cifar-10-python.tar.gz: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_fetch_from_a_mirror_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], real_folder: str) -> None:
    # a mirror may be a folder; real MNIST, compressed here, is not the published .gz: refused, nothing kept
    served = tmp_path / "served"
    served.mkdir()
    (served / "train-images-idx3-ubyte.gz").write_bytes(
        (Path(real_folder) / "MNIST/raw/t10k-labels-idx1-ubyte").read_bytes()
    )
    assert run(["data", "fetch", "mnist", "--data-dir", str(tmp_path / "new"), "--mirror", served.as_uri()]) == 2
    assert "is not the published file" in capsys.readouterr().err


REAL = os.environ.get("SCALEINV_DATA")


@pytest.fixture
def real_folder() -> str:
    if not REAL:
        pytest.skip("needs the real data sets: set SCALEINV_DATA")
    return REAL
