"""A run and its folder: who owns it, its rows, events and state, and how the run is stopped."""

import contextlib
import csv
import json
import math
import os
import platform
import shlex
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common import InputError, Interrupted, NonFiniteError, Parser, first_line
from common.device import FAST_BFLOAT16, Precision, cpu_capabilities
from common.files import atomic, is_writable, load_tensors, locked, save_tensors
from common.measure import RunningMeans

# The signals that ask a program to end; the last two are not on Windows.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
# Settings that name a file or a folder: recorded as seen from the run's folder.
PATHS = ("data_dir", "fid", "inception_weights")
NO_PATHS = ("off", "inception")  # what --fid may be instead
LABELS = {  # of settings that are no options
    "data": "the data (the pixels)",
    "number_format": "the number format (--disable_amp, or another machine)",
    "schedule_epochs": "--num_epochs (the slope of the schedule)",
    "loss": "the script",
    "transforms": "the steps of build_transforms",
}
# Options that say how and where, not what is trained: no part of a run's settings.
APART = (
    *("device", "disable_amp", "download", "evaluate", "resume", "overwrite", "given", "again"),
    *("prefix", "out_dir", "log_dir", "presets", "parser", "runs", "num_samples", "own_file"),
)
MEND = "give another, or start again with --overwrite"
ANOTHER_RUN = (
    "resumed, it would again; start anew with --disable_amp, another --seed or, where the script "
    "has it, a lower --lr"
)


@dataclass(frozen=True)
class Layout:
    """What the runs of a program leave in their folders, and what may change on a resume."""

    state_format: str
    columns: tuple[str, ...]  # of metrics.csv, the first is the step; own terms are added
    results: tuple[str, ...]  # patterns of file names; --overwrite removes these and nothing else
    may_change: tuple[str, ...]  # settings of length, logging and scoring


