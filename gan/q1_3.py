"""Question 1.3: the original GAN.

    python gan/q1_3.py                                  train as the assignment says
    python gan/q1_3.py --dataset synthetic --num_iterations 300 --batch_size 64

Goodfellow et al. 2014, arXiv 1406.2661: Algorithm 1 for the discriminator, the non-saturating
objective of section 3 for the generator. Scores are logits: D(x) of the paper is sigmoid(score).
"""

import torch
import torch.nn.functional as F
from evaluate import evaluate
from networks import Discriminator, Generator
from torch import Tensor
from train import train_model
from utils import get_args


def compute_discriminator_loss(
    discrim_real: Tensor, discrim_fake: Tensor, discrim_interp: None, interp: None, lamb: float
) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))], each a mean over its batch.

    discrim_real, discrim_fake: scores (B, 1). The other arguments are not used.
    """
    # -log(sigmoid(s)) = softplus(-s) and -log(1 - sigmoid(s)) = softplus(s): finite for any score.
    return F.softplus(-discrim_real).mean() + F.softplus(discrim_fake).mean()


def compute_generator_loss(discrim_fake: Tensor) -> Tensor:
    """-E[log D(G(z))]: the same fixed point as Algorithm 1, with gradients where D is confident."""
    return F.softplus(-discrim_fake).mean()


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
