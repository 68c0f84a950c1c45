"""A run and its folder: who owns it, its rows, events and state, and how the run is stopped."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common import InputError, Interrupted
from common.command_line import UNNAMED
from common.device import Precision, cpu_capabilities, fast_bfloat16
from common.files import atomic, first_sentence, is_writable, load_tensors, locked, save_tensors


@dataclass(frozen=True)
class Layout:
    """What the runs of a program leave in their folders."""

    state_format: str
    columns: tuple[str, ...]  # of metrics.csv; the first is the step
    results: tuple[str, ...]  # patterns of file names; --overwrite removes these and nothing else


class RunFolder:
    """metrics.csv, config.json, TensorBoard events and state.pt of one run, safe from any crash.

    with RunFolder(...) as run:     what cannot be used is refused here, and nothing is written;
        run.begin(settings)         from here on the folder is this run's
        run.add_row(...), run.save(...)

    `rows` are dicts with keys from `layout.columns`. They are part of the state, and metrics.csv
    is written from them, so a resumed run never keeps a row from after the step it went back to.
    `state` is what --resume names, read once, or None.
    """

    def __init__(
        self,
        folder: Path | str,
        layout: Layout,
        resume: bool | str | Path | None = None,
        overwrite: bool = False,
    ):
        """resume: True for the folder's own state, or a path. Raises InputError."""
        self.folder, self.layout = Path(os.path.abspath(folder)), layout
        self.state: dict | None = None
        self.rows: list[dict] = []
        self.events: Any = None  # a SummaryWriter from `begin` on
        self._made: list[Path] = []  # folders that did not exist before, the deepest first
        self._held = contextlib.ExitStack()
        try:
            self._claim()
            self._check(resume, overwrite)
            if resume:
                self.state = self._read(self._state_path(resume))
                self.rows = list(self.state["rows"])
        except BaseException:
            self.close()
            raise
        self.resumed_from = self.state["path"].parent if self.state else self.folder
        self.begun = time.monotonic() - (self.state["seconds"] if self.state else 0.0)
        # A new run has nothing to lose before its first step, and is saved after that.
        self.saved = time.monotonic() if self.state else -math.inf

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder up; one that holds nothing yet goes again."""
        if self.events:
            self.events.close()
        self._held.close()
        with contextlib.suppress(OSError):  # not empty: it stays
            for folder in self._made:
                folder.rmdir()
        self._made = []

    def _claim(self) -> None:
        """Make the folder, and hold it until `close`."""
        folder = self.folder
        try:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            if not is_writable(missing[-1].parent if missing else folder):
                raise PermissionError
            self._made = missing
            folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            raise InputError(
                f"output folder: another run is at work in {folder}; wait for it or give another"
            ) from None
        except OSError:
            raise InputError(
                f"output folder: {folder} cannot be written; give another one"
            ) from None

    def _state_path(self, resume: bool | str | Path) -> Path:
        path = self.folder if resume is True else Path(str(resume))
        return path / "state.pt" if path.is_dir() else path

    def _check(self, resume: bool | str | Path | None, overwrite: bool) -> None:
        """Refuse a folder whose results would be lost."""
        own = self.folder / "state.pt"
        if resume:
            state = self._state_path(resume)
            if not state.is_file():
                raise InputError(
                    f"--resume: no file {state}; start without --resume, or name another state"
                )
            if own.is_file() and state.resolve() != own.resolve():
                raise InputError(
                    f"output folder: {self.folder} holds a run of its own, which --resume {state} "
                    "would replace; give another folder"
                )
        # A start that was killed before its first step left these, and nothing to lose.
        harmless = ["config.json", "events.out"]
        if not self._has_rows():
            harmless.append("metrics.csv")
        found = [path.name for path in self._results() if not path.name.startswith(tuple(harmless))]
        if found and not (resume or overwrite):
            raise self.refusal(found[0])

    def refusal(self, name: str = "state.pt") -> InputError:
        """The error for results that would be lost."""
        return InputError(
            f"output folder: {self.folder} holds a run ({name}, ...); "
            "give --resume, --overwrite or another folder"
        )

    def _results(self) -> list[Path]:
        return [path for pattern in self.layout.results for path in self.folder.glob(pattern)]

    def _has_rows(self) -> bool:
        path = self.folder / "metrics.csv"
        return path.is_file() and len(path.read_text().splitlines()) > 1

    def _read(self, path: Path) -> dict:
        mend = "give another, or start again with --overwrite"
        state = load_tensors(path, "--resume", mend)
        if not isinstance(state, dict) or state.get("format") != self.layout.state_format:
            found = state.get("format") if isinstance(state, dict) else type(state).__name__
            raise InputError(
                f"--resume: {path} is not a state of this program: got {found!r}, "
                f"expected {self.layout.state_format!r}; {mend}"
            )
        if missing := {"settings", "rows", "seconds"} - state.keys():
            raise InputError(f"--resume: {path} has no {sorted(missing)[0]}; {mend}")
        if not isinstance(state["rows"], list) or not isinstance(state["seconds"], float):
            raise InputError(f"--resume: {path} is damaged (rows, seconds); {mend}")
        return state | {"path": path}

    def check_settings(self, settings: Any) -> None:
        """Refuse to go on with other settings than the state's; InputError names what differs.

        A setting that is None is not known yet.
        """
        if self.state is None:
            return
        path = self.state["path"]
        try:
            stored = type(settings)(**self.state["settings"])
        except (TypeError, InputError) as error:
            raise InputError(
                f"--resume: {path} has other settings than this program ({error}); "
                "start again with --overwrite"
            ) from None
        for field in dataclasses.fields(settings):
            before, now = getattr(stored, field.name), getattr(settings, field.name)
            if field.compare and now is not None and before != now:
                name = field.metadata.get("label") or f"--{field.name}"
                raise InputError(
                    f"--resume: {name} was {before!r} in {path}, now {now!r}; "
                    "give it as it was, or --overwrite or another folder for a new run"
                )

    def restore(self, trainer: Any) -> None:
        """Put a trainer where the state was saved."""
        if self.state is None:
            return
        try:
            trainer.load_state_dict(self.state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {first_sentence(error)}"
            raise InputError(
                f"--resume: {self.state['path']} does not fit this program ({reason})"
            ) from None

    def begin(self, settings: Any, **more: Any) -> None:
        """Write config.json (with `more` in it) and the rows so far; what is stale goes."""
        self.settings = {
            field.name: getattr(settings, field.name)
            for field in dataclasses.fields(settings)
            if field.init
        }
        step = self.layout.columns[0]
        next_step = self.rows[-1][step] + 1 if self.rows else 0
        try:
            stale = [*self.folder.glob(".unfinished.*"), *([] if self.state else self._results())]
            for path in stale:
                path.unlink()
            config = self.settings | more | {"versions": versions()}
            with atomic(self.folder / "config.json") as unfinished:
                unfinished.write_text(json.dumps(config, indent=2, default=str) + "\n")
            self._write_rows()
            self.events = SummaryWriter(self.folder, purge_step=next_step if self.state else None)
        except OSError as error:
            raise InputError(
                f"output folder: cannot write {self.folder} ({error.strerror}); give another one"
            ) from None
        self.state = None  # it has served, and is large

    def add_row(self, row: dict) -> None:
        """A log line: to metrics.csv, and its floats to TensorBoard."""
        self.rows.append(row | {"seconds": round(self.seconds, 1)})
        self._write_rows()
        for name, value in row.items():
            if isinstance(value, float):
                tag = name if row.get("kind", "log") == "log" else f"{row['kind']}/{name}"
                self.events.add_scalar(tag, value, row[self.layout.columns[0]])
        self.events.flush()

    def _write_rows(self) -> None:
        with (
            atomic(self.folder / "metrics.csv") as unfinished,
            open(unfinished, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, self.layout.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    @property
    def seconds(self) -> float:
        """Of work on this run, earlier processes included."""
        return time.monotonic() - self.begun

    def save(self, trainer: Any) -> None:
        """Write state.pt; a bad state never replaces a good one."""
        trainer.check_finite()
        state = {
            "format": self.layout.state_format,
            "settings": self.settings,
            "rows": self.rows,
            "seconds": self.seconds,
        }
        save_tensors(trainer.state_dict() | state, self.folder / "state.pt")
        self.saved = time.monotonic()

    def save_if_due(self, trainer: Any) -> None:
        """Every `save_minutes` of the settings."""
        if time.monotonic() - self.saved > 60 * self.settings["save_minutes"]:
            self.save(trainer)


def recorded_settings(folder: Path, option: str) -> dict:
    """config.json of the run in `folder`, lists as tuples; empty where there is none."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{option}: cannot read {path} ({error})") from None
    if not isinstance(config, dict):
        raise InputError(f"{option}: {path} is not a run's config.json")
    known = {name: tuple(v) if isinstance(v, list) else v for name, v in config.items()}
    return {"dataset": UNNAMED} | known  # a program that brings its own images names none