class Run:
    """metrics.csv, config.json, TensorBoard events and state.pt of one run, safe from any crash.

    with Run(...) as run:                    what cannot be used is refused, and nothing is written;
        run.begin(settings, parts, total)    from here on the folder is this run's
        run.add_row(...), run.save(), run.check_signal()

    `step` counts what is done, iterations or epochs. `rows` are dicts with keys from the layout's
    columns; they are part of the state, and metrics.csv is written from them, so a resumed run
    never keeps a row from after the step it went back to. A signal is remembered until
    `check_signal`, so a step is never cut in two; a second one does what it would do elsewhere.
    """

    last_signal = 0  # of the last run of this process, if it was not acted upon

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        resume: bool | str | None = None,
        overwrite: bool = False,
        again: str = "--resume",
    ):
        """resume: True for the folder's own state, or the path of one. Raises InputError.

        again: what to type to go on with this run.
        """
        self.folder, self.layout, self.again = Path(os.path.abspath(folder)), layout, again
        self.state: dict | None = None
        self.rows: list[dict] = []
        self.step, self.total, self.signal = 0, 0, 0
        self.parts: dict[str, Any] = {}
        self.events: Any = None  # a SummaryWriter from `begin` on
        self._made: list[Path] = []  # folders that did not exist before, the deepest first
        self._held = contextlib.ExitStack()
        try:
            self._claim()  # first: two runs must not look at the same folder and both find it free
            self._check_free(resume, overwrite)
            if resume:
                self.state = self._read(state_path(self.folder, resume))
                self.rows, self.step = list(self.state["rows"]), self.state["step"]
        except BaseException:
            self.__exit__()
            raise
        self.resumed_from = self.state["path"].parent if self.state else self.folder
        self.begun = time.monotonic() - (self.state["seconds"] if self.state else 0.0)
        # A new run has nothing to lose before its first step, and is saved after that.
        self.saved = time.monotonic() if self.state else -math.inf

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type | None = None, error: Any = None, trace: Any = None) -> None:
        """Save where a signal ended it; give the folder up, and one that holds nothing yet goes."""
        try:
            if isinstance(error, Interrupted) and self.events:
                self.save()
                where = f"at {self.layout.columns[0]} {self.step} of {self.total}"
                error.args = (f"{error} {where}; go on with: {self.again}",)
            if isinstance(error, NonFiniteError):
                state = self.folder / "state.pt"
                last = f"the last good state is {state}" if state.exists() else "there is no state"
                error.args = (f"{error}; {last}",)
        finally:
            if self.events:
                self.events.close()
            self._held.close()
            Run.last_signal = self.signal  # one that came when all was done
            with contextlib.suppress(OSError):  # not empty: it stays
                for folder in self._made:
                    folder.rmdir()

    def _claim(self) -> None:
        """Make the folder, and hold it until the end."""
        folder = self.folder
        try:
            self._made = [place for place in (folder, *folder.parents) if not place.exists()]
            if not is_writable(folder):
                raise PermissionError
            folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            raise InputError(
                f"output folder: another run is at work in {folder}; wait for it or give another"
            ) from None
        except OSError:
            what = "is a file, expected a folder" if folder.is_file() else "cannot be written"
            raise InputError(f"output folder: {folder} {what}; give another one") from None

    def _check_free(self, resume: bool | str | None, overwrite: bool) -> None:
        """Refuse a folder whose results would be lost."""
        own = self.folder / "state.pt"
        state = state_path(self.folder, resume) if resume else own
        if resume and not state.is_file():
            raise InputError(
                f"--resume: no file {state}; start without --resume, or name another state"
            )
        if own.is_file() and state.resolve() != own.resolve():
            raise InputError(
                f"output folder: {self.folder} holds a run of its own, which --resume {state} "
                "would replace; give another folder"
            )
        # A start that was killed before its first step left these, and nothing to lose.
        harmless = ("config.json", "events.out")
        found = [path.name for path in self._results() if not path.name.startswith(harmless)]
        if found and not overwrite and not (resume and own.is_file()):
            go_on = f"go on with: {self.again}, or give" if own.is_file() else "give"
            raise InputError(
                f"output folder: {self.folder} holds a run ({found[0]}, ...); {go_on} --overwrite "
                "or another folder"
            )

    def _results(self) -> list[Path]:
        return [path for pattern in self.layout.results for path in self.folder.glob(pattern)]

    def _read(self, path: Path) -> dict:
        state = load_tensors(path, "--resume", MEND)
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        if found != self.layout.state_format:
            what = f"is not a state of this program: got {found!r}, expected "
            raise InputError(f"--resume: {path} {what}{self.layout.state_format!r}; {MEND}")
        return state | {"path": path}

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with other settings than the state's; InputError names what differs.

        And, whatever is asked for, to replace the run of another script.
        """
        there = None
        with contextlib.suppress(InputError):  # what cannot be read goes
            there = recorded_settings(self.folder, "output folder").get("loss")
        if there not in (None, settings.get("loss")):
            raise InputError(
                f"output folder: {self.folder} holds a run of {there}, this is "
                f"{settings.get('loss')}; give another folder, or delete that one"
            )
        state = self.state or {"settings": {}}
        for name, before in state["settings"].items():
            now = settings.get(name, before)
            if name not in self.layout.may_change and now != before:
                raise InputError(
                    f"--resume: {LABELS.get(name, f'--{name}')} was {before!r} in {state['path']}, "
                    f"now {now!r}; give it as it was, or --overwrite or another folder for a new "
                    "run"
                )

    def begin(self, settings: dict, parts: dict[str, Any], total: int, **more: Any) -> None:
        """Restore the parts; write config.json (with `more` in it) and the rows so far.

        settings: builtins. parts: whatever a step changes, by name: modules, optimizers, random
        generators. total: the steps at which the run is complete. What is stale goes.
        """
        self.check(settings)
        self.settings, self.parts, self.total = settings, parts, total
        networks = (part for part in parts.values() if isinstance(part, nn.Module))
        self.device = next(next(networks).parameters()).device
        if self.state:
            self._restore(self.state)
        under_way = any(getattr(part, "taken", 0) for part in parts.values())
        if self.step + under_way > total:
            step = self.layout.columns[0]
            where = f"within {step} {self.step}" if under_way else f"at {self.step}"
            raise InputError(f"--num_{step}s: got {total}, the run is {where} already; give more")
        stale = [*self.folder.glob(".unfinished.*"), *([] if self.state else self._results())]
        for path in filter(Path.is_file, stale):
            path.unlink()
        with atomic(self.folder / "config.json") as unfinished:
            config = settings | more | {"versions": versions()}
            unfinished.write_text(json.dumps(config, indent=2, default=str) + "\n")
        if self.rows or self.state:  # those of after the restored step go
            self._write_rows()
        # Events of steps that the resumed run takes again; epochs count from 0.
        first = self.step + (self.layout.columns[0] == "iteration")
        self.events = SummaryWriter(self.folder, purge_step=first if self.state else None)
        self.state = None  # it has served, and is large
        self._catch_signals()

    def _restore(self, state: dict) -> None:
        try:
            for name, part in self.parts.items():
                load = part.set_state if isinstance(part, torch.Generator) else part.load_state_dict
                load(state["parts"][name])
            torch.set_rng_state(state["rng"]["cpu"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["rng"]["cuda"], self.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(
                f"--resume: {state['path']} does not fit this program ({reason})"
            ) from None

    def add_row(self, row: dict, prefix: str = "") -> None:
        """A log line: to metrics.csv, and its floats to TensorBoard."""
        self.rows.append(row | {"seconds": round(time.monotonic() - self.begun, 1)})
        self._write_rows()
        self.add_scalars(row, row[self.layout.columns[0]], prefix)
        self.events.flush()

    def add_scalars(self, values: dict, step: int, prefix: str = "") -> None:
        """The floats among them, to TensorBoard alone."""
        for name, value in values.items():
            if isinstance(value, float):
                self.events.add_scalar(prefix + name, value, step)

    def _write_rows(self) -> None:
        own = dict.fromkeys(name for row in self.rows for name in row)
        *columns, seconds = self.layout.columns
        columns += [name for name in own if name not in self.layout.columns]
        path = self.folder / "metrics.csv"
        with atomic(path) as unfinished, open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, [*columns, seconds])
            writer.writeheader()
            writer.writerows(self.rows)

    def check_finite(self) -> None:
        """Raise NonFiniteError if a loss since the last row, or any weight, is NaN or infinite."""
        odd, tensors = [], []
        for part in self.parts.values():
            if isinstance(part, RunningMeans):
                means = part.means().items()
                odd += [f"{n.replace('_', ' ')} {v:.4g}" for n, v in means if not math.isfinite(v)]
            elif isinstance(part, nn.Module):
                tensors += list(part.state_dict().values())
        # One answer for all of them, so that the device is waited for once.
        if not torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all():
            odd.append("a weight")
        if odd:
            where = f"by {self.layout.columns[0]} {self.step}: {', '.join(odd)}"
            raise NonFiniteError(f"not finite {where}; {ANOTHER_RUN}")

    def save(self) -> None:
        """Write state.pt; a bad state never replaces a good one."""
        self.check_finite()
        rng = {"cpu": torch.get_rng_state()}  # the global one: noise of z, transforms with chance
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        state = {
            "format": self.layout.state_format,
            "settings": self.settings,
            "rows": self.rows,
            "seconds": time.monotonic() - self.begun,
            "step": self.step,
            "rng": rng,
            "parts": {
                name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
                for name, part in self.parts.items()
            },
        }
        save_tensors(state, self.folder / "state.pt")
        self.saved = time.monotonic()

    def steps(self, loader: Iterable, bar: tqdm, after: Callable[[], None] = lambda: None) -> Any:
        """The loader's batches; between two a step is complete: shown, and saved if it is time."""
        for batch in loader:
            yield batch
            after()
            bar.update()
            self.end_step()

    def end_step(self) -> None:
        """Save every `save_minutes` of the settings, and stop where a signal has arrived."""
        if time.monotonic() - self.saved > 60 * self.settings["save_minutes"]:
            self.save()
        self.check_signal()

    def _catch_signals(self) -> None:
        previous: dict[int, Any] = {}

        def remember(number: int, frame: object) -> None:
            self.signal = number
            signal.signal(number, previous[number])  # a second one ends the program at once

        self._held.callback(lambda: [signal.signal(*pair) for pair in previous.items()])
        with contextlib.suppress(ValueError):  # outside the main thread: they stay as they are
            for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
                # Under nohup SIGHUP stays ignored. A script's background jobs begin with SIGINT
                # ignored; there it is meant all the same.
                ignored = signal.getsignal(number) is signal.SIG_IGN
                if not (ignored and number.name == "SIGHUP"):
                    previous[number] = signal.signal(number, remember)

    def check_signal(self) -> None:
        """Raise Interrupted if a signal has arrived; the state is saved on the way out."""
        if self.signal:
            number, self.signal = self.signal, 0
            raise Interrupted(number, f"stopped by {signal.Signals(number).name}")


