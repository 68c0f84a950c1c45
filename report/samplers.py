"""How good and how slow each sampler of the diffusion model is: a row each.

    python report/samplers.py --model vae/data/ddpm/model.pt --data_dir CIFAR10 \\
        --features FILE.pt --out report/runs/ddpm/samplers.csv

DDIM (eta 0) with 10, 50 and 100 steps on 2,000 samples and DDPM's 1000 steps on 500, each a run of
`vae/ddpm.py sample`, and those with many steps again with --until 100. The Frechet distance and KID
are those of `gan/fid.py` against all 50,000 training images; "saturated" is the share of the colour
values that are 0 or 255. A distance rises as the images get fewer, so the first 500 of each DDIM
folder are scored too, and as many of the training images; KID compares across them.
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from run_folder import SAMPLER_COLUMNS, OneLineParser, save

ROOT = Path(__file__).resolve().parents[1]
SAMPLERS = (  # and steps, until, images
    *(("ddim", 10, 1, 2000), ("ddim", 50, 1, 2000), ("ddim", 100, 1, 2000)),
    *(("ddim", 50, 100, 2000), ("ddim", 100, 100, 2000)),
    *(("ddpm", 1000, 1, 500), ("ddpm", 1000, 100, 500)),
)
FEWER = 500
SCORES = re.compile(r"^(.*) = ([\d.]+): (\d+) images of (.*) against .*\nKID = (\S+)", re.MULTILINE)


def start(script: str, *argv: object) -> str:
    """What a command of the halves prints; it ends this program where it fails."""
    command = [sys.executable, str(ROOT / script), *map(str, argv)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def saturated(folder: Path) -> float:
    """Share of the colour values that are 0 or 255."""
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])  # uint8
    return float(((pixels == 0) | (pixels == 255)).mean())


def first_of(folder: Path, count: int) -> Path:
    """A folder of copies of its first images."""
    few = folder.with_name(f"{folder.name}_first{count}")
    few.mkdir()
    for path in sorted(folder.iterdir())[:count]:
        shutil.copy(path, few)
    return few


def main() -> None:
    """Draw with each sampler, score all at once, write the rows."""
    parser = OneLineParser(__doc__)
    for name in ("--model", "--data_dir", "--features"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place, rows = Path(name), {}
        real = place / "real"
        start("vae/ddpm.py", "reference", "--data_dir", args.data_dir, "--out", real)
        for count in (2000, FEWER):
            rows[first_of(real, count)] = ("training images", 0, 1, 0.0, count, 0.0)
        for sampler, steps, until, count in SAMPLERS:
            out = place / f"{sampler}{steps}until{until}"
            options = ["--sampler", sampler, "--until", until, "--num", count, "--out", out]
            options += ["--steps", steps] if sampler == "ddim" else []
            begun = time.perf_counter()  # with the start of Python, some seconds
            start("vae/ddpm.py", "sample", "--model", args.model, *options)
            seconds, eta = time.perf_counter() - begun, float(sampler == "ddpm")
            # Of 2,000 also the first 500, to stand beside DDPM's 500.
            for few in sorted({count, FEWER}, reverse=True):
                folder = out if few == count else first_of(out, few)
                of = (sampler, steps, until, eta, few, round(seconds * few / count, 1))
                rows[folder] = of
        # One call: the reference is measured once.
        told = start("gan/fid.py", *rows, real, "--features", args.features)
        found = {
            Path(folder): (score, measure, kid)
            for measure, score, _, folder, kid in SCORES.findall(told)
        }
        table = [[*row, *found[folder], saturated(folder)] for folder, row in rows.items()]

    def write(unfinished: Path) -> None:
        with open(unfinished, "w", newline="") as file:
            columns = ["sampler", "steps", "until", "eta", "images", "seconds"]
            columns += ["score", "score_name", "kid", "saturated"]
            assert set(columns) == set(SAMPLER_COLUMNS)
            csv.writer(file).writerows([columns, *table])

    save(args.out, write)


if __name__ == "__main__":
    main()
