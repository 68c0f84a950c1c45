"""CUB-200-2011 from its archive to 32x32 JPEGs (Task 0), each stage skipped where it is done.

archive -> CUB_200_2011/images -> CUB_200_2011_32, side by side in one folder. A stage works under
another name and is moved into place once it is complete, so it can be stopped anywhere.
"""

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import gdown
from tqdm import tqdm

from errors import InputError
from resize_dataset import resize_folder

ARCHIVE = "CUB_200_2011.tgz"
ARCHIVE_MD5 = "97eceeb196236b17998738112f37df78"
DRIVE_ID = "1hbzc_P1FuxMkcabkgn9ZKinBwW683j45"
MIRROR = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"


def prepare_cub(folder, download=True):
    """`folder` with the 32x32 birds in it; where it is missing it is made, if `download` allows it.

    Needs about 2.5 GB beside `folder` until done. Raises InputError with what to do instead.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"--data_dir: {folder} is a file, expected a folder of 32x32 .jpg files")
    if not download:
        raise InputError(f"--data_dir: no folder {folder}; correct the path, or add --download to fetch CUB-200-2011 to it")
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        originals = parent / "CUB_200_2011"
        if not (originals / "images").is_dir():
            archive = parent / ARCHIVE
            if not archive.is_file():
                fetch_archive(archive)
            unpack(archive, originals)
        unfinished = parent / f".unfinished.{folder.name}"
        outcome = resize_folder(originals / "images", unfinished)
        if outcome["corrupt, skipped"]:
            raise InputError(f"{originals} holds corrupt images; delete that folder and start again")
        unfinished.rename(folder)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"--data_dir: cannot prepare {folder} ({error}); free the space or mend the folder, then run again") from None
    return folder


def fetch_archive(archive):
    """The archive from Google Drive, or else from the mirror; checked before it gets its name."""
    partial = archive.with_name(f".unfinished.{archive.name}")
    reasons = []
    for name, fetch in (("Google Drive", fetch_from_drive), ("mirror", fetch_from_mirror)):
        try:
            fetch(partial)
        except Exception as error:  # gdown raises its own kinds, requests others
            reasons.append(f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}")
            continue
        if md5(partial) == ARCHIVE_MD5:
            partial.rename(archive)
            return
        partial.unlink()
        reasons.append(f"{name}: what came is not the archive (wrong md5)")
    raise InputError(
        f"--data_dir: cannot download CUB-200-2011 ({'; '.join(reasons)}); put {ARCHIVE} into {archive.parent} by hand, "
        "give a folder of 32x32 JPEGs with --data_dir, or use --dataset synthetic"
    )


def fetch_from_drive(partial):
    # gdown keeps its own unfinished files beside the target and goes on with them.
    if gdown.download(id=DRIVE_ID, output=str(partial), resume=True) is None:
        raise OSError("gdown could not fetch it (quota or permission)")


def fetch_from_mirror(partial):
    """Plain HTTP, going on where an earlier attempt stopped."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(MIRROR, headers={"Range": f"bytes={have}-"} if have else {})
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
        with open(partial, "ab" if have else "wb") as file, tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=ARCHIVE
        ) as bar:
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
    if total and partial.stat().st_size < total:
        raise OSError("the connection broke off; run again to go on")


def md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def unpack(archive, originals):
    """Check and unpack the archive's CUB_200_2011 folder, refusing paths that lead out of it."""
    if md5(archive) != ARCHIVE_MD5:
        raise InputError(f"--data_dir: {archive} is damaged (wrong md5); delete it and run again")
    unfinished = originals.with_name(f".unfinished.{originals.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as tar:
        members = tqdm(tar, desc="unpack", unit="file")
        tar.extractall(unfinished, members=members, filter="data")
    (unfinished / "CUB_200_2011").rename(originals)
    shutil.rmtree(unfinished)
