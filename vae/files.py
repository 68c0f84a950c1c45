"""Files that are either whole or not there: written beside their target and moved into place."""

import contextlib
import os
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torchvision.utils import make_grid, save_image

from errors import InputError


@contextlib.contextmanager
def atomic(path):
    """Yield a path beside `path` to write to; it takes the place of `path` once it is complete."""
    path = Path(path)
    # A process id, so that two runs may write one file; the same suffix, for writers look at it.
    unfinished = path.with_name(f".unfinished.{os.getpid()}.{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_writable(folder):
    """By permission bits too, so that root leaves a folder marked read-only alone."""
    folder = Path(folder)
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and bool(folder.stat().st_mode & 0o222)


def save_tensors(value, path):
    """A tree of tensors and builtins."""
    with atomic(path) as unfinished, open(unfinished, "wb") as file:
        try:
            torch.save(value, file)  # given a name, it would write that into the file
        except RuntimeError as error:  # torch's own word for a full disk
            raise OSError(f"cannot write {path} ({str(error).splitlines()[0]})") from None


def load_tensors(path, option, mend="give another"):
    """What `save_tensors` wrote, on the CPU; InputError where it is missing, cut or foreign."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{option}: no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript files, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for truncated, foreign and pickled files
        raise InputError(
            f"{option}: cannot read {path} ({first_sentence(error)}); it is damaged or not from this program; {mend}"
        ) from None


def first_sentence(error):
    """Of the many that an exception of torch's may have."""
    return (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0][:200]


def save_grid(images, path, nrow=10, zoom=1):
    """Images (B, 3, H, W) in [-1, 1] as one PNG, `nrow` a row, each pixel drawn zoom x zoom.

    Returns the grid (3, H', W') in [0, 1].
    """
    path = as_png(path)
    images = images.float().cpu().add(1).div(2).clamp(0, 1)
    grid = make_grid(images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3), nrow=nrow)
    with atomic(path) as unfinished:
        save_image(grid, unfinished)
    return grid


def as_png(path):
    """The handout's functions are called with and without the suffix."""
    path = Path(path)
    return path if path.suffix == ".png" else path.with_name(f"{path.name}.png")


def save_plot(x, y, xlabel, ylabel, title, filename):
    """A line plot as a PNG (".png" is added to a filename without it).

    `y` is one sequence, or a dict of label -> sequence for several curves.
    """
    filename = as_png(filename)
    curves = y if isinstance(y, dict) else {None: y}
    figure, axes = plt.subplots(figsize=(6, 4), dpi=150, layout="constrained")
    for label, values in curves.items():
        axes.plot(x, values, label=label, marker="." if len(x) < 50 else None)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)  # steps and epochs are whole
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend()
    with atomic(filename) as unfinished:
        figure.savefig(unfinished)
    plt.close(figure)