def state_path(folder: Path, resume: bool | str | Path) -> Path:
    """What --resume names: the folder's own state, another's, or a file."""
    path = folder if resume is True else Path(str(resume))
    return path / "state.pt" if path.is_dir() or resume is True else path


def resume_line(*options: object, name: str = "") -> str:
    """What to type to go on with a run of this program, by its name perhaps, from any folder."""
    words = list(map(str, options))
    for at, word in enumerate(words[:-1]):
        if word in ("--out_dir", "--data_dir"):
            words[at + 1] = os.path.abspath(words[at + 1])
    words += ["--resume", *filter(None, [name])]
    if not getattr(sys.modules["__main__"], "__file__", None):  # a notebook, `python -c`
        return f"the same call with options=get_args(argv={words})"
    return shlex.join([sys.executable or "python", os.path.abspath(sys.argv[0]), *words])


def rebased(settings: dict, old: Path | str, new: Path | str) -> dict:
    """The same, with paths that were seen from one folder as seen from another."""
    found = [name for name in PATHS if isinstance(settings.get(name), str | Path)]
    paths = [name for name in found if settings[name] not in NO_PATHS]
    return settings | {n: os.path.relpath(os.path.join(old, settings[n]), new) for n in paths}


def settings_of(options: Namespace, folder: Path, precision: Precision, own: dict) -> dict:
    """What makes a run what it is, as builtins, for config.json and the state."""
    kept = {name: value for name, value in vars(options).items() if name not in APART} | own
    kept |= {"device": precision.device.type, "number_format": precision.name}
    return rebased(kept, ".", folder)


