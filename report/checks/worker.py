"""The checks of one hand-in in a process of its own, with limits, on a copy of its code.

The process imports the hand-in once and forks for each check (those of a group, which share a
costly part, together), so a crash or a hang costs its own rows and no other check's.
"""

import contextlib
import ctypes
import importlib
import inspect
import json
import linecache
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import torch

matplotlib.use("Agg")
# What hand-ins import, loaded once for every check.
import matplotlib.pyplot  # noqa: F401
import scipy.linalg  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision.datasets  # noqa: F401
import tqdm.std

from checks import (
    CANNOT_RUN,
    DIFFERS,
    NOT_THERE,
    PASSED,
    Check,
    HandIn,
    NotThere,
    Slip,
    Verdict,
    at_work,
    diffusion,
    gan,
    named,
    vae,
)
from checks.stand_ins import Notes, OnCPU, make_data, put_in

tqdm.std.tqdm.set_lock(threading.RLock())  # one of processes would be left behind
FAMILIES = (gan, vae, diffusion)  # importing them fills checks.CHECKS
MEMORY = 6 * 2**30  # bytes that a check may allocate
CODE = {".py", ".json", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".txt"}  # data stay behind
LARGEST, MOST = 2**20, 2000  # bytes of a file of code, and files
NO_END = re.compile(r"^if __name__.*:[ \t]*(\n[ \t]*(#.*)?)*\Z", re.MULTILINE)  # comments alone
LEFT_OUT = {"__pycache__", "node_modules", "site-packages", "venv", "wandb"}


def judge(one: Check, handin: HandIn) -> Verdict | None:
    """The verdict of a check, whatever the hand-in raises."""
    notes, at_work[:] = handin.notes, [one]  # what `wrong` takes its words from
    try:
        with OnCPU(notes), torch.set_grad_enabled(one.half != "diffusion"):  # sampling needs none
            verdict = one.function(handin)
    except NotThere as error:
        return Verdict(NOT_THERE, str(error))
    except Slip as error:
        return error.verdict
    except BaseException as error:  # SystemExit of a script without a guard, too
        return _of_exception(error, handin)
    if verdict and (old := [notes.old[kind] for kind in one.old if kind in notes.old]):
        remark = f"Today's libraries stop it: {'; '.join(old)}."
        fine = verdict.word in PASSED
        said = [verdict.sentence, "Right with that apart." if fine else "", remark]
        return Verdict(DIFFERS if fine else verdict.word, " ".join(filter(None, said)))
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
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    if isinstance(error, NotImplementedError) and frames and last == [frames[-1][0]]:
        return Verdict(NOT_THERE, f"a TODO{where}")
    if isinstance(error, SyntaxError):
        path = Path(error.filename or "")
        text = path.read_text(errors="replace") if path.is_file() else ""
        if re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE):
            return Verdict(CANNOT_RUN, f"an unresolved merge conflict in {path.name}")
        if isinstance(error, IndentationError) and "expected an indented block" in reason:
            return Verdict(NOT_THERE, f"a TODO, a body of comments alone: {path.name}: {reason}")
    said = f"{type(error).__name__}{': ' if reason else ''}{reason}{where}"
    # What a place that nobody has filled yet leads to, there or further on.
    empty = "NoneType" in reason or "empty parameter list" in reason
    if isinstance(error, NameError) and frames:  # a bare `return loss`, or `gen=gen_fn,`
        code = linecache.getline(frames[-1][0].f_code.co_filename, frames[-1][1]).split("#")[0]
        name = error.name or (reason.split("'") + [""])[1]  # of a local without a value
        empty |= bool(re.fullmatch(rf"(return |\w+ ?= ?){name},?", code.strip()))
    if "ellipsis" in reason or (empty and _has_todo(handin.folder, frames)):
        return Verdict(NOT_THERE, f"a TODO, or what follows from one: {said}")
    if handin.notes.missing and "StandIn" in reason:
        said += f" (not installed, stood in for: {', '.join(sorted(handin.notes.missing))})"
    return Verdict(CANNOT_RUN, said)


def _has_todo(folder: Path, frames: list) -> bool:
    """Whether the handout's places to fill are still there: in these functions, or in a network."""
    paths = [folder / name for name in ("model.py", "networks.py")]
    sources = [path.read_text(errors="replace") for path in paths if path.is_file()]
    for frame, _ in frames:
        with contextlib.suppress(OSError, TypeError):
            sources.append(inspect.getsource(frame.f_code))
    left = re.compile(r"=\s*(None|\.\.\.)\s*$|^\s*pass\s*$|TODO", re.MULTILINE)
    return any(left.search(source) for source in sources)


def copy_code(folder: Path, place: Path) -> Path:
    """A copy that a hand-in may write into; only code comes along, whatever folders are called."""
    target, count, own = place / folder.name, 0, folder.resolve()
    own = own.parent if own.name in ("gan", "vae", "diffusion") else own
    target.mkdir(parents=True)
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in sorted(folders) if name[0] != "." and name not in LEFT_OUT]
        for path in (Path(root, name) for name in sorted(names)):
            inside = path.is_file() and path.resolve().is_relative_to(own)  # where links lead
            if path.suffix not in CODE or not inside or path.stat().st_size > LARGEST:
                continue
            if path.suffix != ".py" and (count := count + 1) > MOST:
                continue
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            if path.suffix == ".py" and NO_END.search(text := path.read_text(errors="replace")):
                copy.write_text(f"{text}\n    pass\n")
    return target


