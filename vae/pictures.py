"""Folders of pictures that are there whole or not at all."""

import re
import shutil
from pathlib import Path

from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from common import InputError
from common.measure import progress_bar


def check_new_folder(folder: Path, overwrite: bool, option: str = "--out") -> None:
    """Refuse a folder with anything in it; with --overwrite, one that holds other files."""
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not place.is_dir():
        raise InputError(f"{option}: {place} is a file, expected a folder; give another")
    if not folder.exists():
        return
    names = [path.name for path in folder.iterdir()]
    if names and not overwrite:
        raise InputError(f"{option}: {folder} exists; give --overwrite or another folder")
    if foreign := [name for name in names if not re.fullmatch(r"\d{5,}\.png", name)]:
        raise InputError(
            f"{option}: {folder} holds other files than samples ({foreign[0]}); give another folder"
        )


def save_pictures(images: Tensor, folder: Path) -> None:
    """uint8 (N, 3, H, W) in [0, 255] as 00000.png, ... in a folder, in place of what is there."""
    folder = folder.resolve()
    unfinished, old = (folder.with_name(f".unfinished-{w}.{folder.name}") for w in ("new", "old"))
    for stale in (unfinished, old):  # of a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for index, image in enumerate(progress_bar(images, desc="pictures", unit="image", leave=False)):
        to_pil_image(image).save(unfinished / f"{index:05d}.png")
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