def check_recorded_path(folder: Path, recorded: dict, name: str, option: str) -> None:
    """InputError where a path that the run in `folder` recorded is not there from here."""
    value = recorded.get(name)
    if value is not None and not Path(value).exists():
        raise InputError(
            f"{option}: {folder / 'config.json'} names {value}, which is not there from here; "
            f"give --{name}"
        )


def check_recorded_data(folder: Path, recorded: dict, data: str, instead: str = "") -> None:
    """InputError where the run in `folder` was trained on other pixels than those of `data`."""
    if recorded.get("data") not in (None, data):
        raise InputError(
            f"--data_dir: the run in {folder} was trained on other pixels "
            f"({recorded['data']}, these are {data}); give its data{instead}"
        )


def results_folder(given: Path | None, beside: Path) -> Path:
    """Where --evaluate writes: the folder that was given, made later, or that of the weights.

    Raises InputError where it cannot be written, before any work.
    """
    folder = given or beside
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not is_writable(there):
        raise InputError(f"--evaluate: {folder} cannot be written; give another --out_dir")
    return folder


def versions() -> dict:
    """What a run was made with."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "machine": platform.machine(),
        "processor": cpu_capabilities().get("cpu_name"),
        "fast_bfloat16": fast_bfloat16(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found


def rng_state(device: torch.device) -> dict:
    """State of torch's global generators, for a run on `device`."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_rng_state(state: dict, device: torch.device) -> None:
    """Go on from `rng_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def progress_bar(initial: int, total: int, unit: str, desc: str | None = None) -> tqdm:
    """For a training loop; in a log file it moves every half minute."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(
        initial=initial,
        total=total,
        unit=unit,
        desc=desc,
        dynamic_ncols=True,
        smoothing=0.05,
        mininterval=seconds,
        maxinterval=seconds,
    )


