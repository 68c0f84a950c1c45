"""gan/, vae/ and report/ are flat; the first two have names in common (`train`, `utils`, ...).

As a grader does, each test file imports from its own folder: before a file of tests/gan is
collected or run, gan/ is first on sys.path and its modules are the ones in sys.modules.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

# Tiny tensors, and processes side by side: more threads would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

# No test cuts the power; beside other work a disk takes seconds for what it is asked to keep.
os.fsync = lambda handle: None

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("gan", "vae", "report")
sys.path.append(str(ROOT / "tests"))  # for what all of them use
_modules = {folder: {} for folder in FOLDERS}
_active = None


def use_folder(folder):
    global _active
    if folder not in FOLDERS or folder == _active:
        return
    for other in FOLDERS:
        places = [ROOT / other, ROOT / "tests" / other]
        ours = (f"{places[0]}{os.sep}", str(places[1] / "helpers.py"))
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(ours):
                del sys.modules[name]
                if other == _active:
                    _modules[other][name] = module
        sys.path[:] = [entry for entry in sys.path if Path(entry) not in places]
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
    signal.signal(signal.SIGTERM, _stop)
    signal.set_wakeup_fd(_written.fileno())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: children's children are ours


# Runs within this process take signals to themselves; those that no test sent are for the suite.
_read, _written = socket.socketpair()
_read.setblocking(False), _written.setblocking(False)
_sent, _send = Counter(), os.kill


def _count_and_send(process, number):
    _sent[number] += process == os.getpid()
    _send(process, number)


os.kill = _count_and_send
signal.raise_signal = lambda number: os.kill(os.getpid(), number)


def _stop(number, frame=None):
    pytest.exit(f"stopped by {signal.Signals(number).name}", 128 + number)


def pytest_runtest_logfinish(nodeid):
    came = Counter()
    with contextlib.suppress(BlockingIOError):
        came.update(_read.recv(1000))
    for number in came - _sent:
        if signal.Signals(number).name in ("SIGINT", "SIGTERM", "SIGHUP"):
            _stop(number)
    _sent.clear()


def pytest_unconfigure():
    """What still runs ends, and is waited for: its time counts."""
    for path in Path("/proc/self/task").glob("*/children"):
        for process in map(int, path.read_text().split()):
            _send(process, signal.SIGKILL)
            os.waitpid(process, 0)


@pytest.fixture(scope="session")
def shared():
    """The folder of real data beside the project; tests that need it skip where it is not."""
    folder = ROOT.parent / "shared"
    if not (folder / "datasets").is_dir():
        pytest.skip("needs ../shared, which is not beside this checkout")
    return folder


@pytest.fixture
def tree(tmp_path):
    import tiny

    return tiny.plant(tmp_path)
