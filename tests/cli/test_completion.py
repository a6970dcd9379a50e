"""The completion scripts, asked by the shells themselves."""

from __future__ import annotations

import dataclasses
import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from scaleinv import cli
from scaleinv.cli.actions.completion import texts_of

BASH, ZSH = shutil.which("bash"), shutil.which("zsh")


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.run(["completion", shell]) == 0
    file = folder / f"completion.{shell}"
    file.write_text(capsys.readouterr().out)
    return file


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("scaleinv sw", {"sweep"}),
        ("scaleinv verif", {"verify"}),
        ("scaleinv sweep --variant s", {"si", "standard"}),
        ("scaleinv train --gradient ", {"batch", "full", "accumulate"}),
        ("scaleinv train --mod", {"--model", "--model-args"}),
        ("scaleinv reproduce --ru", {"--runs"}),
        ("scaleinv sweep --fro", {"--from"}),
        ("scaleinv verify --granularity ", set()),  # a flag of others
        ("scaleinv sweep --out ", set()),  # files, which readline itself offers
        ("scaleinv sweep --variant = st", {"standard"}),  # readline takes = for a word
        ("scaleinv sweep --variant =", {"si", "standard"}),
        ("scaleinv train --device ", {"auto", "cpu", "cuda", "mps"}),
        ("scaleinv data ", {"list", "fetch"}),
        ("scaleinv data fetch ci", {"cifar10", "cifar100"}),
        ("scaleinv completion ", {"bash", "zsh"}),
        ("scaleinv reproduce fig3 fig9", {"fig9-left", "fig9-right"}),
        ("scaleinv verify --scale qu", {"quick"}),
        ("scaleinv report runs --format svg,p", {"svg,pdf", "svg,png"}),
        ("scaleinv landscape runs --parts wa", {"walks"}),
        ("scaleinv report runs ", set()),
    ],
)
def test_bash(typed: str, offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = script("bash", tmp_path, capsys)
    words = typed.split(" ")
    ask = (
        f'source {file}; COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; _scaleinv; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", ask, "ask", *words], capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


@pytest.mark.skipif(ZSH is None, reason="no zsh")
def test_zsh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a zsh in a terminal puts in or lists after tabs, in a folder of two files."""
    file = script("zsh", tmp_path, capsys)
    (tmp_path / "mynet.py").touch()
    (tmp_path / "runs").mkdir()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "COLUMNS": "200", "PS1": "ready> "})

    def until(words: tuple[str, ...], typed: str = "") -> None:
        read, end = "", time.monotonic() + 20
        while not all(word in read for word in words) and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                read += os.read(terminal, 65536).decode(errors="replace")
        assert all(word in read for word in words), (typed, read)

    try:
        os.write(terminal, f"autoload -U compinit; compinit -u -D; source {file}; echo set''up\n".encode())
        until(("setup\r\n",))
        for typed, words in (
            ("scaleinv sw\t", ("sweep",)),
            ("scaleinv --\t\t", ("--help", "--version")),
            ("scaleinv sweep --label\t", ("--label-noise",)),
            ("scaleinv sweep --label-noise 0 --variant \t\t", ("si", "standard")),
            ("scaleinv sweep --variant=st\t", ("standard",)),
            ("scaleinv sweep --model \t\t", ("convnet", "resnet18", "mynet.py")),
            ("scaleinv sweep --out=r\t", ("runs/",)),
            ("scaleinv train --device \t\t", ("auto", "cuda")),
            ("scaleinv data \t\t", ("list", "fetch")),
            ("scaleinv data fetch \t\t", ("fashion-mnist", "cifar100")),
            ("scaleinv completion z\t", ("zsh",)),
            ("scaleinv reproduce fig3 fig9\t\t", ("fig9-left", "fig9-right")),
            ("scaleinv verify --scale q\t", ("quick",)),
            ("scaleinv report r\t --format svg,p\t\t", ("runs/", "pdf", "png")),
            ("scaleinv doctor my\t --input 2 --inp\t", ("mynet.py", "--input 2 --input")),  # may be repeated
        ):
            os.write(terminal, f"\x15{typed}".encode())
            until(words, typed)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def test_texts_of_certain_words_are_fields_of_commands() -> None:
    kinds = [cli.command_class(name) for name in cli.COMMANDS]
    fields = {one.name for kind in kinds for one in dataclasses.fields(kind)}
    assert all(set(texts_of(kind)) <= fields for kind in kinds)


def test_the_scripts_of_single_commands_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sweep", "--tyro-print-completion", "bash"]) == 2
    assert "scaleinv completion bash" in capsys.readouterr().err


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", "bahs"]) == 2
    assert "did you mean 'bash'?" in capsys.readouterr().err
