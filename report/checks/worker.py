"""One check in a process of its own, with limits, on a copy of the hand-in's code."""

import contextlib
import inspect
import io
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
# What hand-ins import, loaded once for every check.
import matplotlib.pyplot  # noqa: F401
import scipy.linalg  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision.datasets  # noqa: F401
import tqdm.auto  # noqa: F401

from checks import (
    CANNOT_RUN,
    NOT_THERE,
    PASSED,
    Check,
    HandIn,
    NotThere,
    Verdict,
    diffusion,
    gan,
    named,
    vae,
)
from checks.stand_ins import Notes, OnCPU, make_data, put_in

FAMILIES = (gan, vae, diffusion)  # importing them fills checks.CHECKS
MEMORY = 6 * 2**30  # bytes that a check may allocate
LARGEST = 2**20  # files above this many bytes are data, not code


def judge(one: Check, handin: HandIn) -> Verdict | None:
    """The verdict of a check, whatever the hand-in raises."""
    notes = handin.notes
    try:
        with OnCPU(notes), torch.set_grad_enabled(one.half != "diffusion"):  # sampling needs none
            verdict = one.function(handin)
    except NotThere as error:
        return Verdict(NOT_THERE, str(error))
    except BaseException as error:  # SystemExit of a script without a guard, too
        return _of_exception(error, handin)
    old = [notes.old[kind] for kind in one.old if kind in notes.old]
    if verdict and old and verdict.word in PASSED:
        more = f" {verdict.sentence}" if verdict.sentence else ""
        return Verdict(CANNOT_RUN, f"{'; '.join(old)}. With that apart it is right.{more}")
    if verdict and old:
        return Verdict(verdict.word, f"{verdict.sentence} Besides, {'; '.join(old)}.")
    return verdict


def _of_exception(error: BaseException, handin: HandIn) -> Verdict:
    frames = [
        frame
        for frame in traceback.walk_tb(error.__traceback__)
        if Path(frame[0].f_code.co_filename).is_relative_to(handin.folder)
    ]
    where, reason = "", (str(error).strip().splitlines() or [""])[0][:300]
    if frames:
        frame, line = frames[-1]
        where = f" at {Path(frame.f_code.co_filename).name}:{line}"
    if isinstance(error, NotImplementedError) and frames:
        return Verdict(NOT_THERE, f"a TODO{where}")
    said = f"{type(error).__name__}{': ' if reason else ''}{reason}{where}"
    # What a place that nobody has filled yet leads to, there or further on.
    empty = "NoneType" in reason or "empty parameter list" in reason
    if (empty or isinstance(error, UnboundLocalError)) and _has_todo(handin.folder, frames):
        return Verdict(NOT_THERE, f"a TODO, or what follows from one: {said}")
    if handin.notes.missing:
        said += f" (not installed, stood in for: {', '.join(sorted(handin.notes.missing))})"
    return Verdict(CANNOT_RUN, said)


def _has_todo(folder: Path, frames: list) -> bool:
    """Whether the handout's places to fill are still there: in these functions, or in a network."""
    paths = [folder / name for name in ("model.py", "networks.py")]
    sources = [path.read_text(errors="replace") for path in paths if path.is_file()]
    for frame, _ in frames:
        with contextlib.suppress(OSError, TypeError):
            sources.append(inspect.getsource(frame.f_code))
    return any(re.search(r"=\s*None\s*$|^\s*pass\s*$", source, re.MULTILINE) for source in sources)


def copy_code(folder: Path, place: Path) -> Path:
    """A copy that a hand-in may write into; data, weights and pictures stay behind."""

    def left_out(directory: str, names: list[str]) -> list[str]:
        paths = [Path(directory, name) for name in names]
        return [
            path.name
            for path in paths
            if path.name.startswith((".", "__pycache__"))
            or path.is_symlink()
            or (path.is_dir() and path.name in ("datasets", "data", "venv", "wandb"))
            or (path.is_file() and path.stat().st_size > LARGEST)
            or path.suffix in (".png", ".jpg", ".pt", ".pth", ".npz")
        ]

    return Path(shutil.copytree(folder, place / folder.name, ignore=left_out))


def run_check(name: str, folder: str, result: str, seconds: int) -> None:
    """Write the verdict of a check on the modules in `folder` to `result`, as JSON.

    The start of a process: called by check.py, never by a check.
    """
    with contextlib.suppress(AttributeError):
        os.setsid()  # so that whatever it starts ends with it
    one, notes = named(name), Notes()
    with tempfile.TemporaryDirectory() as place:
        copy = copy_code(Path(folder).resolve(), Path(place).resolve() / "hand-in")
        make_data(copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.argv = ["check"]
        sys.dont_write_bytecode = True
        with contextlib.suppress(ImportError, ValueError, OSError):  # where there are such limits
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        torch.set_num_threads(1)
        torch.manual_seed(0)
        warnings.simplefilter("ignore")
        put_in(notes, copy)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            verdict = judge(one, HandIn(copy, notes))
    found = None if verdict is None else [verdict.word, verdict.sentence]
    Path(result).write_text(json.dumps(found))
