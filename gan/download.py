"""Where images come from: CUB-200-2011, from its archive to 32x32 JPEGs (Task 0).

    python gan/download.py          (the question's scripts do it by themselves)

archive -> CUB_200_2011/images -> CUB_200_2011_32, side by side in one folder, each stage skipped
where it is done. A stage works under another name and is moved into place once it is complete, so
it can be stopped anywhere.
"""

import shutil
import tarfile
from argparse import Namespace
from pathlib import Path

import torch
from dataset import DATA_DIR, draw_birds
from resize_dataset import resize_folder
from torch import Tensor

from common import InputError, Parser
from common.files import locked, unpack

ARCHIVE = "CUB_200_2011.tgz"
ARCHIVE_MD5 = "97eceeb196236b17998738112f37df78"
SYNTHETIC_IMAGES = 6_000
UNFINISHED = ".unfinished"  # in a folder that is being filled: what it is filled from
SOURCES = {
    "Google Drive": {"id": "1hbzc_P1FuxMkcabkgn9ZKinBwW683j45"},
    "Caltech": {"url": "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"},
}


def find_data(options: Namespace) -> tuple[Path | Tensor, tuple[Path, ...]]:
    """A folder of 32x32 images, or drawn ones as uint8 (N, 3, 32, 32); fetched where need be.

    And the folders where the statistics of those images may be kept.
    """
    if options.dataset == "synthetic":
        rng = torch.Generator().manual_seed(options.seed)
        return draw_birds(SYNTHETIC_IMAGES, rng), ()
    if options.data_dir is None:  # a missing default folder is simply fetched
        return prepare_cub(DATA_DIR), (DATA_DIR.parent,)
    # A missing named one may be a slip of the pen; nothing is written beside it.
    return prepare_cub(options.data_dir, options.download), ()


def prepare_cub(folder: Path | str, download: bool = True) -> Path:
    """`folder` with the 32x32 birds in it; where it is missing it is made, if `download` allows it.

    Needs about 2.5 GB beside `folder` until done. Raises InputError with what to do instead.
    """
    folder = Path(folder)
    if folder.is_dir() and not (folder / UNFINISHED).exists() and (any(folder.iterdir())):
        return folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--data_dir: {folder} is a file, expected a folder of 32x32 images")
    if not download:
        what = "nothing in" if folder.exists() else "no folder"
        raise InputError(
            f"--data_dir: {what} {folder}; correct the path, "
            "or add --download to fetch CUB-200-2011 to it"
        )
    try:
        if folder.is_dir():  # an empty one, a mounted volume perhaps, is filled
            (folder / UNFINISHED).mkdir(exist_ok=True)
            with locked(folder / UNFINISHED):
                if (folder / UNFINISHED).exists():  # another program may have been there first
                    place = folder / UNFINISHED
                    make(folder, place / "CUB_200_2011", place / ARCHIVE)
                    shutil.rmtree(place)
            return folder
        parent = folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        with locked(parent):
            if not folder.is_dir():  # another program may have been there first
                unfinished = folder.with_name(f".unfinished.{folder.name}")
                make(unfinished, parent / "CUB_200_2011", parent / ARCHIVE)
                unfinished.rename(folder)
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"--data_dir: cannot prepare {folder} ({error}); "
            "free the space or mend the folder, then run again"
        ) from None
    return folder


def make(folder: Path, originals: Path, archive: Path) -> None:
    """Fill `folder` with the small images: the stages that are not done yet."""
    if not (originals / "images").is_dir():
        unpack(archive, ARCHIVE_MD5, originals.name, SOURCES)
    if resize_folder(originals / "images", folder)["corrupt"]:
        raise InputError(f"{originals} holds corrupt images; delete that folder and start again")


if __name__ == "__main__":
    Parser(__doc__).parse_given()
    print(f"The images are in {prepare_cub(DATA_DIR)}")
