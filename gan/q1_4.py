"""Question 1.4: LSGAN.

    python gan/q1_4.py                                  train as the assignment says
    python gan/q1_4.py --dataset synthetic --num_iterations 300 --batch_size 64

Mao et al. 2016, arXiv 1611.04076, equation (2) with a = 0 and b = c = 1.
"""

if __name__ == "__main__":  # a slip in the command line is told before torch loads
    from settings import get_args

    args = get_args(__doc__, "data_ls_gan")

from torch import Tensor


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
    from main import Losses, run

    # interpolates=False: no penalty, so no interpolates are made.
    losses = Losses(compute_discriminator_loss, compute_generator_loss, interpolates=False)
    run(args, losses)