class Forecast:
    """Says once, after its first steps, how long a run takes where it is."""

    def __init__(self, unit: str, steps: int, cycle: int, precision: Precision):
        """steps: `unit`s that are left. cycle: how many of them are timed together."""
        self.unit, self.steps, self.cycle, self.precision = unit, steps, cycle, precision
        self.taken, self.start = 0, 0.0

    def step(self) -> None:
        """Call it after every step; the first one warms up."""
        self.taken += 1
        if self.taken == 1:
            self.start = time.perf_counter()
        if self.taken != 1 + self.cycle:
            return
        each = (time.perf_counter() - self.start) / self.cycle
        left = each * (self.steps - self.taken)
        time_left = f"{left / 3600:.1f} hours" if left > 5400 else f"{left / 60:.1f} minutes"
        tqdm.write(
            f"On {self.precision.device.type} in {self.precision.name}: {each:.2f} s for one "
            f"{self.unit}, about {time_left} for the {self.steps - self.taken:,} left, pictures "
            "and scores apart. "
            "Interrupt at any time and go on with --resume."
        )


class StopSignal:
    """Turns the signals that ask a program to end into a flag for the length of a `with` block.

    The loop calls `check` between steps, so a step is never cut in two. A second signal of the
    same kind does what it would have done outside the block. SIGHUP stays ignored where it is, as
    under nohup.
    """

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # the last two are not on Windows

    def __enter__(self) -> "StopSignal":
        self.arrived: int | None = None
        self._previous: dict[int, Any] = {}
        with contextlib.suppress(ValueError):  # outside the main thread: signals stay as they are
            for name in self.names:
                number = getattr(signal, name, None)
                if number is None:
                    continue
                # A script's background jobs begin with SIGINT ignored; there it is meant too.
                if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        self.arrived = number
        signal.signal(number, self._previous[number])

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self.arrived is not None:
            raise Interrupted(self.arrived, f"stopped by {signal.Signals(self.arrived).name}")


def last_good_state(folder: Path) -> str:
    """What to say of it."""
    state = folder / "state.pt"
    return f"the last good state is {state}" if state.exists() else "there is no state yet"


@contextlib.contextmanager
def stoppable(run: RunFolder, trainer: Any, where: Callable[[], str]) -> Any:
    """A training loop that a signal may end: yields a StopSignal; the state is saved on the way."""
    with StopSignal() as stop:
        try:
            yield stop
        except Interrupted as error:
            run.save(trainer)
            code = error.exit_code - 128
            raise Interrupted(code, f"{error} {where()}; go on with --resume") from None
