"""Images on their way into a run: files or drawings -> a uint8 tensor -> float batches."""

import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from common import InputError, first_few, tried
from common.files import check_images
from common.measure import preserved

DATA_DIR = Path(__file__).resolve().parent / "datasets" / "CUB_200_2011_32"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}  # in any case
PLAIN_MODES = {"1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"}  # Pillow converts them right
# What Pillow raises for a file that is no picture, or a damaged one.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def find_images(folder: Path | str, deep: bool = False) -> list[Path]:
    """The image files in a folder, sorted; what else lies there is named. InputError for none.

    deep: also below it, through links to folders. Dot files are nobody's images: macOS and this
    program keep notes and unfinished files under such names.
    """
    try:
        next(Path(folder).iterdir(), None)
    except OSError as error:
        raise InputError(f"cannot read {folder} ({error.strerror}), expected images") from None
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [
            name for name in sorted(folders) if deep and name[0] != "." and real not in seen
        ]
        if real not in seen:  # a link may lead back
            files += [Path(place, name) for name in names if name[0] != "."]
        seen.add(real)
    # By path, so that a seed draws the same batches on every file system.
    images = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InputError(
            f"no images in {folder}, expected files like Name_0001.jpg or .png; resize_dataset.py "
            "makes them of photographs in folders"
        )
    if others := sorted({path.name for path in files} - {path.name for path in images}):
        print(f"Not images, left out: {len(others)} of the files in {folder}: {first_few(others)}")
    return images


def read_rgb(path: Path) -> tuple[Image.Image, str]:
    """The picture as a viewer shows it, in RGB, and the mode that it is stored in.

    Turned as its EXIF orientation says; transparency over white; 16-bit grey by its upper byte.
    Raises ValueError for pixels that have no such meaning (32-bit numbers), OSError and others for
    a file that is none or damaged.
    """
    with Image.open(path) as stored:
        image = ImageOps.exif_transpose(stored)
        mode = stored.mode
    if "transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB"), f"{mode} with transparency"
    if mode.startswith("I;16"):
        upper = np.asarray(image).astype(np.uint16) >> 8  # (H, W) in [0, 255]
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB"), mode
    if mode not in PLAIN_MODES:
        raise ValueError(f"mode {mode}: what is white is not said; save it with 8 bits a channel")
    return image.convert("RGB"), mode


class Dataset(torch.utils.data.Dataset):
    """Images as RGB, each through `transform`: those of a folder in name order, or of a tensor.

    root: a folder of 32x32 images, or uint8 (N, 3, 32, 32). transform: of a PIL image,
    `train.build_transforms()` for one; None gives the PIL image. `pixels` is uint8 (N, 3, 32, 32),
    whatever the transform does. Raises InputError for what cannot be used.
    """

    def __init__(self, root: Path | str | Tensor, transform: Callable[[Any], Any] | None = None):
        self.pixels, self.transform = pixels_of(root), transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        image = to_pil_image(self.pixels[index])
        return image if self.transform is None else self.transform(image)


def pixels_of(root: Path | str | Tensor) -> Tensor:
    """uint8 (N, 3, 32, 32): what identifies data, and what scores are measured against."""
    if isinstance(root, Path | str):
        return load_images(root)
    check_images(root)
    return root


def load_images(root: Path | str, resolution: int = 32) -> Tensor:
    """Decode a folder of images once: uint8 (N, 3, resolution, resolution) in [0, 255], on the CPU.

    Raises InputError where the folder is missing, unreadable or empty, where a file is corrupt, and
    where an image has another size. What was converted or left out is named.
    """
    files = find_images(root)
    modes = {}
    images = torch.empty(len(files), 3, resolution, resolution, dtype=torch.uint8)  # CUB: 36 MB
    for index, path in enumerate(files):
        image, mode = decode(path)
        if image.size != (resolution, resolution):
            raise InputError(
                f"--data_dir: {path} is {image.size[0]}x{image.size[1]}, "
                f"expected {resolution}x{resolution}; make the folder with gan/resize_dataset.py"
            )
        images[index] = pil_to_tensor(image)
        if mode != "RGB":
            modes[path.name] = mode
    if modes:
        named = first_few([f"{name} ({mode})" for name, mode in modes.items()])
        print(f"Converted to RGB: {len(modes)} of {len(files)} images: {named}")
    return images


def decode(path: Path) -> tuple[Image.Image, str]:
    """`read_rgb`, or InputError."""
    try:
        return read_rgb(path)
    except UNREADABLE as error:
        raise InputError(f"cannot decode {path} ({error}); replace or delete that file") from None


