"""Question 1.4: LSGAN.

    python gan/q1_4.py                                  train as the assignment says
    python gan/q1_4.py --dataset synthetic --num_iterations 300 --batch_size 64

Mao et al. 2016, arXiv 1611.04076, equation (2) with a = 0 and b = c = 1.
"""

import torch
from evaluate import evaluate
from networks import Discriminator, Generator
from torch import Tensor
from train import train_model
from utils import get_args


def compute_discriminator_loss(
    discrim_real: Tensor, discrim_fake: Tensor, discrim_interp: None, interp: None, lamb: float
) -> Tensor:
    """1/2 E[(D(x) - 1)^2] + 1/2 E[D(G(z))^2], each a mean over its batch.

    discrim_real, discrim_fake: scores (B, 1). The other arguments are not used.
    """
    return 0.5 * (discrim_real - 1).square().mean() + 0.5 * discrim_fake.square().mean()


def compute_generator_loss(discrim_fake: Tensor) -> Tensor:
    """1/2 E[(D(G(z)) - 1)^2]."""
    return 0.5 * (discrim_fake - 1).square().mean()


if __name__ == "__main__":
    args = get_args(__doc__)
    torch.manual_seed(args.seed)
    gen, disc = Generator().to(args.device), Discriminator().to(args.device)
    evaluate(gen, args)  # does something with --evaluate alone, and ends there
    train_model(
        gen,
        disc,
        num_iterations=args.num_iterations,
        batch_size=args.batch_size,
        lamb=args.lamb,
        prefix=args.prefix,
        gen_loss_fn=compute_generator_loss,
        disc_loss_fn=compute_discriminator_loss,
        log_period=args.log_period,
        amp_enabled=not args.disable_amp,
        options=args,
    )
