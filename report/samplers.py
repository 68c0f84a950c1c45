"""How good and how slow each sampler of the diffusion model is: a row each.

    python tests/vae/bench_samplers.py --model vae/data/ddpm/model.pt --data_dir CIFAR10 \
        --features FILE.pt --out report/runs/ddpm/samplers.csv

DDIM (eta 0) with 10, 50 and 100 steps on 2,000 samples and DDPM's 1000 steps on 500, each a run of
`vae/ddpm.py sample`, and those with many steps again with --until 100. The Frechet distance and KID
are those of `gan/fid.py` against all 50,000 training images; "saturated" is the share of the colour
values that are 0 or 255. A distance rises as the images get fewer, so the first 500 of each DDIM
folder are scored too, and as many of the training images; KID compares across them. Rows that OUT
has already are kept and not measured again: it is of one model.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "gan"))
from fid import (
    Features,
    Kept,
    frechet_distance,
    image_batches,
    image_files,
    kernel_distance,
    moments,
)

from common.device import resolve_device

SAMPLERS = (  # and steps, until, images
    ("ddim", 10, 1, 2000),
    ("ddim", 50, 1, 2000),
    ("ddim", 100, 1, 2000),
    ("ddim", 50, 100, 2000),
    ("ddim", 100, 100, 2000),
    ("ddpm", 1000, 1, 500),
    ("ddpm", 1000, 100, 500),
)
FEWER = 500
COLUMNS = (
    "sampler",
    "steps",
    "until",
    "eta",
    "images",
    "seconds",
    "score",
    "score_name",
    "features",
    "kid",
    "kid_std",
    "saturated",
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--features", required=True)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    features = Features(args.features, resolve_device())
    rows = []
    if args.out.exists():
        with open(args.out, newline="") as file:
            found = list(csv.DictReader(file))
        if found and COLUMNS != tuple(found[0]):
            parser.error(f"--out: {args.out} has other columns; give another, or move it away")
        rows = [list(row.values()) for row in found]
    if any(dict(zip(COLUMNS, row))["features"] != features.key for row in rows):
        parser.error(f"--out: {args.out} has scores by other features than {features.key}")
    done = {tuple(map(str, row[:3])) for row in rows}
    todo = [row for row in SAMPLERS if (row[0], str(row[1]), str(row[2])) not in done]
    if not todo:
        parser.error(f"--out: {args.out} has every row; give another, or move it away")
    with tempfile.TemporaryDirectory() as folder:
        ddpm("reference", "--data_dir", args.data_dir, "--out", f"{folder}/real")
        # From the end: KID takes what is kept, and the training images that are scored come first.
        kept = Kept(map(features, image_batches(image_files(f"{folder}/real")[::-1])))
        real = moments(kept)

        def add_rows(sampler, steps, until, eta, seconds, out, counts):
            """Score the first images of a folder, and write all rows so far: an hour's work."""
            images = torch.cat([*image_batches(image_files(out)[: max(counts)])])
            of_images = torch.cat([features(batch) for batch in images.split(64)])
            for count in counts:
                mean, cov, _ = moments(of_images[:count].split(64))
                score = frechet_distance(mean, cov, *real[:2])
                row = [sampler, steps, until, eta, count, round(seconds * count / max(counts), 1)]
                row += [score, features.name, features.key]
                row += kernel_distance(kept.features, of_images[:count])
                saturated = (images[:count] == 0) | (images[:count] == 255)
                rows.append([*row, saturated.double().mean().item()])
                print(dict(zip(COLUMNS, rows[-1])), flush=True)
            unfinished = args.out.with_name(f".unfinished.{args.out.name}")
            with open(unfinished, "w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *rows])
            os.replace(unfinished, args.out)

        if ("training images", "0", "1") not in done:
            add_rows("training images", 0, 1, 0.0, 0.0, f"{folder}/real", (2000, FEWER))
        for sampler, steps, until, count in todo:
            out = f"{folder}/{sampler}{steps}until{until}"
            options = ["--sampler", sampler, "--until", str(until)]
            options += ["--steps", str(steps)] if sampler == "ddim" else []
            start = time.perf_counter()
            ddpm("sample", "--model", args.model, "--num", str(count), "--out", out, *options)
            seconds = time.perf_counter() - start
            eta = 1.0 if sampler == "ddpm" else 0.0
            counts = sorted({count, FEWER}, reverse=True)
            add_rows(sampler, steps, until, eta, seconds, out, counts)


def ddpm(*argv):
    subprocess.run([sys.executable, str(ROOT / "vae" / "ddpm.py"), *argv], check=True)


if __name__ == "__main__":
    main()
