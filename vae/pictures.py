"""Folders of pictures that are there whole or not at all, and go on where they were stopped."""

import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from common import InputError


def check_new_folder(folder: Path, overwrite: bool) -> None:
    """Refuse an --out with anything in it; with --overwrite, one that holds other files."""
    if not folder.exists():
        return
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name]
    if not folder.is_dir() or (names and not overwrite):
        raise InputError(f"--out: {folder} exists; give --overwrite or another folder")
    if foreign := [name for name in names if not re.fullmatch(r"\d{5,}\.png", name)]:
        raise InputError(
            f"--out: {folder} holds other files than samples ({foreign[0]}); give another folder"
        )


class PictureFolder:
    """A folder of 00000.png, ..., made batch by batch in a `with` block.

    counts: images in each batch. What an interrupted process with the same `key` had finished is
    kept beside the folder; `batch` is the next one to `add`. overwrite: drop what others had begun.
    """

    def __init__(self, folder: Path, counts: Sequence[int], key: str, overwrite: bool):
        self.folder, self.counts, self.overwrite = folder.resolve(), counts, overwrite
        self.unfinished = self._beside(key)

    def _beside(self, word: str) -> Path:
        return self.folder.with_name(f".unfinished-{word}.{self.folder.name}")

    def __enter__(self) -> "PictureFolder":
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        begun = re.compile(r"\.unfinished-\w+\." + re.escape(self.folder.name))
        for other in [path for path in self.folder.parent.iterdir() if begun.fullmatch(path.name)]:
            if other == self.unfinished:
                continue
            if not self.overwrite:
                raise InputError(
                    f"--out: {other} holds unfinished images of other settings; "
                    "delete it or give --overwrite"
                )
            shutil.rmtree(other)
        self.unfinished.mkdir(exist_ok=True)
        whole = len(list(self.unfinished.iterdir())) - 1  # the last one may have been cut
        self.batch = sum(end <= whole for end in itertools.accumulate(self.counts))
        return self

    def add(self, images: Tensor) -> None:
        """uint8 (B, 3, H, W) in [0, 255]."""
        first = sum(self.counts[: self.batch])
        for index, image in enumerate(images, start=first):
            to_pil_image(image).save(self.unfinished / f"{index:05d}.png")
        self.batch += 1

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if kind is None:
            old = self._beside("old")
            if self.folder.exists():
                self.folder.rename(old)
            self.unfinished.rename(self.folder)
            shutil.rmtree(old, ignore_errors=True)
        elif issubclass(kind, InputError):  # these settings will not get further
            shutil.rmtree(self.unfinished)
