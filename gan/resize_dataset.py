"""Resize a folder of images to small square JPEGs in one flat folder (Task 0 of the assignment).

    python gan/resize_dataset.py --input_folder gan/datasets/CUB_200_2011/images \\
        --output_folder gan/datasets/CUB_200_2011_32 --res 32

Bicubic, the whole picture squeezed to a square. Images that are already in the output folder are
not made again, so an interrupted run goes on. The eight greyscale files that the assignment
removes are left out by name; other greyscale and CMYK images are converted and named.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from common import InputError
from common.command_line import Number, OneLineParser, exit_codes
from common.files import atomic

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
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
PILLOW_QUALITY = 75  # its default: the assignment's reference statistics come from such files


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
    targets, others = find_images(input_folder)
    try:
        output_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--output_folder: cannot make {output_folder} ({error.strerror})"
        ) from None

    outcomes: list[list[str]] = [[] for _ in range(5)]
    resized, there, left_out, converted, corrupt = outcomes
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
                with Image.open(path) as image:
                    mode, rgb = image.mode, image.convert("RGB")
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                corrupt.append(name)
                continue
            with atomic(target) as unfinished:
                rgb.resize((res, res), Image.Resampling.BICUBIC).save(unfinished, quality=quality)
            resized.append(name)
            if mode != "RGB":
                converted.append(name)
    named = dict(zip(OUTCOMES, [*outcomes, others], strict=True))
    for what, names in named.items():
        some = f": {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        if names or what in OUTCOMES[:2]:
            print(f"{what}: {len(names)}{'' if what in OUTCOMES[:2] else some}")
    return named


OUTCOMES = (
    "resized",
    "there already",
    "left out (greyscale, by name)",
    "converted to RGB",
    "corrupt, skipped",
    "not an image, skipped",
)


def find_images(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """{name of the small image: path} below `folder`, and the names of the files that are none."""
    if not folder.is_dir():
        raise InputError(f"--input_folder: {folder} is not a folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
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
    return targets, [path.name for path in files if path.suffix.lower() not in SUFFIXES]


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height), None where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = OneLineParser(__doc__)
    parser.add_argument("--input_folder", required=True, help="searched to any depth")
    parser.add_argument("--output_folder", required=True, help="one flat folder of .jpg files")
    parser.add_argument(
        "--res", type=Number(int, 1, 100_000), default=32, help="side in pixels (32)"
    )
    parser.add_argument(
        "--quality",
        type=Number(int, 1, 95),
        default=PILLOW_QUALITY,
        help="JPEG quality, 1 to 95 (75, Pillow's own)",
    )
    args = parser.parse_args(argv)
    with exit_codes():
        resize_folder(args.input_folder, args.output_folder, args.res, args.quality)


if __name__ == "__main__":
    main()
