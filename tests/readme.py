"""The README's commands, for the tests that run each of them with small numbers put in."""

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(folder):
    """Those of `folder`'s scripts, as lists of words that begin with the script."""
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    words = [part.split() for line in lines for part in line.split("&&")]
    return [w[1:] for w in words if len(w) > 1 and w[1].startswith(f"{folder}/")]


def run(monkeypatch, script, *options):
    """Run a script as `python script options` does; SystemExit 0 is fine, others are raised."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise


def changed(options, **new):
    """The options with others in place of theirs, or added."""
    options = [*options]
    for name, value in new.items():
        if f"--{name}" in options:
            options[options.index(f"--{name}") + 1] = value
        else:
            options += [f"--{name}", value]
    return options


def blocks(kind):
    """The README's blocks of code of that kind."""
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)
