"""Images on their way into a run: files -> one uint8 tensor on the device -> float batches."""

import hashlib
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from errors import InputError

DATA_DIR = Path(__file__).resolve().parent / "datasets" / "CUB_200_2011_32"


class Dataset(torch.utils.data.Dataset):
    """The `*.jpg` files of a folder in name order, each opened as RGB and passed to `transform`."""

    def __init__(self, root, transform):
        self.file_names = sorted(Path(root).glob("*.jpg"))
        self.transform = transform

    def __len__(self):
        return len(self.file_names)

    def __getitem__(self, index):
        with Image.open(self.file_names[index]) as image:
            return self.transform(image.convert("RGB"))


def load_images(root, resolution=32):
    """Decode a folder of JPEGs once: uint8 (N, 3, resolution, resolution) in [0, 255], on the CPU.

    Raises InputError where the folder is missing, unreadable or empty, where a file is corrupt, and
    where an image has another size. Greyscale and CMYK images are converted and named.
    """
    root = Path(root)
    try:
        if not root.is_dir():
            raise InputError(
                f"--data_dir: {root} is not a folder; expected one with {resolution}x{resolution} .jpg files"
            )
        next(root.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"--data_dir: cannot read {root} ({error.strerror}); check its permissions"
        ) from None
    modes = {}

    def decode(path):
        with Image.open(path) as image:
            if image.mode != "RGB":
                modes[path.name] = image.mode
            return pil_to_tensor(image.convert("RGB"))

    files = Dataset(root, transform=None).file_names
    if not files:
        raise InputError(f"--data_dir: no .jpg files in {root}; make them with gan/resize_dataset.py")
    images = torch.empty(len(files), 3, resolution, resolution, dtype=torch.uint8)
    for index, path in enumerate(files):
        try:
            image = decode(path)  # (3, H, W)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(
                f"--data_dir: cannot decode {path} ({error}); replace or delete that file"
            ) from None
        if image.shape[1:] != (resolution, resolution):
            raise InputError(
                f"--data_dir: {path} is {image.shape[2]}x{image.shape[1]}, expected {resolution}x{resolution}; "
                "make the folder with gan/resize_dataset.py"
            )
        images[index] = image
    if modes:
        named = ", ".join(f"{name} ({mode})" for name, mode in list(modes.items())[:8])
        print(
            f"Converted to RGB: {len(modes)} of {len(files)} images: {named}{', ...' if len(modes) > 8 else ''}"
        )
    return images


def fingerprint(images):
    """Twelve hex digits that name the pixels of a uint8 tensor, wherever its files lie."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    digest.update(images.cpu().contiguous().numpy())
    return digest.hexdigest()[:12]


def to_signed(images):
    """uint8 in [0, 255] to float32 in [-1, 1], as `train.build_transforms` does for one file."""
    return images.float().div_(127.5).sub_(1)


class Batches:
    """Endless shuffled batches of one fixed size from images that stay on the device.

    Each epoch is a fresh permutation; its ragged tail is dropped (11,780 = 46 * 256 + 4, and batch
    normalisation over 4 images is no use). `generator` makes the permutations and is saved with the
    run; `state_dict` holds the place in the current epoch.
    """

    def __init__(self, images, batch_size, generator):
        if not 1 <= batch_size <= len(images):
            raise InputError(
                f"--batch_size: got {batch_size}, expected 1 to {len(images)}, the number of images"
            )
        self.images = images.to(generator.device).contiguous(memory_format=torch.channels_last)
        self.batch_size = batch_size
        self.generator = generator
        self.order = torch.empty(0, dtype=torch.int64, device=generator.device)
        self.cursor = 0

    def next(self):
        """(batch_size, 3, 32, 32) in [-1, 1], channels_last."""
        if self.cursor + self.batch_size > len(self.order):
            self.order = torch.randperm(
                len(self.images), generator=self.generator, device=self.generator.device
            )
            self.cursor = 0
        index = self.order[self.cursor : self.cursor + self.batch_size]
        self.cursor += self.batch_size
        return to_signed(self.images[index]).contiguous(memory_format=torch.channels_last)

    def state_dict(self):
        return {"order": self.order.cpu(), "cursor": self.cursor}

    def load_state_dict(self, state):
        self.order = state["order"].to(self.generator.device)
        self.cursor = state["cursor"]
