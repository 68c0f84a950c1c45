"""How the house is built: the same folder in both halves, no import across, no circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HALVES, FOLDERS = ("gan", "vae"), ("gan", "vae", "report")
FILES = {folder: sorted((ROOT / folder).rglob("*.py")) for folder in FOLDERS}
TREES = {path: ast.parse(path.read_text()) for paths in FILES.values() for path in paths}


def imports(path):
    """The names that a file imports, wherever in it; those for type checkers alone included."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_two_common_folders_are_equal_and_about_neither():
    ours, theirs = ({p.name: p.read_text() for p in (ROOT / h).glob("common/*.py")} for h in HALVES)
    assert ours == theirs, "edit one, copy it over the other"
    assert 0 < len(ours) <= 5
    words = set(" ".join(ours.values()).lower().replace("_", " ").replace("/", " ").split())
    assert not words & {"gans", "autoencoder", "discriminator", "critic", "encoder", "kl", "beta"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_nothing_from_another_and_has_no_circle(folder):
    others = {*FOLDERS} - {folder}
    foreign = {path.stem for other in others for path in (ROOT / other).glob("*.py")}
    foreign = foreign - {path.stem for path in FILES[folder]} | others
    modules = {}
    for path in FILES[folder]:
        assert not {name.split(".")[0] for name in imports(path)} & foreign, path
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        modules[".".join(part for part in parts if part != "__init__")] = path
    ways = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    while leaves := [name for name, others in ways.items() if not others & ways.keys()]:
        for name in leaves:
            del ways[name]
    assert not ways, f"in a circle, or behind one: {ways}"


@pytest.mark.parametrize("folder, loop, most", [("gan", "train_model", 80), ("vae", "main", 95)])
def test_rooms_functions_and_loops_are_small(folder, loop, most):
    """Apart from the arguments of the handout's own functions."""
    assert len([path for path in (ROOT / folder).iterdir() if path.is_file()]) <= 19
    handouts = {"train_model", "main", "get_fid", "run_train_epoch"}
    for path, node in ((p, n) for p in FILES[folder] for n in ast.walk(TREES[p])):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([a for a in arguments if a.arg not in ("self", "cls")])
            assert count <= 8 or node.name in handouts, (path, node.name, count)
            if (path.name, node.name) == ("train.py", loop):  # without the docstring
                assert node.body[-1].end_lineno - node.body[1].lineno + 1 <= most


def test_product_code_reads_nothing_that_tests_write_and_leaves_sys_path_alone():
    for path in TREES:  # but for the checker, which puts a hand-in's folder on the path
        if "checks" not in path.parts and path.name != "check.py":
            text = path.read_text()
            assert "sys.path" not in text and "tests/" not in text, path
