"""What the handout's upsampling costs when it is read literally: one short WGAN-GP run.

    python tests/gan/bench_upsampling.py --data_dir BIRDS --features FILE.pt --out_dir RUN

"Repeat r^2 times channel-wise, then pixel shuffle" with torch's channel order is not
nearest-neighbour upsampling: output channel c is made of the input channels 4c, ..., 4c + 3 (modulo
their number), one a sub-pixel. Seed, batch and length are those of report/runs/short_wgan_gp, so on
the same birds and features the two compare (report/runs/short_wgan_gp_scrambled).
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gan"))
from dataset import load_images
from logger import LAYOUT
from networks import Discriminator, Generator, UpSampleConv2D
from q1_5 import compute_discriminator_loss, compute_generator_loss
from settings import Settings
from train import Losses, Trainer, fit

from common.command_line import exit_codes
from common.device import autocast_dtype
from common.run import RunFolder


class ScrambledUpSampleConv2D(UpSampleConv2D):
    def forward(self, x):
        r = self.upscale_factor
        return self.conv(F.pixel_shuffle(x.repeat(1, r * r, 1, 1), r))


class ScrambledGenerator(Generator):
    """By its name in config.json the run is told from the assignment's."""


def scrambled_generator():
    """A Generator with the same initial weights as the seed gives the true one."""
    gen = ScrambledGenerator()
    for module in gen.modules():
        if isinstance(module, UpSampleConv2D):
            module.__class__ = ScrambledUpSampleConv2D
    return gen


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, type=Path)
    parser.add_argument("--features", required=True)
    parser.add_argument("--out_dir", required=True, type=Path)
    parser.add_argument("--num_iterations", type=int, default=1000)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    settings = Settings(
        num_iterations=args.num_iterations,
        batch_size=64,
        log_period=250,
        fid=args.features,
        num_gen=(2000, 2000),
        data_dir=str(args.data_dir),
        fast_penalty=True,
    )
    losses = Losses(compute_discriminator_loss, compute_generator_loss, interpolates=True)
    with exit_codes(), RunFolder(args.out_dir, LAYOUT, args.resume) as run:
        images = load_images(args.data_dir)
        torch.manual_seed(0)
        networks = scrambled_generator(), Discriminator()
        dtype = autocast_dtype(torch.device("cpu"))
        trainer = Trainer(*networks, losses, images, settings, dtype)
        fit(trainer, run, (args.data_dir.parent,))


if __name__ == "__main__":
    main()
