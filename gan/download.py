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
from common.files import digest_of, fetch, locked
from common.measure import progress_bar

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
        if not archive.is_file():
            fetch_archive(archive)
        unpack(archive, originals)
    if resize_folder(originals / "images", folder)["corrupt"]:
        raise InputError(f"{originals} holds corrupt images; delete that folder and start again")


def fetch_archive(archive: Path) -> None:
    """The archive from Google Drive, or else from Caltech."""
    try:
        fetch(archive, f"md5:{ARCHIVE_MD5}", SOURCES)
    except InputError as error:
        raise InputError(
            f"--data_dir: {error}; put the file into {archive.parent} by hand, "
            "give a folder of 32x32 JPEGs with --data_dir, or use --dataset synthetic"
        ) from None


def unpack(archive: Path, originals: Path) -> None:
    """Check and unpack the archive's CUB_200_2011 folder, refusing paths that lead out of it."""
    if digest_of(archive) != ARCHIVE_MD5:
        raise InputError(f"--data_dir: {archive} is damaged (wrong md5); delete it and run again")
    unfinished = originals.with_name(f".unfinished.{originals.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of an unpacking that was stopped
    with tarfile.open(archive) as tar:
        members = progress_bar(tar, desc="unpack", unit="file")
        tar.extractall(unfinished, members=members, filter="data")
    (unfinished / "CUB_200_2011").rename(originals)  # whole from here on
    shutil.rmtree(unfinished)


if __name__ == "__main__":
    Parser(__doc__).parse_given()
    print(f"The images are in {prepare_cub(DATA_DIR)}")
