"""Question 1.3: the original GAN.

    python gan/q1_3.py                                  train as the assignment says
    python gan/q1_3.py --dataset synthetic --num_iterations 300 --batch_size 64

Goodfellow et al. 2014, arXiv 1406.2661: Algorithm 1 for the discriminator, the non-saturating
objective of section 3 for the generator. Scores are logits: D(x) of the paper is sigmoid(score).
"""

import torch.nn.functional as F


def compute_discriminator_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    """-E[log D(x)] - E[log(1 - D(G(z)))], each a mean over its batch.

    discrim_real, discrim_fake: scores (B, 1). The other arguments are not used.
    """
    # -log(sigmoid(s)) = softplus(-s) and -log(1 - sigmoid(s)) = softplus(s): finite for any score.
    return F.softplus(-discrim_real).mean() + F.softplus(discrim_fake).mean()


# The training loop then makes no interpolates (see q1_5.py).
compute_discriminator_loss.interpolates = "unused"


def compute_generator_loss(discrim_fake):
    """-E[log D(G(z))]: the same fixed point as Algorithm 1, with gradients where D is confident."""
    return F.softplus(-discrim_fake).mean()


if __name__ == "__main__":
    from main import run

    run(__doc__, "data_gan", compute_discriminator_loss, compute_generator_loss)