def recorded_settings(folder: Path, option: str) -> dict:
    """config.json of the run in `folder`, paths as seen from here; empty where there is none."""
    path = folder / "config.json"
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{option}: cannot read {path} ({error}); restore it") from None
    # A program that brings its own images names none.
    return {"dataset": "unnamed"} | rebased(config, folder, ".")


def as_options(recorded: dict, parser: Parser, folder: Path) -> dict:
    """The same, those that are options by their rules; InputError for an edited config.json."""
    apart = ("device", "dataset", "loss_mode", "beta_mode")  # or functions' names
    known = [name for name in parser.defaults() if name in recorded and name not in apart]
    try:
        return recorded | parser.check({name: recorded[name] for name in known})
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from None


def recorded_for_resume(folder: Path, resume: Any, given: dict) -> dict:
    """What --resume goes on with: the settings of the run, but for those that are given."""
    state = state_path(folder, resume)
    if not resume or not state.is_file():
        return {}
    found = load_tensors(state, "--resume", MEND)
    settings = found.get("settings", {}) if isinstance(found, dict) else {}
    settings = rebased(settings, state.parent, ".")
    settings["disable_amp"] = settings.get("number_format") == "float32"
    return {k: v for k, v in settings.items() if v is not None and k not in given}


def check_paths(folder: Path, options: Namespace, given: dict) -> None:
    """InputError where a file that the run in `folder` recorded is gone, and no other is given."""
    for name in PATHS:
        path = None if name in given else getattr(options, name, None)
        if path not in (None, *NO_PATHS) and not Path(path).exists():
            raise InputError(
                f"--evaluate: {folder / 'config.json'} names {path}, which is not there; "
                f"give --{name}"
            )


def check_data(folder: Path, recorded: dict, data: str) -> None:
    """InputError where the run in `folder` was trained on other pixels."""
    if recorded.get("data") not in (None, data):
        raise InputError(
            f"--data_dir: the run in {folder} was trained on other pixels "
            f"({recorded['data']}, these are {data}); give its data"
        )


def versions() -> dict:
    """What a run was made with."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "machine": platform.machine(),
        "processor": cpu_capabilities().get("cpu_name"),
        "fast_bfloat16": [kind for kind in FAST_BFLOAT16 if cpu_capabilities().get(kind)],
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found
