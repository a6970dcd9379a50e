"""Run ``scaleinv check``."""

from scaleinv.cli.check import CheckCommand
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.inspect import inspect
from scaleinv.studies.terminal import say
from scaleinv.text import count


def run(command: CheckCommand) -> int:
    """Print what is damaged. Exit status 0: nothing; 1: something."""
    found = [one for folder in command.folders for one in inspect(folder)]
    damaged = sum(len(one.damaged) for one in found)
    whole, unguarded = sum(one.whole for one in found), sum(len(one.unguarded) for one in found)
    if command.json:
        say(json_text({"damaged": damaged, "whole": whole, "folders": [one.to_dict() for one in found]}))
        return 1 if damaged else 0
    for one in found:
        for name, why in one.damaged.items():
            say(f"{one.folder / name}: {why}")
        if one.damaged:
            say(f"  of {one.folder} can be used: {'; '.join(one.usable)}")
    told = f"{count(whole, 'file')} in {count(len(found), 'folder')} as written, {damaged} damaged"
    say(told + (f", {unguarded} without a checksum, as earlier versions wrote" if unguarded else ""))
    return 1 if damaged else 0
