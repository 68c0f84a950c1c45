"""How many latents running statistics need: scores and pictures of several estimates.

python tests/gan/bench_statistics.py --generator GENERATOR.pt --data_dir BIRDS --features FILE.pt
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gan"))
from dataset import load_images
from fid import Features, Reference, frechet_distance, moments
from networks import Generator
from utils import picture_latents

from common.device import keep_freed_memory
from common.files import load_weights


def estimated(path, count, seed):
    """The generator in eval mode, with statistics of so many latents, 128 at a time at the most."""
    gen = Generator()
    load_weights(gen, path, "--generator")
    for module in gen.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    rng, size = torch.Generator().manual_seed(seed), min(128, max(32, count // 8))
    for _ in range(count // size):
        gen.forward_given_samples(torch.randn(size, 128, generator=rng))
    return gen.eval()


def distance(gen, features, reference, count):
    rng = torch.Generator().manual_seed(1)
    images = (
        gen.forward_given_samples(torch.randn(256, 128, generator=rng))[: count - start]
        for start in range(0, count, 256)
    )
    mean, cov, _ = moments(features(batch.add(1).mul(127.5)) for batch in images)
    return frechet_distance(reference.mean, reference.cov, mean, cov, reference.sqrt_cov)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--generator", "--data_dir", "--features"):
        parser.add_argument(name, required=True)
    parser.add_argument("--samples", type=int, default=2000)
    counts = [64, 512, 1024, 2048, 4096, 8192, 16384]
    parser.add_argument("--latents", type=int, nargs="+", default=counts)
    args = parser.parse_args()
    keep_freed_memory()
    features = Features(args.features)
    reference = Reference(load_images(args.data_dir), features)
    z = picture_latents(0)["samples"]
    best = estimated(args.generator, max(args.latents), 99).forward_given_samples(z)
    for count in args.latents:
        begun = time.perf_counter()
        generators = [estimated(args.generator, count, seed) for seed in range(3)]
        seconds = (time.perf_counter() - begun) / 3
        scores = [distance(gen, features, reference, args.samples) for gen in generators]
        off = [(g.forward_given_samples(z) - best).mul(127.5).abs().mean() for g in generators[:2]]
        shown = " ".join(f"{score:.2f}" for score in scores)
        spread = 100 * (max(scores) - min(scores)) / scores[0]
        greys = " ".join(f"{value:5.2f}" for value in off)
        print(f"{count:>7}  {shown}  {spread:.2f} %  {greys}  {seconds:.1f}", flush=True)


if __name__ == "__main__":
    main()
