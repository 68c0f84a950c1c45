"""What the best linear code reaches: reconstruction error of PCA, a component for each latent.

    python tests/vae/bench_pca.py --data_dir ../shared/datasets

The components come from the training images, the error is measured on the validation images, in the
units of the reconstruction loss: squared error in [-1, 1], summed over pixels, mean over images.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vae"))
from dataset import load_cifar10
from utils import preprocess_data


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    args = parser.parse_args()
    train, validation = (
        preprocess_data(part).flatten(1) for part in load_cifar10(args.data_dir, download=False)
    )
    mean = train.mean(dim=0)
    covariance = (train - mean).T @ (train - mean) / len(train)
    components = torch.linalg.eigh(covariance.double())[1].flip(1).float()  # columns, largest first
    code = (validation - mean) @ components  # (10000, 3072), rotated: the error is what is left out
    for latents in (16, 128, 1024):
        print(f"PCA, {latents} components: {code[:, latents:].square().sum(dim=1).mean():.2f}")


if __name__ == "__main__":
    main()
