"""Question 1.4: LSGAN.

    python gan/q1_4.py                                  train as the assignment says
    python gan/q1_4.py --dataset synthetic --num_iterations 300 --batch_size 64

Mao et al. 2016, arXiv 1611.04076, equation (2) with a = 0 and b = c = 1.
"""


def compute_discriminator_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    """1/2 E[(D(x) - 1)^2] + 1/2 E[D(G(z))^2], each a mean over its batch.

    discrim_real, discrim_fake: scores (B, 1). The other arguments are not used.
    """
    return 0.5 * (discrim_real - 1).square().mean() + 0.5 * discrim_fake.square().mean()


# The training loop then makes no interpolates (see q1_5.py).
compute_discriminator_loss.interpolates = "unused"


def compute_generator_loss(discrim_fake):
    """1/2 E[(D(G(z)) - 1)^2]."""
    return 0.5 * (discrim_fake - 1).square().mean()


if __name__ == "__main__":
    from main import run

    run(__doc__, "data_ls_gan", compute_discriminator_loss, compute_generator_loss)