# Transforms that give the same for the same image; whatever else there is may draw at random.
WITHOUT_CHANCE = (
    *("ToTensor", "PILToTensor", "ConvertImageDtype", "Normalize", "Resize", "CenterCrop", "Pad"),
    *("Compose", "Grayscale", "ToImage", "ToDtype", "ToPILImage"),
)


def is_without_chance(transform: Any) -> bool:
    """Whether every step is known to be; a function is not, for nobody can look into it."""
    ours = type(transform).__module__.startswith("torchvision.transforms.")
    known = ours and type(transform).__name__ in WITHOUT_CHANCE
    return known and all(map(is_without_chance, getattr(transform, "transforms", ())))


def drawn_so_far() -> tuple:
    """The states of the generators that a flip of one's own may draw from."""
    of_numpy: Any = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), of_numpy[1].tolist(), of_numpy[2]


class Batches:
    """Endless shuffled batches of one fixed size, on the device of `generator`.

    Each epoch is a fresh permutation; its ragged tail is dropped (11,780 = 46 * 256 + 4, and batch
    normalisation over 4 images is no use). A transform without chance is applied once, to all
    images; any other one to each image in each epoch, with torch's global random numbers.
    `generator` makes the permutations and is saved with the run; `state_dict` holds the place in
    the current epoch. Raises InputError where the transform gives something else than images.
    """

    def __init__(self, dataset: Dataset, batch_size: int, generator: torch.Generator):
        self.dataset, self.batch_size, self.generator = dataset, batch_size, generator
        if not 1 <= batch_size <= len(dataset):
            raise InputError(
                f"--batch_size: got {batch_size}, expected 1 to {len(dataset)}, the number of "
                "images"
            )
        with preserved():  # a trial draws nothing
            before, what = drawn_so_far(), "expected an image (3, 32, 32) in [-1, 1]"
            check_transformed(tried(dataset.__getitem__, 0, what=what))
            fixed = before == drawn_so_far()  # there is no flip in Dataset.__getitem__ itself
        self.images: Tensor | None = None  # (N, 3, 32, 32) in [-1, 1], channels_last
        ours = type(dataset).__getitem__ is Dataset.__getitem__  # one of your own may have chance
        if fixed and ours and is_without_chance(getattr(dataset, "transform", None)):
            self.images = self.transformed(range(len(dataset)))
            if self.images.min() >= 0:
                raise InputError(
                    "build_transforms: no pixel becomes less than 0; expected [-1, 1]: "
                    "add Normalize((0.5,) * 3, (0.5,) * 3)"
                )
        # Empty: the first batch begins an epoch.
        self.order = torch.empty(0, dtype=torch.int64, device=generator.device)
        self.cursor = 0

    def transformed(self, indices: Iterable[int]) -> Tensor:
        """(B, 3, 32, 32) in [-1, 1], channels_last, on the device."""
        images = torch.stack([self.dataset[index] for index in indices])
        return images.to(self.generator.device).contiguous(memory_format=torch.channels_last)

    def next(self) -> Tensor:
        """(batch_size, 3, 32, 32) in [-1, 1], channels_last."""
        if self.cursor + self.batch_size > len(self.order):
            self.order = torch.randperm(
                len(self.dataset), generator=self.generator, device=self.generator.device
            )
            self.cursor = 0
        index = self.order[self.cursor : self.cursor + self.batch_size]  # (B,)
        self.cursor += self.batch_size
        if self.images is None:
            return self.transformed(index.tolist())
        return self.images[index].contiguous(memory_format=torch.channels_last)

    def state_dict(self) -> dict:
        """The place in the current epoch."""
        return {"order": self.order.cpu(), "cursor": self.cursor}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.order = state["order"].to(self.generator.device)
        self.cursor = state["cursor"]


def check_transformed(image: Any) -> None:
    """InputError unless this is a float tensor (3, 32, 32) in [-1, 1]."""
    got = type(image).__name__
    if isinstance(image, Tensor) and image.numel():
        low, high = image.min(), image.max()
        got = f"{image.dtype} {tuple(image.shape)}, values from {low:.3g} to {high:.3g}"
        fits = image.is_floating_point() and image.shape == (3, 32, 32)
        if fits and low >= -1.001 and high <= 1.001:
            return
    raise InputError(
        f"build_transforms: an image becomes {got}; expected floats (3, 32, 32) in [-1, 1]"
    )


# ------------------------------------------------------------------------------------------------
# Drawings: a data set that needs no download


