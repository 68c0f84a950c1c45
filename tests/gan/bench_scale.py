"""The scale of the scores: what real images and uniform noise get.

The Frechet distance of 2,000 of each; then KID, precision and recall of sets whose answers are
known, with clean-fid's KID of the same features beside ours; and why the precision of noise is
what it is: how much of it lies in the ball of one single image.

    python tests/gan/bench_scale.py --data_dir ../shared/datasets/CUB_200_2011_32 \\
        --features ../shared/features/efficientnet_lite0.pt
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from cleanfid.fid import kernel_distance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gan"))
from dataset import load_images
from fid import Features, frechet_distance, moments, neighbour_distances, sample_quality


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--features", required=True)
    args = parser.parse_args()
    images, features = load_images(args.data_dir), Features(args.features)
    rng = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=rng)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (2000, 3, 32, 32), dtype=torch.uint8, generator=rng)
    of_real = torch.cat([features(batch) for batch in images[order].split(64)])  # (N, d)
    of_noise = torch.cat([features(batch) for batch in noise.split(64)])
    reference = moments(of_real.split(64))[:2]
    for name, sample in (("real images", of_real[:2000]), ("uniform noise", of_noise)):
        mean, cov, count = moments(sample.split(64))
        distance = frechet_distance(*reference, mean, cov)
        print(f"{features.name} of {count} {name} against all {len(images)}: {distance:.2f}")
    half = len(of_real) // 2
    known = {
        "all against themselves": (of_real, of_real),
        "one half against the other": (of_real[:half], of_real[half:]),
        "20 images, each 100 times": (of_real, of_real[:20].repeat(100, 1)),
        "2,000 of uniform noise": (of_real, of_noise),
    }
    print(f"{'':<28}{'precision':>9}  {'recall':>6}  {'KID':>8}  {'deviation':>9}  clean-fid's")
    for name, (first, second) in known.items():
        found = sample_quality(first, second)
        np.random.seed(0)
        theirs = kernel_distance(first.numpy(), second.numpy(), max_subset_size=1000)
        print(
            f"{name:<28}{found['precision']:>9.3f}  {found['recall']:>6.3f}  {found['kid']:>8.5f}  "
            f"{found['kid_std']:>9.5f}  {theirs:>11.5f}",
            flush=True,
        )
    real, noisy = (of.float() - of_real.float().mean(0) for of in (of_real, of_noise))
    radii = neighbour_distances(real, 3)
    inside = torch.cdist(noisy, real) <= radii  # (2000, N), the balls of precision
    most = int(inside.sum(0).argmax())
    held, radius, median = inside[:, most].sum(), radii[most], radii.median()
    inside[:, most] = False
    rest = inside.any(1).double().mean()
    print(
        f"the ball of one image holds {held} of the noise: radius {radius:.1f}, the median "
        f"{median:.1f}; without it the noise's precision is {rest:.3f}"
    )


if __name__ == "__main__":
    main()
