"""Question 1.5: WGAN-GP.

    python gan/q1_5.py                                  train as the assignment says
    python gan/q1_5.py --dataset synthetic --num_iterations 300 --batch_size 64

Gulrajani et al. 2017, arXiv 1704.00028, Algorithm 1: lambda = 10, five critic steps to one of the
generator, Adam(2e-4, betas 0 and 0.9); see train.py.
"""

import torch


def compute_discriminator_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    """E[D(x~)] - E[D(x)] + lamb * E[(||grad D(x^)||_2 - 1)^2], the norm taken per image.

    discrim_real, discrim_fake: scores (B, 1). discrim_interp: scores (B, 1) of interp, the images
    x^ (B, 3, 32, 32), which require a gradient. With interp None the penalty is left out.
    """
    loss = discrim_fake.mean() - discrim_real.mean()
    if interp is None:
        return loss
    # Each score depends on its own image alone, so the gradient of the sum holds one per image.
    (gradient,) = torch.autograd.grad(discrim_interp.sum(), interp, create_graph=True)
    norm = gradient.float().flatten(1).norm(dim=1)  # (B,)
    return loss + lamb * (norm - 1).square().mean()


# What the training loop passes for discrim_interp and interp: "unused" is None (q1_3, q1_4), "scores"
# (also without this line) is both. "gradient penalty" is None too, and the loop adds the penalty's gradient
# with `penalty.penalty_backward`, which is faster, where that equals the gradient of the penalty above: it
# tries once, at the start. With a penalty or a Discriminator of your own it passes "scores".
compute_discriminator_loss.interpolates = "gradient penalty"


def compute_generator_loss(discrim_fake):
    """-E[D(G(z))]."""
    return -discrim_fake.mean()


if __name__ == "__main__":
    from main import run

    run(__doc__, "data_wgan_gp", compute_discriminator_loss, compute_generator_loss)