def draw_birds(count: int, generator: torch.Generator, resolution: int = 32) -> Tensor:
    """`count` birds against the sky: uint8 (count, 3, resolution, resolution) in [0, 255].

    Every call goes on where the last one stopped in `generator` (a CPU one), so birds never run out
    and a seed fixes them all. Shapes are drawn as smooth masks, so edges are anti-aliased.
    """
    chunks = [
        _draw(min(500, count - start), generator, resolution) for start in range(0, count, 500)
    ]
    return torch.cat(chunks)


def _draw(n: int, generator: torch.Generator, resolution: int) -> Tensor:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, 1, 1, generator=generator)

    centres = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")  # the picture spans [-1, 1] both ways
    x = x * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)  # half of the birds face left

    def cover(distance: Tensor) -> Tensor:
        """Signed distance (negative inside) to a coverage in [0, 1], one pixel wide at the edge."""
        return torch.sigmoid(-distance * resolution * 1.5).unsqueeze(1)

    def ellipse(cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor, angle: Tensor) -> Tensor:
        u = (x - cx) * angle.cos() + (y - cy) * angle.sin()
        v = -(x - cx) * angle.sin() + (y - cy) * angle.cos()
        return cover(((u / rx).square() + (v / ry).square()).sqrt().sub(1) * torch.minimum(rx, ry))

    def paint(picture: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
        return picture * (1 - mask) + colour * mask

    # Sky (or leaves) as a vertical gradient with a few soft clouds, and a branch under the bird.
    top, bottom = uniform(0.2, 0.9, 3), uniform(0.3, 1.0, 3)
    weather = uniform(0, 1) < 0.6
    top[:, 2:] = torch.where(weather.unsqueeze(1), top[:, 2:].clamp(min=0.7), top[:, 2:] * 0.5)
    height = ((y + 1) / 2).expand(n, 1, resolution, resolution)
    picture = top * (1 - height) + bottom * height
    for _ in range(2):
        cloud = ellipse(
            uniform(-1, 1), uniform(-1, 1), uniform(0.2, 0.8), uniform(0.1, 0.3), uniform(-0.3, 0.3)
        )
        picture = paint(picture, 0.5 * cloud, uniform(0.5, 1.0, 3))
    slope, level = uniform(-0.3, 0.3), uniform(0.55, 0.9)
    branch = cover((y - level - slope * x).abs() - uniform(0.03, 0.08))
    picture = paint(picture, branch * (uniform(0, 1) < 0.7).unsqueeze(1), uniform(0.15, 0.4, 3))

    # The bird: tail, body, belly, wing, head, beak, eye; positions follow the body's.
    cx, cy = uniform(-0.25, 0.15), uniform(-0.05, 0.2)
    size, tilt = uniform(0.35, 0.55), uniform(-0.5, 0.3)
    plumage, second = uniform(0.05, 0.95, 3), uniform(0.05, 0.95, 3)
    back_x, back_y = cx - size * tilt.cos(), cy - size * tilt.sin()
    front_x, front_y = cx + size * 0.8 * tilt.cos(), cy + size * 0.8 * tilt.sin() - size * 0.45
    picture = paint(picture, ellipse(back_x, back_y, size * 0.6, size * 0.16, tilt), plumage * 0.6)
    picture = paint(picture, ellipse(cx, cy, size, size * 0.55, tilt), plumage)
    belly = ellipse(cx + 0.1, cy + size * 0.25, size * 0.6, size * 0.25, tilt)
    picture = paint(picture, 0.8 * belly, second)
    length, half_width = size * uniform(0.5, 0.9), size * 0.14
    along = ((x - front_x) / length).clamp(-1, 2)
    across = (y - front_y).abs() - half_width * (1 - along)
    yellow = uniform(0.5, 1.0, 3) * torch.tensor([1.0, 0.7, 0.2]).view(3, 1, 1)
    picture = paint(picture, cover(torch.maximum(across, -along * length)), yellow)
    head = size * uniform(0.35, 0.45)
    colour = plumage * 0.4 + second * 0.6
    picture = paint(picture, ellipse(front_x, front_y, head, head, tilt), colour)
    turned = tilt + uniform(-0.7, 0.2)
    wing = ellipse(cx - size * 0.2, cy - size * 0.1, size * 0.65, size * 0.25, turned)
    picture = paint(picture, wing, plumage * uniform(0.3, 0.7, 1))
    eye_x, eye_y, eye = front_x + head * 0.3, front_y - head * 0.2, head * 0.25
    picture = paint(picture, ellipse(eye_x, eye_y, eye, eye, tilt), torch.zeros(3, 1, 1))
    return picture.clamp(0, 1).mul(255).round().to(torch.uint8)
