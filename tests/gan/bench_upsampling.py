"""What the handout's upsampling costs when it is read literally: one short WGAN-GP run.

    python tests/gan/bench_upsampling.py --data_dir ../shared/datasets/CUB_200_2011_32 \
        --features ../shared/features/efficientnet_lite0.pt --out_dir report/runs/short_wgan_gp_scrambled

"Repeat r^2 times channel-wise, then pixel shuffle" with torch's channel order is not nearest-neighbour
upsampling: output channel c is made of the input channels 4c, ..., 4c + 3 (modulo their number), one a
sub-pixel. Seed, data, batch and length are those of report/runs/short_wgan_gp, so the two compare.
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gan"))
from command_line import exit_codes  # noqa: E402
from dataset import load_images  # noqa: E402
from networks import Discriminator, Generator, UpSampleConv2D  # noqa: E402
from q1_5 import compute_discriminator_loss, compute_generator_loss  # noqa: E402
from train import train_model  # noqa: E402


class ScrambledUpSampleConv2D(UpSampleConv2D):
    def forward(self, x):
        r = self.upscale_factor
        return self.conv(F.pixel_shuffle(x.repeat(1, r * r, 1, 1), r))


def scrambled_generator():
    """A Generator with the same initial weights as the seed gives the true one."""
    gen = Generator()
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
    with exit_codes():
        images = load_images(args.data_dir)
        torch.manual_seed(0)
        train_model(
            scrambled_generator(),
            Discriminator(),
            args.num_iterations,
            64,
            prefix=args.out_dir.absolute(),
            gen_loss_fn=compute_generator_loss,
            disc_loss_fn=compute_discriminator_loss,
            log_period=250,
            images=images,
            stats_folders=(args.data_dir.parent,),
            fid=args.features,
            num_gen=(2000, 2000),
            resume=args.resume,
            options={
                "dataset": "cub",
                "data_dir": str(args.data_dir),
                "variant": "scrambled upsampling",
            },
        )


if __name__ == "__main__":
    main()
