"""Resize a folder of images to small square JPEGs in one flat folder (Task 0 of the assignment).

    python gan/resize_dataset.py --input_folder gan/datasets/CUB_200_2011/images \\
        --output_folder gan/datasets/CUB_200_2011_32 --res 32

Bicubic, the whole picture squeezed to a square. Images that are already in the output folder are
not made again, so an interrupted run goes on. The eight greyscale files that the assignment
removes are left out by name; other greyscale and CMYK images are converted and named.
"""

import contextlib
from pathlib import Path

from dataset import UNREADABLE, find_images, read_rgb
from PIL import Image

from common import InputError, Parser, first_few, number
from common import path as path_type
from common.files import atomic, locked
from common.measure import progress_bar

PILLOW_QUALITY = 75  # its default: the assignment's reference statistics come from such files

GREYSCALE_NAMES = {
    *("Mallard_0130_76836.jpg", "Brewer_Blackbird_0028_2682.jpg"),
    *("Clark_Nutcracker_0020_85099.jpg", "Ivory_Gull_0040_49180.jpg"),
    *("Pelagic_Cormorant_0022_23802.jpg", "Western_Gull_0002_54825.jpg"),
    *("Ivory_Gull_0085_49456.jpg", "White_Necked_Raven_0070_102645.jpg"),
}


def resize_folder(
    input_folder: Path | str,
    output_folder: Path | str,
    res: int = 32,
    quality: int = PILLOW_QUALITY,
) -> dict[str, list[str]]:
    """Resize every image below input_folder; returns {outcome: [names]}, prints what was odd.

    Raises InputError where a folder is missing or unusable, or where two images share a name.
    """
    input_folder, output_folder = Path(input_folder), Path(output_folder)
    targets = name_targets(input_folder, output_folder)
    new = not output_folder.exists()
    output_folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[str]] = {what: [] for what in OUTCOMES}
    with locked(output_folder):
        for leftover in output_folder.glob(".unfinished.*"):  # of a run that was killed
            leftover.unlink()
        what = f"resize to {res}x{res}"
        for name, path in progress_bar(targets.items(), desc=what, unit="image"):
            target = output_folder / name
            if name in GREYSCALE_NAMES:
                done["greyscale"].append(name)
            elif target.exists():
                with contextlib.suppress(OSError), Image.open(target) as there:
                    if there.size == (res, res):
                        done["there"].append(name)
                        continue
                raise InputError(
                    f"--output_folder: {target} is not {res}x{res}; delete it or give another"
                )
            else:
                try:
                    rgb, mode = read_rgb(path)
                except UNREADABLE:
                    done["corrupt"].append(path.name)
                    continue
                small = rgb.resize((res, res), Image.Resampling.BICUBIC)
                with atomic(target) as unfinished:
                    small.save(unfinished, quality=quality)
                done["resized"].append(name)
                if mode != "RGB":
                    done["converted"].append(name)
    for what, words in OUTCOMES.items():
        if done[what] or what in ("resized", "there"):
            names = "" if what in ("resized", "there") else f": {first_few(done[what], 10)}"
            print(f"{words}: {len(done[what])}{names}")
    if not done["resized"] and not done["there"]:
        if new:
            output_folder.rmdir()
        raise InputError(
            f"--input_folder: none of the {len(targets)} images below {input_folder} can be used "
            f"({first_few(done['corrupt'] or done['greyscale'], 3)})"
        )
    return done


# What becomes of a file -> as people read it.
OUTCOMES = {
    "resized": "resized",
    "there": "there already",
    "greyscale": "left out (greyscale, by name)",
    "converted": "converted to RGB",
    "corrupt": "cannot be read as pictures, skipped",
}


def name_targets(folder: Path, output: Path) -> dict[str, Path]:
    """{name of the small image: path} below `folder`.

    What lies in the output folder, which may be below `folder`, was made here before.
    """
    if folder.resolve() == output.resolve():
        raise InputError(f"--output_folder: {output} is the input folder; give another")
    targets: dict[str, Path] = {}
    clashes, made = [], output.resolve()
    within = folder.resolve() in made.parents
    for path in find_images(folder, deep=True):
        if within and made in path.resolve().parents:
            continue
        if (other := targets.setdefault(f"{path.stem}.jpg", path)) is not path:
            clashes.append(f"{other} and {path}")
    if clashes:
        raise InputError(
            f"--input_folder: {len(clashes)} names stand for two images each, which would both "
            f"become one file: {first_few(clashes, 3)}; rename one of each"
        )
    return targets


if __name__ == "__main__":
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--input_folder", type=path_type, required=True, help="searched to any depth")
    add("--output_folder", type=path_type, required=True, help="one flat folder of .jpg files")
    add("--res", type=number(int, 1, 100_000), help="side in pixels (32)")
    add("--quality", type=number(int, 1, 95), help="JPEG quality, 1 to 95 (75)")
    resize_folder(**parser.parse_given())
