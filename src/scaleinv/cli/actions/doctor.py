"""Run ``scaleinv doctor``."""

import contextlib
import json
import sys

from rich.console import Console

from scaleinv.cli.doctor import DoctorCommand, parse_inputs
from scaleinv.runfolder.files import write_bytes
from scaleinv.symmetry.check import differences, read_expected
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.inputs import load_model, random_inputs
from scaleinv.symmetry.render import html_page, terminal_table

#: exit status where the evidence does not decide
UNDECIDED = 3


def run(command: DoctorCommand) -> int:
    """Find the groups and print them.

    Exit status 0: groups printed and as expected. 1: groups differ from --expect. 3: the answer is undecided.
    """
    expected = read_expected(command.expect) if command.expect is not None else None
    inputs = random_inputs(parse_inputs(command.input), command.seed)
    model = load_model(command.model)
    with contextlib.redirect_stdout(sys.stderr):  # what the model prints is not the answer
        found = find_symmetries(model, inputs, seed=command.seed, outputs=command.output or None)
    if command.html is not None:
        page = html_page(found, command.model, command.lr)
        write_bytes(command.html, page.encode(), advice="choose another --html")
    if command.json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        console = Console()
        for line in terminal_table(found, command.lr):
            console.print(line)
    lines = differences(found, expected) if expected is not None else []
    for line in lines:
        print(line, file=sys.stderr)
    if found.verdict != "clear":
        return UNDECIDED
    return 1 if lines else 0
