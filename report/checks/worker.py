"""The checks of one hand-in in a process of its own, with limits, on a copy of its code.

The process imports the hand-in once and forks for each check (those of a group, which share a
costly part, together), so a crash or a hang costs its own rows and no other check's.
"""

import contextlib
import ctypes
import importlib
import inspect
import linecache
import os
import re
import resource
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
from multiprocessing import Pipe
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

import checks.diffusion  # importing them fills checks.CHECKS
import checks.gan
import checks.vae  # noqa: F401
from checks import CANNOT_RUN, CHECKS, DIFFERS, NOT_THERE, PASSED, Check, HandIn, Slip, Verdict
from checks.stand_ins import Notes, OnCPU, make_data, put_in

tqdm.std.tqdm.set_lock(threading.RLock())  # one of processes would be left behind
MEMORY = 6 * 2**30  # bytes that a check may allocate
CODE = {".py", ".json", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".txt"}  # data stay behind
LARGEST, MOST = 2**20, 2000  # bytes of a file of code, and files
NO_END = re.compile(r"^if __name__.*:[ \t]*(\n[ \t]*(#.*)?)*\Z", re.MULTILINE)  # comments alone
LEFT_OUT = {"__pycache__", "node_modules", "site-packages", "venv", "wandb"}


def judge(one: Check, handin: HandIn) -> Verdict | None:
    """The verdict of a check, whatever the hand-in raises."""
    notes, checks.at_work[:] = handin.notes, [one]  # what `wrong` takes its words from
    try:
        with OnCPU(notes), torch.set_grad_enabled(one.half != "diffusion"):  # sampling needs none
            verdict = one.function(handin)
    except Slip as error:
        return error.args[0]
    except BaseException as error:  # SystemExit of a script without a guard, too
        return _of_exception(error, handin)
    if verdict and (old := [notes.old[kind] for kind in one.old if kind in notes.old]):
        remark = f"Today's libraries stop it: {'; '.join(old)}."
        fine = verdict.word in PASSED
        said = [verdict.sentence, "Right with that apart." if fine else "", remark]
        return Verdict(DIFFERS if fine else verdict.word, " ".join(filter(None, said)))
    return verdict


def _of_exception(error: BaseException, handin: HandIn) -> Verdict:
    walked = [*traceback.walk_tb(error.__traceback__)]
    frames = [f for f in walked if Path(f[0].f_code.co_filename).is_relative_to(handin.folder)]
    where, reason = "", (str(error).strip().splitlines() or [""])[0][:300]
    if frames:
        where = f" at {Path(frames[-1][0].f_code.co_filename).name}:{frames[-1][1]}"
    if isinstance(error, NotImplementedError) and frames and frames[-1] == walked[-1]:
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


def serve(
    results: Any, folder: str, copies: str, names: Sequence[str], seconds: int, dead: Sequence[str]
) -> None:
    """Send (name, verdict as a pair or None) of each check of the modules in `folder`.

    Before that ("", module) for each that is imported now, and ("", ""). dead: modules that have
    ended such a process. copies: where its copy goes. The start of one: called by check.py, never
    by a check.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.setsid()  # a session that can be killed as a whole
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come here, and are ended
    notes, of = Notes(), {one.name: one for one in CHECKS}
    with tempfile.TemporaryDirectory(dir=copies) as place, open(os.devnull, "w") as nowhere:
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
        handin = HandIn(copy, notes)
        with contextlib.suppress(ValueError, OSError):  # where there is such a limit
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        handin.never = {name: NEVER.format(f"importing {name}.py", seconds) for name in dead}
        import_once(handin, seconds, results.send)
        results.send(("", ""))
        handin.files = {*copy.parent.rglob("*")}
        for _, members in groupby((of[name] for name in names), lambda one: one.group or one.name):
            for pair in _verdicts(list(members), handin, seconds):
                results.send(pair)
    os._exit(0)  # whatever threads it may have; who waits hears of it when the copy is gone


NEVER = "{}: not done after {} s, or it ends the process: what an import does belongs under "
NEVER += 'if __name__ == "__main__"'


def import_once(handin: HandIn, seconds: int, tell: Callable) -> None:
    """Import the modules here, for all checks; note those that never end."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt  # which `except Exception` lets through

    signal.signal(signal.SIGALRM, stop)
    for path in sorted(handin.folder.glob("*.py")):
        name = path.stem
        signal.alarm(seconds)
        try:
            if name.isidentifier() and not name.startswith("test") and name not in handin.never:
                tell(("", name))
                with OnCPU(handin.notes):  # as in a check: what ends early there, ends here
                    importlib.import_module(name)
        except KeyboardInterrupt:
            handin.never[name] = NEVER.format(f"importing {name}.py", seconds)
        except BaseException:  # a check that needs it will say so
            pass
        finally:
            signal.alarm(0)


def _verdicts(
    those: list[Check], handin: HandIn, seconds: int
) -> Iterator[tuple[str, Verdict | None]]:
    """Of the checks of a group, in a fork; after a crash the rest in another."""
    while those:
        for path in {*handin.folder.parent.rglob("*")} - handin.files:  # others have written it
            path.unlink(missing_ok=True) if path.is_file() else None
        ours, theirs = Pipe(False)
        process, told, status = os.fork(), None, None
        if process == 0:
            _limit(seconds)
            torch.manual_seed(0)
            os.chdir(handin.folder)  # an import may have gone elsewhere
            handin.tell = theirs.send  # what a shared part says when it begins and when it is there
            for one in those:
                theirs.send((one.name, judge(one, handin)))
            os._exit(0)
        theirs.close()
        try:
            while those and ours.poll(seconds):
                told = ours.recv()
                if isinstance(told, tuple):
                    those = those[1:]
                    yield told
        except EOFError:
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        _end_children()
        if those:  # the first of them is what went wrong; a shared part is everybody's
            why = f"the process ended by itself (exit code {status})"
            if status in (-signal.SIGXCPU, -signal.SIGKILL):
                why = f"ended by the limit of {seconds} s or of memory"
            why = f"not done after {seconds} s" if status is None else why
            lost = those if told == "shared begins" else those[:1]
            yield from ((one.name, Verdict(CANNOT_RUN, why)) for one in lost)
            those = those[len(lost) :]


def _limit(seconds: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        os.setsid()  # so that whatever it starts ends with it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive us
    with contextlib.suppress(ValueError, OSError):
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
