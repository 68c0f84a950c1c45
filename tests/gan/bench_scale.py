"""The scale of a Frechet distance: what 2,000 real images and 2,000 of uniform noise score.

    python tests/gan/bench_scale.py --data_dir ../shared/datasets/CUB_200_2011_32 \\
        --features ../shared/features/efficientnet_lite0.pt
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gan"))
from dataset import load_images
from fid import Features, Scorer, frechet_distance, moments


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--features", required=True)
    args = parser.parse_args()
    images, features = load_images(args.data_dir), Features(args.features)
    scorer = Scorer(images, features)
    rng = torch.Generator().manual_seed(0)
    real = images[torch.randperm(len(images), generator=rng)[:2000]]
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (2000, 3, 32, 32), dtype=torch.uint8, generator=rng)
    for name, sample in (("real images", real), ("uniform noise", noise)):
        mean, cov, count = moments(features(batch) for batch in sample.split(64))
        distance = frechet_distance(scorer.mean, scorer.cov, mean, cov, scorer.sqrt_cov)
        print(f"{features.name} of {count} {name} against all {len(images)}: {distance:.2f}")


if __name__ == "__main__":
    main()
