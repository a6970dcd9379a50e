"""The completion scripts, asked by the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from scaleinv import cli

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
    file = script("zsh", tmp_path, capsys)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "COLUMNS": "200", "PS1": "ready> "})

    def until(word: str) -> str:
        read, end = "", time.monotonic() + 20
        while word not in read and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                read += os.read(terminal, 65536).decode(errors="replace")
        assert word in read, read
        return read

    try:
        os.write(terminal, f"autoload -U compinit; compinit -u -D; source {file}; echo set''up\n".encode())
        until("setup\r\n")
        for typed, word in (
            ("scaleinv sw\t", "sweep"),
            (" --label\t", "--label-noise"),
            (" 0 --variant s\t\t", "standard"),
        ):
            os.write(terminal, typed.encode())
            until(word)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def test_the_scripts_of_single_commands_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sweep", "--tyro-print-completion", "bash"]) == 2
    assert "scaleinv completion bash" in capsys.readouterr().err


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", "bahs"]) == 2
    assert "did you mean 'bash'?" in capsys.readouterr().err
