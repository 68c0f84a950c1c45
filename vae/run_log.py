"""The one owner of an output folder: rows, events and state of a run, safe from any crash."""

import contextlib
import csv
import json
import platform
import signal
from pathlib import Path

import torch
import torchvision
from torch.utils.tensorboard import SummaryWriter

from errors import InputError, Interrupted
from files import atomic, is_writable, load_tensors, save_tensors

# The option to name when a setting differs from that of the run to be resumed.
OPTION_OF = {
    "data": "--data_dir or --dataset (the pixels)",
    "number_format": "the number format (--disable_amp, or another machine)",
    "loss": "the script",
    "model": "the model",
    "network": "the network",
    "networks": "the networks",
    "optimizers": "make_optimizers",
    "generator_every": "generator_every",
    "lamb": "lamb",
    "num_epochs": "--num_epochs (the slope of a linear schedule)",
}


def check_folder(folder, results, resume, overwrite):
    """Refuse, before any work, a folder that cannot be written or whose results would be lost.

    results: the file name patterns that belong to a run.
    """
    folder = Path(folder)
    try:
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        usable = is_writable(existing)
    except PermissionError:
        usable = False
    if not usable:
        raise InputError(f"output folder: {folder} cannot be written; give another one")
    own_state = folder / "state.pt"
    state = own_state if resume is True else Path(resume or own_state)
    if resume and not state.is_file():
        raise InputError(f"--resume: no file {state}; start without --resume, or name another state")
    found = [path.name for pattern in results for path in folder.glob(pattern)]
    # A start that was killed before its first state left these three, and nothing to lose.
    harmless = (
        ("config.json", "events.out") if count_rows(folder) else ("config.json", "events.out", "metrics.csv")
    )
    found = [name for name in found if not name.startswith(harmless)]
    if resume and own_state.is_file() and state.resolve() != own_state.resolve():
        raise InputError(
            f"output folder: {folder} holds a run of its own, which --resume {state} would replace; give another folder"
        )
    if found and not (resume or overwrite):
        raise InputError(
            f"output folder: {folder} holds a run ({found[0]}, ...); give --resume, --overwrite or another folder"
        )


def count_rows(folder):
    """Log lines in the folder's metrics.csv, 0 where there is none."""
    path = Path(folder) / "metrics.csv"
    return max(0, len(path.read_text().splitlines()) - 1) if path.is_file() else 0


def load_state(path, state_format, same_run):
    """The state of a run with the same settings, or InputError that names what differs."""
    state = load_tensors(path, "--resume", "give another, or start again with --overwrite")
    if not isinstance(state, dict) or state.get("format") != state_format:
        raise InputError(
            f"--resume: {path} is not a state of this program (expected a {state_format!r} file)"
        )
    for key, value in same_run.items():
        if (stored := state["run"].get(key)) != value:
            raise InputError(
                f"--resume: {OPTION_OF.get(key, f'--{key}')} was {stored!r} in {path}, now {value!r}; "
                "give it as it was, or --overwrite or another folder for a new run"
            )
    return state


class RunLog:
    """metrics.csv, config.json, TensorBoard events and state.pt of one run in `folder`.

    `rows` is a list of dicts with keys from `columns`; the first column is the step. The rows are
    part of the state, and metrics.csv is written from them, so a resumed run never keeps a row from
    after the step it went back to. results: what --overwrite may delete. resumed: a loaded state.
    """

    def __init__(self, folder, columns, results, config, resumed=None):
        self.folder, self.columns = Path(folder), columns
        self.rows = list(resumed["rows"]) if resumed else []
        next_step = self.rows[-1][columns[0]] + 1 if self.rows else 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stale = (".unfinished.*",) if resumed else (".unfinished.*", *results)
            for path in [path for pattern in stale for path in self.folder.glob(pattern)]:
                path.unlink()
            with atomic(self.folder / "config.json") as unfinished:
                unfinished.write_text(
                    json.dumps(config | {"versions": versions()}, indent=2, default=str) + "\n"
                )
            self._write_rows()
            self.events = SummaryWriter(self.folder, purge_step=next_step if resumed else None)
        except OSError as error:
            raise InputError(
                f"output folder: cannot write {self.folder} ({error.strerror}); give another one"
            ) from None

    def add_row(self, row):
        """A log line: to metrics.csv, and its floats to TensorBoard."""
        self.rows.append(row)
        self._write_rows()
        for name, value in row.items():
            if isinstance(value, float) and name != "seconds":
                tag = name if row.get("kind", "log") == "log" else f"{row['kind']}/{name}"
                self.events.add_scalar(tag, value, row[self.columns[0]])
        self.events.flush()

    def _write_rows(self):
        with atomic(self.folder / "metrics.csv") as unfinished, open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def save_state(self, state, state_format):
        save_tensors(state | {"format": state_format, "rows": self.rows}, self.folder / "state.pt")

    def close(self):
        self.events.close()


def save_weights(module, path):
    save_tensors({name: value.cpu() for name, value in module.state_dict().items()}, path)


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__,
            "machine": platform.machine(), "threads": torch.get_num_threads()}  # fmt: skip


def rng_state(device):
    """State of torch's global generators, for a run on `device`."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_rng_state(state, device):
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


class StopSignal:
    """Turns SIGINT and SIGTERM into a flag for the length of a `with` block.

    The loop calls `check` between steps, so a step is never cut in two. A second signal of the same
    kind does what it would have done outside the block.
    """

    def __enter__(self):
        self.arrived = None
        self._previous = {}
        with contextlib.suppress(ValueError):  # outside the main thread: signals stay as they are
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number, frame):
        self.arrived = number
        signal.signal(number, self._previous[number])

    def check(self):
        """Raise Interrupted if a signal has arrived."""
        if self.arrived is not None:
            raise Interrupted(self.arrived, f"stopped by {signal.Signals(self.arrived).name}")
