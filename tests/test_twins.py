"""The folders do not import each other; what both need is one file, twice, and stays the same."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("gan", "vae", "report")
TWINS = (
    "errors.py",
    "hardware.py",
    "files.py",
    "command_line.py",
    "running_means.py",
    "run_log.py",
    "fetch.py",
)


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_equal(name):
    assert (ROOT / "gan" / name).read_text() == (ROOT / "vae" / name).read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_nothing_from_another(folder):
    others = [name for name in FOLDERS if name != folder]
    own = {path.stem for path in (ROOT / folder).glob("*.py")}
    foreign = {path.stem for other in others for path in (ROOT / other).glob("*.py")} - own | set(others)
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & foreign, path
