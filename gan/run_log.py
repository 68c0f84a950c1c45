"""The one owner of an output folder: what a run writes, in a way that a crash cannot spoil."""

import contextlib
import csv
import json
import os
import platform
import signal
from pathlib import Path

import torch
import torchvision
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid, save_image

from errors import InputError, Interrupted

STATE_FORMAT = "gan-state-1"
# What an earlier run leaves behind; --overwrite removes these and nothing else.
RESULTS = (
    "config.json", "metrics.csv", "state.pt", "generator.pt", "generator_best.pt", "discriminator.pt",
    "fid_vs_iterations.png", "losses_vs_iterations.png", "samples_*.png", "interpolations_*.png",
    "events.out.tfevents.*",
)  # fmt: skip
COLUMNS = (
    "iteration", "kind", "discriminator_loss", "gradient_penalty", "real_score", "fake_score", "generator_loss",
    "lr_discriminator", "lr_generator", "score", "score_name", "num_gen", "fid_mode", "fid_batch", "features",
    "seconds",
)  # fmt: skip

# The option to name when a resumed run's setting differs.
OPTION_OF = {"loss": "the loss (script)", "batch_size": "--batch_size", "seed": "--seed", "device": "--device",
             "data": "--data_dir or --dataset (the pixels)", "number_format": "--disable_amp (the number format)"}  # fmt: skip


@contextlib.contextmanager
def atomic(path):
    """Yield a path beside `path` to write to; it takes the place of `path` once it is complete."""
    path = Path(path)
    unfinished = path.with_name(f".unfinished.{path.name}")  # same suffix: writers look at it
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def save_tensors(value, path):
    with atomic(path) as unfinished:
        torch.save(value, unfinished)


def load_tensors(path, what):
    """A file of tensors and builtins, on the CPU; InputError where it is missing, cut or foreign."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{what}: no file {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for truncated, foreign and pickled files
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{what}: cannot read {path} ({reason}); it is damaged or not written by this program") from None


def save_grid(images, path):
    """Images (B, 3, H, W) in [-1, 1] as a PNG with 10 a row; returns the grid (3, H', W') in [0, 1]."""
    grid = make_grid(images.float().cpu().add(1).div(2).clamp(0, 1), nrow=10)
    with atomic(path) as unfinished:
        save_image(grid, unfinished)
    return grid


def check_folder(folder, resume, overwrite):
    """Refuse, before any work, a folder that cannot be written or whose results would be lost."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out_dir: {folder} is a file, expected a folder")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"--out_dir: {folder} cannot be written; give another folder")
    results = [path.name for pattern in RESULTS for path in folder.glob(pattern)]
    if results and not (resume or overwrite):
        raise InputError(f"--out_dir: {folder} holds a run ({results[0]}, ...); give --resume, --overwrite or another folder")


def load_state(path, config):
    """The state of a run made with the same `config` (see `same_run`), or InputError."""
    state = load_tensors(path, "--resume")
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise InputError(f"--resume: {path} is not the state of a GAN run")
    for key, value in config.items():
        if (stored := state["run"].get(key)) != value:
            raise InputError(
                f"--resume: {OPTION_OF.get(key, key)} was {stored!r} in {path}, now {value!r}; "
                "only run length, logging and scoring may change"
            )
    return state


class RunLog:
    """Rows, pictures, TensorBoard events and state of one run in `folder`.

    `rows` is a list of dicts with keys from COLUMNS, one for every log line. It is part of the
    state, so metrics.csv is rewritten from it and never holds a row from after the restored step.
    """

    def __init__(self, folder, config, rows=(), purge_after=None):
        self.folder = Path(folder)
        self.rows = list(rows)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if purge_after is None:
                for pattern in RESULTS:
                    for path in self.folder.glob(pattern):
                        path.unlink()
            self.write_json("config.json", config | {"versions": versions()})
            self._write_rows()
            purge_step = None if purge_after is None else purge_after + 1
            self.events = SummaryWriter(self.folder, purge_step=purge_step)
        except OSError as error:
            raise InputError(f"--out_dir: cannot write {self.folder} ({error.strerror}); give another folder") from None

    def write_json(self, name, value):
        with atomic(self.folder / name) as unfinished:
            unfinished.write_text(json.dumps(value, indent=2, default=str) + "\n")

    def add_row(self, row):
        """Append a log line to metrics.csv and its numbers to TensorBoard."""
        self.rows.append(row)
        self._write_rows()
        for name, value in row.items():
            if isinstance(value, float) and name != "seconds":
                label = f"score/{row['score_name']} {row['kind']}" if name == "score" else f"train/{name}"
                self.events.add_scalar(label, value, row["iteration"])
        self.events.flush()

    def _write_rows(self):
        with atomic(self.folder / "metrics.csv") as unfinished, open(unfinished, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def save_grid(self, images, kind, iteration):
        """`kind`_N.png and a TensorBoard image; images (B, 3, H, W) in [-1, 1]."""
        grid = save_grid(images, self.folder / f"{kind}_{iteration}.png")
        self.events.add_image(kind, grid, iteration)

    def save_weights(self, name, module):
        save_tensors({key: value.cpu() for key, value in module.state_dict().items()}, self.folder / name)

    def save_state(self, state):
        save_tensors(state | {"format": STATE_FORMAT, "rows": self.rows}, self.folder / "state.pt")

    def close(self):
        self.events.close()


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__,
            "machine": platform.machine(), "threads": torch.get_num_threads()}  # fmt: skip


class StopSignal:
    """Turns SIGINT and SIGTERM into a flag for the length of a `with` block.

    The loop asks `arrived` between steps, so a step is never cut in two; a second signal of the
    same kind falls through to the handler that was there before.
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
        """Raise Interrupted if a signal has arrived; for long work that changes no state."""
        if self.arrived is not None:
            raise Interrupted(self.arrived, f"stopped by {signal.Signals(self.arrived).name}")
