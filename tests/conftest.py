"""gan/, vae/ and report/ are flat; the first two have names in common (`train`, `utils`, ...).

As a grader does, each test file imports from its own folder: before a file of tests/gan is
collected or run, gan/ is first on sys.path and its modules are the ones in sys.modules.
"""

import os
import shutil
import sys
import warnings
from pathlib import Path

# Tiny tensors, and processes side by side: more threads would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

# No test cuts the power; beside other work a disk takes seconds for what it is asked to keep.
os.fsync = lambda handle: None

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("gan", "vae", "report")
sys.path.append(str(ROOT / "tests"))  # for emulated_device.py
_modules = {folder: {} for folder in FOLDERS}
_active = None


def use_folder(folder):
    global _active
    if folder not in FOLDERS or folder == _active:
        return
    for other in FOLDERS:
        home, helpers = str(ROOT / other) + os.sep, str(ROOT / "tests" / other / "helpers.py")
        loaded = {
            name: module
            for name, module in sys.modules.items()
            if (path := getattr(module, "__file__", None) or "").startswith(home) or path == helpers
        }
        for name in loaded:
            del sys.modules[name]
        if other == _active:
            _modules[other].update(loaded)
        sys.path[:] = [
            entry for entry in sys.path if Path(entry) not in (ROOT / other, ROOT / "tests" / other)
        ]
    sys.path[:0] = [str(ROOT / folder), str(ROOT / "tests" / folder)]  # the second for helpers
    sys.modules.update(_modules[folder])
    _active = folder


def pytest_collectstart(collector):
    if isinstance(collector, pytest.Module):
        use_folder(collector.path.parent.name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    use_folder(item.path.parent.name)


def pytest_configure(config):
    config.addinivalue_line("markers", "shared: needs the real data beside the project")


def pytest_collection_modifyitems(items):
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.fixture(scope="session")
def shared():
    """The folder of real data beside the project; tests that need it skip where it is not."""
    folder = ROOT.parent / "shared"
    if not (folder / "datasets").is_dir():
        pytest.skip("needs ../shared, which is not beside this checkout")
    return folder


SMALLER = [
    ("gan/download.py", "SYNTHETIC_IMAGES = 6_000", "SYNTHETIC_IMAGES = 8"),
    ("gan/networks.py", "batches: int = 8, size: int = 128", "batches: int = 1, size: int = 4"),
    ("gan/fid.py", "GENERATOR_BATCH = 256", "GENERATOR_BATCH = 8"),
    ("vae/dataset.py", "SYNTHETIC_IMAGES = (5_000, 1_000)", "SYNTHETIC_IMAGES = (10, 5)"),
]


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


@pytest.fixture
def tree(tmp_path):
    """A copy of both halves, with few drawn images, short estimates and tiny GANs; features."""
    import tiny
    import torch

    for half in ("gan", "vae"):
        ignore = shutil.ignore_patterns("__pycache__", "data", "data_*", "datasets")
        shutil.copytree(ROOT / half, tmp_path / half, ignore=ignore)
    for place, old, new in SMALLER:
        edit(tmp_path / place, old, new)
    with open(tmp_path / "gan/networks.py", "a") as file:
        file.write(f"\n\n{tiny.SOURCE}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(tiny.TinyFeatures(), torch.zeros(2, 3, 32, 32)).save(str(tmp_path / "f.pt"))
    return tmp_path
