"""Resize a folder of images to small square JPEGs in one flat folder (Task 0 of the assignment).

    python gan/resize_dataset.py --input_folder gan/datasets/CUB_200_2011/images \\
        --output_folder gan/datasets/CUB_200_2011_32 --res 32

Bicubic, the whole picture squeezed to a square. Images that are already in the output folder are
not made again, so an interrupted run goes on. The eight greyscale files that the assignment
removes are left out by name; other greyscale and CMYK images are converted and named.
"""

if __name__ == "__main__":  # a slip in the command line is told before torch loads
    from settings import get_resize_args

    arguments = get_resize_args(__doc__)

import argparse
from pathlib import Path

from dataset import find_images, read_rgb, some
from PIL import Image
from settings import PILLOW_QUALITY
from tqdm import tqdm

from common import InputError
from common.command_line import exit_codes
from common.files import atomic, locked

GREYSCALE_NAMES = frozenset(
    f"{stem}.jpg"
    for stem in (
        "Mallard_0130_76836",
        "Brewer_Blackbird_0028_2682",
        "Clark_Nutcracker_0020_85099",
        "Ivory_Gull_0040_49180",
        "Pelagic_Cormorant_0022_23802",
        "Western_Gull_0002_54825",
        "Ivory_Gull_0085_49456",
        "White_Necked_Raven_0070_102645",
    )
)


def resize_folder(
    input_folder: Path | str,
    output_folder: Path | str,
    res: int = 32,
    quality: int = PILLOW_QUALITY,
) -> dict[str, list[str]]:
    """Resize every image below input_folder; returns {outcome: [names]} and prints what was odd.

    Raises InputError where a folder is missing or unusable, or where two images share a name.
    """
    input_folder, output_folder = Path(input_folder), Path(output_folder)
    targets, others = name_targets(input_folder)
    new = not output_folder.exists()
    try:
        output_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--output_folder: cannot make {output_folder} ({error.strerror})"
        ) from None

    outcomes: list[list[str]] = [[] for _ in range(5)]
    resized, there, left_out, converted, corrupt = outcomes
    with locked(output_folder):
        for leftover in output_folder.glob(".unfinished.*"):  # of a run that was killed
            leftover.unlink()
        for name, path in tqdm(targets.items(), desc=f"resize to {res}x{res}", unit="image"):
            target = output_folder / name
            if name in GREYSCALE_NAMES:
                left_out.append(name)
            elif target.exists():
                if image_size(target) != (res, res):
                    raise InputError(
                        f"--output_folder: {target} is not {res}x{res}; "
                        "delete it or give another folder"
                    )
                there.append(name)
            else:
                try:
                    rgb, mode = read_rgb(path)
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                    corrupt.append(name)
                    continue
                small = rgb.resize((res, res), Image.Resampling.BICUBIC)
                with atomic(target) as unfinished:
                    small.save(unfinished, quality=quality)
                resized.append(name)
                if mode != "RGB":
                    converted.append(name)
    named = dict(zip(OUTCOMES, [*outcomes, others], strict=True))
    for what, names in named.items():
        if what in OUTCOMES[:2]:
            print(f"{what}: {len(names)}")
        elif names:
            print(f"{what}: {len(names)}: {some(names, 10)}")
    if not resized and not there:
        if new:
            output_folder.rmdir()
        raise InputError(
            f"--input_folder: none of the {len(targets)} images below {input_folder} can be used "
            f"({some(corrupt or left_out, 3)})"
        )
    return named


OUTCOMES = (
    "resized",
    "there already",
    "left out (greyscale, by name)",
    "converted to RGB",
    "cannot be read as pictures, skipped",
    "not an image, skipped",
)


def name_targets(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """{name of the small image: path} below `folder`, and the names of the files that are none."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"--input_folder: {folder} {what}")
    images, others = find_images(folder, deep=True)
    if not images:
        raise InputError(
            f"--input_folder: no images below {folder}; expected files like 001.Name/Name_0001.jpg"
        )
    targets: dict[str, Path] = {}
    for path in images:
        if (other := targets.setdefault(f"{path.stem}.jpg", path)) is not path:
            raise InputError(
                f"--input_folder: {other} and {path} would both become {path.stem}.jpg; rename one"
            )
    return targets, others


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height), None where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def main(args: argparse.Namespace) -> None:
    """The command."""
    with exit_codes():
        resize_folder(args.input_folder, args.output_folder, args.res, args.quality)


if __name__ == "__main__":
    main(arguments)
