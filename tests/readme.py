"""The README's commands, for the tests that run each of them with small numbers put in."""

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(folder):
    """Those of `folder`'s scripts, as lists of words that begin with the script."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
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
