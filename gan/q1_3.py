"""Question 1.3: the original GAN.

    python gan/q1_3.py                                  train as the assignment says
    python gan/q1_3.py --dataset synthetic --num_iterations 300 --batch_size 64

Goodfellow et al. 2014, arXiv 1406.2661: Algorithm 1 for the discriminator, the non-saturating
objective of section 3 for the generator. Scores are logits: D(x) of the paper is sigmoid(score).
"""

if __name__ == "__main__":  # a slip in the command line is told before torch loads
    from settings import get_args

    args = get_args(__doc__, "data_gan")

import torch.nn.functional as F
from torch import Tensor


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
    from main import Losses, run

    # interpolates=False: no penalty, so no interpolates are made.
    losses = Losses(compute_discriminator_loss, compute_generator_loss, interpolates=False)
    run(args, losses)
