"""Scripts that are killed and interrupted end as if they had not been; a stopped suite stops."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forks import Fork, ends
from kill_runs import outcome

GAN = "gan/q1_5.py --dataset synthetic", "--batch_size 2 --num_iterations 300 --log_period 150"
VAE = "vae/train.py ae_small --dataset synthetic", "--num_epochs 6 --batch_size 1"


def wait(true):
    """Until it is; a minute and more for a busy machine."""
    end = time.monotonic() + 300
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


@pytest.mark.parametrize("script, options", [GAN, VAE], ids=["GAN", "VAE"])
def test_killed_and_interrupted_scripts_end_bit_identical(script, options, tree):
    """Gone on with by what the program says."""
    folder = tree / "parts"
    path = folder / ("" if "gan" in script else "ae_small_synthetic") / "state.pt"

    def step():
        state = torch.load(path, weights_only=True) if path.exists() else {"step": -1}
        return state["step"], state.get("parts", {}).get("batches", {}).get("cursor", 0)

    ends(tree, f"{script} {options} --out_dir whole")
    begin = f"{script} {options} --save_minutes 1e-9 --out_dir parts"
    parts = Fork(tree, begin, tree, tree / "errors1")
    wait(lambda: parts.poll() is not None or step()[0] >= 0 and step()[1])
    parts.send_signal(signal.SIGKILL)  # as a power cut would
    parts.wait()
    killed_at = step()
    assert killed_at[0] < (300 if "gan" in script else 6)
    resumed = Fork(tree, f"{script} --out_dir parts --resume", tree, tree / "errors2")
    wait(lambda: resumed.poll() is not None or step() > killed_at)
    if resumed.poll() is None:
        resumed.send_signal(signal.SIGINT)
    code, told = resumed.wait()
    if code != 0:  # it may have been quicker than the signal
        assert code == 130
        line = told.strip().rpartition("go on with: ")[2].partition(f" {tree}/")[2]
        ends(tree, line)
    assert outcome(tree / "whole") == outcome(folder)


SUITE = """
import signal, subprocess, time
from pathlib import Path

def test_that_swallows():
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    heard = []
    signal.signal({kind}, lambda number, frame: heard.append(number))
    Path("child").write_text(str(child.pid))
    while not heard:
        time.sleep(0.01)

def test_that_should_not_begin():
    Path("second").touch()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_suite_stops(number, tmp_path):
    """Where the test at hand takes the signal to itself, as a training run does; children end."""
    (tmp_path / "tests").mkdir()
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path / "tests")
    (tmp_path / "tests/test_x.py").write_text(SUITE.format(kind=f"signal.{number.name}"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"]
    suite = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    suite.send_signal(number)
    assert suite.wait() == 128 + number and not (tmp_path / "second").exists()
    child = int((tmp_path / "child").read_text())
    wait(lambda: not Path(f"/proc/{child}").exists() or os.waitpid(child, os.WNOHANG)[0])