def serve(results: Any, folder: str, names: Sequence[str], seconds: int) -> None:
    """Send (name, verdict as a pair or None) of each check of the modules in `folder`.

    The start of a process: called by check.py, never by a check.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.setsid()  # a session that can be killed as a whole
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come here, and are ended
    notes, checks = Notes(), [named(name) for name in names]
    with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as nowhere:
        copy = copy_code(Path(folder).resolve(), Path(place).resolve() / "hand-in")
        make_data(copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.argv = ["check"]
        sys.dont_write_bytecode = True
        sys.stdout = sys.stderr = nowhere
        torch.set_num_threads(1)  # forks of a process with a pool of threads hang
        warnings.simplefilter("ignore")
        put_in(notes, copy)
        handin, out = HandIn(copy, notes), Path(place, "verdicts")
        import_once(handin, out, seconds)
        handin.files = {*copy.parent.rglob("*")}
        for _, members in groupby(checks, key=lambda one: one.group or one.name):
            for name, verdict in _verdicts(list(members), handin, out, seconds):
                results.send((name, verdict and (verdict.word, verdict.sentence)))
        results.close()
    os._exit(0)  # whatever threads it may have


def import_once(handin: HandIn, out: Path, seconds: int) -> None:
    """Import the modules here that a child could import; note those that never end."""
    paths = sorted(path.stem for path in handin.folder.glob("*.py"))
    names = [name for name in paths if name.isidentifier() and not name.startswith("test")]
    while names:
        done: list[str] = []

        def trial(tell: Callable, names: list[str] = names) -> None:
            for name in names:
                tell(f"{name} begins")
                fine = True
                try:
                    with OnCPU(handin.notes):  # as in a check: what ends early there, ends here
                        importlib.import_module(name)
                except BaseException:  # a check that needs it will say so
                    fine = False
                tell(f"{name} {'imported' if fine else 'fails'}")

        lines = [line for line in _child(trial, out, seconds) if line[0] != "!"]
        told = [line.split() for line in lines]
        done = [name for name, what in told if what != "begins"]
        for name, what in told:
            if what == "imported":
                with contextlib.suppress(BaseException), OnCPU(handin.notes):
                    importlib.import_module(name)
        if len(done) == len(names):
            return
        hung = next(name for name in names if name not in done)
        handin.never[hung] = (
            f"importing {hung}.py is not done after {seconds} s, or ends the process: what it does "
            'belongs under if __name__ == "__main__"'
        )
        names = names[names.index(hung) + 1 :]


def _verdicts(
    checks: list[Check], handin: HandIn, out: Path, seconds: int
) -> Iterator[tuple[str, Verdict | None]]:
    """Of the checks of a group, in children."""
    while checks:
        for path in {
            *handin.folder.parent.rglob("*")
        } - handin.files:  # what those before have written
            path.unlink(missing_ok=True) if path.is_file() else None

        def run(tell: Callable, checks: list[Check] = checks) -> None:
            torch.manual_seed(0)
            os.chdir(handin.folder)  # an import may have gone elsewhere
            handin.tell = tell  # what a shared part says when it begins and when it is there
            for one in checks:
                verdict = judge(one, handin)
                tell(json.dumps([one.name, verdict and [verdict.word, verdict.sentence]]))

        why, told = "", []
        for line in _child(run, out, seconds):
            if line.startswith("["):
                name, pair = json.loads(line)
                yield name, Verdict(*pair) if pair else None
                checks = checks[1:]
            elif line.startswith("!"):
                why = line[1:]
            else:
                told.append(line)
        if checks:  # the first of them is what went wrong; a shared part is everybody's
            lost = checks if told[-1:] == ["shared begins"] else checks[:1]
            for one in lost:
                yield one.name, Verdict(CANNOT_RUN, why)
            checks = checks[len(lost) :]


def _child(work: Callable, out: Path, seconds: int) -> Iterator[str]:
    """The lines that `work(tell)` tells in a fork; the last one is "!why" where it had to end."""
    out.write_text("")
    process = os.fork()
    if process == 0:
        _limit(seconds)
        with open(out, "a", buffering=1) as file:
            work(lambda line: print(line, file=file, flush=True))
        os._exit(0)
    read, status, why = 0, 0, ""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        lines = out.read_text().split("\n")[:-1]
        for line in lines[read:]:
            yield line
            end = time.monotonic() + seconds
        read = len(lines)
        if ended or time.monotonic() > end:
            break
        time.sleep(0.004)  # a check takes some hundredths of a second
    if not ended:
        why = f"not done after {seconds} s"
    elif code := os.waitstatus_to_exitcode(status):
        limited = code in (-signal.SIGXCPU, -signal.SIGKILL)
        why = f"the process ended by itself (exit code {code})"
        why = f"ended by the limit of {seconds} s or of memory" if limited else why
    _end_children()
    if why:
        yield f"!{why}"


def _limit(seconds: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        os.setsid()  # so that whatever it starts ends with it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive us
    with contextlib.suppress(ImportError, ValueError, OSError):  # where there are such limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        used = int(time.process_time())  # a fork goes on counting from there
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds))


def _end_children() -> None:
    """Kill all that this process has started, by whatever way, and is still there."""
    for _ in range(3):  # what a killed one had started becomes ours
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(stat.parent.name))
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if not found:
            return
