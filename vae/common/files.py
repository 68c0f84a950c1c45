"""Files that are either whole or not there: written beside their target and moved into place."""

import contextlib
import hashlib
import io
import math
import os
import re
import shutil
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gdown
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torchvision.utils import make_grid, save_image

from common import InputError, first_line
from common.measure import progress_bar

matplotlib.rcParams["text.parse_math"] = False  # a folder's name may have dollars in it
_owned: set[str] = set()  # folders that this process has locked


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` once it is complete."""
    path = Path(path)
    # A process id, so that two runs may write one file; the same suffix, for writers look at it.
    unfinished = path.with_name(f".unfinished.{os.getpid()}.{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with old bytes
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_writable(folder: Path | str) -> bool:
    """Whether it, or what it would be made in, can be written to.

    By permission bits too, so that root leaves a folder marked read-only alone.
    """
    folder = Path(folder).absolute()
    place = next(place for place in (folder, *folder.parents) if place.exists())
    allowed = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return allowed and bool(place.stat().st_mode & 0o222)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Own an existing folder for a while; BlockingIOError if it is taken and `wait` is False.

    Who waits goes on at once where this process itself is the owner. The lock leaves no file, and
    goes with the process, however that ends. Where the system has no such locks (Windows, some
    network disks) nothing is locked.
    """
    key = os.path.realpath(folder)
    with contextlib.ExitStack() as held:
        if not (wait and key in _owned):
            try:
                import fcntl

                handle = os.open(folder, os.O_RDONLY)
                held.callback(os.close, handle)  # which gives the lock up
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except (ImportError, OSError):
                pass
            _owned.add(key)
            held.callback(_owned.discard, key)
        yield


def save_tensors(value: Any, path: Path) -> None:
    """A tree of tensors and builtins."""
    buffer = io.BytesIO()  # a full disk is then the file's error, which says so, not torch's
    torch.save(value, buffer)
    with atomic(path) as unfinished:
        unfinished.write_bytes(buffer.getbuffer())


def save_weights(module: torch.nn.Module, path: Path) -> None:
    """A state dict on the CPU."""
    save_tensors({name: value.cpu() for name, value in module.state_dict().items()}, path)


def load_tensors(path: Path | str, option: str, mend: str = "give another") -> Any:
    """What `save_tensors` wrote, on the CPU; InputError where it is missing, cut or foreign."""
    if not Path(path).is_file():
        found = {one.name for one in Path(path).parent.glob("*.pt")} - {"state.pt"}
        there = ", ".join(sorted(found))
        raise InputError(f"{option}: no file {path}" + f"; its folder has {there}" * bool(there))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript files, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for truncated, foreign and pickled files
        raise InputError(
            f"{option}: {path} is damaged, or no file of weights ({type(error).__name__}); {mend}"
        ) from None


def load_weights(module: torch.nn.Module, path: Path | str, option: str) -> None:
    """Fill `module` from a state dict, one of DataParallel's or below `state_dict` too."""
    weights = load_tensors(path, option)
    try:
        weights = dict(weights.get("state_dict", weights))
        consume_prefix_in_state_dict_if_present(weights, "module.")
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        name = type(module).__name__
        raise InputError(f"{option}: {path} does not hold the weights of {name}") from None


# ------------------------------------------------------------------------------------------------
# Pictures


def save_grid(images: Tensor, path: Path | str, nrow: int = 10, zoom: int = 1) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] as a PNG, `nrow` a row, each pixel zoom x zoom.

    Returns the picture (3, H', W') in [0, 1].
    """
    images = images.float().cpu().add(1).div(2).clamp(0, 1)  # (B, 3, H, W) in [0, 1]
    grid = make_grid(images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3), nrow=nrow)
    with atomic(as_png(path)) as unfinished:
        save_image(grid, unfinished)
    return grid


def save_film(folder: Path, pattern: str, path: Path, seconds: float) -> None:
    """An endless GIF of the pictures like samples_[0-9]*.png in the order of their numbers.

    Each stays for `seconds`, the last for 3 s; of more than 60 some, evenly, the last among them.
    """
    paths = sorted(folder.glob(pattern), key=lambda path: int(re.sub(r"\D", "", path.name)))
    paths = paths[:: -math.ceil(len(paths) / 60) or -1][::-1]
    # Each frame has a palette of its own: 256 colours are few for birds, fewer for all of them.
    frames = [Image.open(p).convert("RGB").quantize(256, dither=Image.Dither.NONE) for p in paths]
    if frames:
        each = [1000 * seconds] * (len(frames) - 1) + [3000]
        with atomic(path) as file:
            frames[0].save(file, save_all=True, append_images=frames[1:], duration=each, loop=0)


def as_png(path: Path | str, ending: str = ".png") -> Path:
    """The handout's functions are called with and without the suffix."""
    return Path(path) if str(path).endswith(".png") else Path(f"{path}{ending}")


def save_plot(
    x: Sequence[float], y: Any, xlabel: str, ylabel: str, title: str, filename: Path | str
) -> None:
    """A line plot as a PNG (".png" is added to a filename without it).

    `y` is one sequence, or a dict of label -> sequence for several curves.
    """
    curves = y if isinstance(y, dict) else {None: y}
    figure, axes = plt.subplots(figsize=(6, 4), dpi=150, layout="constrained")
    for label, values in curves.items():
        axes.plot(x, values, label=label, marker="." if len(x) < 50 else None)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)  # steps and epochs are whole
    axes.grid(alpha=0.3)
    drawn = [value for values in curves.values() for value in values if value == value]
    if drawn and 0 < 10 * min(drawn) < max(drawn):
        axes.set_yscale("log")  # else one early point would flatten all the rest
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    if any(curves):
        axes.legend()
    with atomic(as_png(filename)) as unfinished:
        figure.savefig(unfinished)
    plt.close(figure)


# ------------------------------------------------------------------------------------------------
# Downloads and fingerprints


def fetch(target: Path, digest: str, sources: dict[str, dict]) -> None:
    """Bring `target` from the first source that delivers bytes whose digest begins with `digest`.

    digest: "md5:..." or "sha256:...", in hex. sources: name -> what gdown.download takes, url= or
    id=; a broken download is gone on with. Raises InputError with every source's reason.
    """
    reasons, kind = [], digest.split(":")[0]
    for number, (name, source) in enumerate(sources.items()):
        partial = target.with_name(f".unfinished.{number}.{target.name}")
        begun = {path: path.stat().st_size for path in target.parent.glob(f"{partial.name}*")}
        try:
            if gdown.download(**source, output=str(partial), resume=True) is None:
                raise OSError("no answer that can be used (quota or permission)")
            if not f"{kind}:{digest_of(partial, kind)}".startswith(digest):
                partial.unlink()
                raise OSError(f"what came has another {kind}")
        except Exception as error:  # requests and gdown raise kinds of their own
            reasons.append(f"{name}: {first_line(error)}")
            for path, size in begun.items():  # a host that does not go on: anew the next time
                if path.exists() and path.stat().st_size == size:
                    path.unlink()
            continue
        partial.rename(target)
        for leftover in target.parent.glob(f".unfinished.?.{target.name}*"):
            leftover.unlink()
        return
    raise InputError(f"cannot download {target.name} ({'; '.join(reasons)})")


def unpack(archive: Path, md5: str, name: str, sources: dict[str, dict]) -> None:
    """The folder `name` of an archive, beside it and whole; the archive is fetched if missing."""
    if not archive.is_file():
        try:
            fetch(archive, f"md5:{md5}", sources)
        except InputError as error:
            raise InputError(
                f"--data_dir: {error}; put the file into {archive.parent} by hand, name data you "
                "have, or use --dataset synthetic"
            ) from None
    elif digest_of(archive) != md5:
        raise InputError(f"--data_dir: {archive} is damaged (wrong md5); delete it and run again")
    unfinished = archive.with_name(f".unfinished.{name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of an unpacking that was stopped
    with tarfile.open(archive) as tar:
        members = progress_bar(tar, desc="unpack", unit="file")
        tar.extractall(unfinished, members=members, filter="data")  # no path leads out of it
    (unfinished / name).rename(archive.with_name(name))
    shutil.rmtree(unfinished)


def digest_of(path: Path, kind: str = "md5") -> str:
    """In hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def check_images(images: Any) -> None:
    """InputError unless these are uint8 (N, 3, 32, 32): floats would be scaled a second time."""
    kind, shape = getattr(images, "dtype", None), getattr(images, "shape", (0,))
    if kind != torch.uint8 or len(shape) != 4 or shape[1:] != (3, 32, 32) or not shape[0]:
        got = f"{kind} {tuple(shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images: got {got}, expected a uint8 tensor (N, 3, 32, 32), N > 0")


def fingerprint(*images: Tensor) -> str:
    """Twelve hex digits that name the pixels of uint8 tensors, wherever their files lie."""
    digest = hashlib.sha256()
    for tensor in images:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]
