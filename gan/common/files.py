"""Files that are either whole or not there: written beside their target and moved into place.

Downloads too: they go on where they stopped and are checked before they get their name.
"""

import contextlib
import hashlib
import math
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

from common import InputError

_owned: set[tuple[int, int]] = set()  # folders that this process has locked: device, inode
Source = Callable[[Path], object]  # writes to the path it is given, going on with what is there


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
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


def is_writable(folder: Path | str) -> bool:
    """By permission bits too, so that root leaves a folder marked read-only alone."""
    folder = Path(folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return False
    return bool(folder.stat().st_mode & 0o222)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Own an existing folder for a while; BlockingIOError if it is taken and `wait` is False.

    Whoever waits goes on at once where this process itself is the owner.

    The lock is on the folder itself, leaves no file, and goes with the process, however that ends.
    Where the system or the file system has no such locks (Windows, some network disks) nothing is
    locked.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    status = os.fstat(handle)
    key = status.st_dev, status.st_ino
    if wait and key in _owned:
        os.close(handle)
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:
            pass
        _owned.add(key)
        try:
            yield
        finally:
            _owned.discard(key)
    finally:
        os.close(handle)


def save_tensors(value: Any, path: Path) -> None:
    """A tree of tensors and builtins."""
    with atomic(path) as unfinished, open(unfinished, "wb") as file:
        try:
            torch.save(value, file)  # given a name, it would write that into the file
        except RuntimeError as error:  # torch's own word for a full disk
            raise OSError(f"cannot write {path} ({first_sentence(error)})") from None


def save_weights(module: torch.nn.Module, path: Path) -> None:
    """A state dict on the CPU."""
    save_tensors({name: value.cpu() for name, value in module.state_dict().items()}, path)


def load_tensors(path: Path | str, option: str, mend: str = "give another") -> Any:
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
            f"{option}: cannot read {path} ({first_sentence(error)}); "
            f"it is damaged or not from this program; {mend}"
        ) from None


def load_weights(module: torch.nn.Module, path: Path | str, option: str) -> None:
    """Fill `module` from a state dict, or InputError."""
    weights = load_tensors(path, option)
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        name = type(module).__name__
        raise InputError(f"{option}: {path} does not hold the weights of a {name}") from None


def first_sentence(error: BaseException) -> str:
    """Of the many that an exception of torch's may have."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0][:200]


# ------------------------------------------------------------------------------------------------
# Pictures


FRAME = (6, 6, 6, 6)  # pixels, on all sides
ORANGE = (1.0, 0.55, 0.0)


def grid_of(images: Tensor, nrow: int = 10, zoom: int = 1, frames: bool = False) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] as one (3, H', W') in [0, 1], `nrow` a row.

    Each pixel is drawn zoom x zoom. frames: the first, third, ... have an orange frame, the others
    a black one.
    """
    images = images.float().cpu().add(1).div(2).clamp(0, 1)
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    if frames:
        frame = F.pad(torch.zeros_like(images[::2]), FRAME, value=1.0)
        images = F.pad(images, FRAME)
        images[::2] += frame * torch.tensor(ORANGE).view(3, 1, 1)
    return make_grid(images, nrow=nrow)


def save_grid(
    images: Tensor, path: Path | str, nrow: int = 10, zoom: int = 1, frames: bool = False
) -> Tensor:
    """`grid_of` the images as a PNG; returns it."""
    grid = grid_of(images, nrow, zoom, frames)
    with atomic(as_png(path)) as unfinished:
        save_image(grid, unfinished)
    return grid


def save_gif(frames: Iterable[Image.Image], path: Path | str, seconds: float, end: float) -> None:
    """An endless animation; each frame stays for `seconds`, the last one for `end`."""
    # Each frame has a palette of its own: 256 colours are few for birds, fewer for all of them.
    pictures = [frame.convert("RGB").quantize(256, dither=Image.Dither.NONE) for frame in frames]
    durations = [1000 * seconds] * (len(pictures) - 1) + [1000 * end]
    with atomic(path) as unfinished:
        pictures[0].save(
            unfinished, save_all=True, append_images=pictures[1:], duration=durations, loop=0
        )


def save_film(folder: Path, pattern: str, path: Path, seconds: float) -> None:
    """A GIF of the pictures like samples_*.png, where there are any; the last stays for 3 s.

    Of many some, evenly: at most 60, the last one among them. One is open at a time.
    """
    if paths := numbered(folder, pattern):
        step = math.ceil(len(paths) / 60)
        chosen = reversed(paths[::-step])
        save_gif((Image.open(picture) for picture in chosen), path, seconds, end=3)


def numbered(folder: Path, pattern: str) -> list[Path]:
    """The files like samples_*.png, in the order of the number in their names."""
    before, after = pattern.split("*")
    found = {path.name[len(before) : -len(after)]: path for path in folder.glob(pattern)}
    return [found[number] for number in sorted(filter(str.isdecimal, found), key=int)]


def as_png(path: Path | str) -> Path:
    """The handout's functions are called with and without the suffix."""
    path = Path(path)
    return path if path.suffix == ".png" else path.with_name(f"{path.name}.png")


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
    axes.locator_params(axis="x", integer=True)  # steps and epochs are whole
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend()
    with atomic(as_png(filename)) as unfinished:
        figure.savefig(unfinished)
    plt.close(figure)


# ------------------------------------------------------------------------------------------------
# Downloads


def fetch(target: Path, md5: str, sources: Sequence[tuple[str, Source]]) -> None:
    """Bring `target` from the first of the named `sources` that delivers bytes with this md5 (hex).

    Raises InputError with every source's reason.
    """
    reasons = []
    for number, (name, download) in enumerate(sources):
        # What one source began, it goes on with.
        partial = target.with_name(f".unfinished.{number}.{target.name}")
        try:
            download(partial)
        except Exception as error:  # urllib, gdown and requests raise kinds of their own
            reasons.append(f"{name}: {first_sentence(error)[:120]}")
            continue
        if md5_of(partial) == md5:
            partial.rename(target)
            for leftover in target.parent.glob(f".unfinished.?.{target.name}*"):
                leftover.unlink()
            return
        partial.unlink()
        reasons.append(f"{name}: what came has another md5")
    raise InputError(f"cannot download {target.name} ({'; '.join(reasons)})")


def from_url(url: str) -> Source:
    """A source: plain HTTP, with a Range request for what is missing and a progress bar."""

    def download(partial: Path) -> None:
        have = partial.stat().st_size if partial.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing is left to fetch
                return
            raise
        with response:
            have = have if response.status == 206 else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download")
            with open(partial, "ab" if have else "wb") as file, bar:
                while block := response.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
        if total and partial.stat().st_size < total:
            raise OSError("the connection broke off; run again to go on")

    return download


def md5_of(path: Path) -> str:
    """In hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def check_images(images: Tensor) -> None:
    """InputError unless these are uint8 (N, 3, H, W): floats would be scaled a second time."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
        kind = type(images).__name__
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else kind
        raise InputError(f"images: got {got}, expected uint8 (N, 3, 32, 32) in [0, 255]")


def fingerprint(*images: Tensor) -> str:
    """Twelve hex digits that name the pixels of uint8 tensors, wherever their files lie."""
    digest = hashlib.sha256()
    for tensor in images:
        check_images(tensor)
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]
