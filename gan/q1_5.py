"""Question 1.5: WGAN-GP.

    python gan/q1_5.py                                  train as the assignment says
    python gan/q1_5.py --dataset synthetic --num_iterations 300 --batch_size 64

Gulrajani et al. 2017, arXiv 1704.00028, Algorithm 1 with lambda = 10 and five critic steps to one
of the generator; Adam has the rate of the paper's CIFAR-10 experiments, 2e-4 falling to 0. The
steps and the optimizers are in train.py.
"""

import torch
from evaluate import evaluate
from networks import Discriminator, Generator
from torch import Tensor
from train import train_model
from utils import get_args


def compute_discriminator_loss(
    discrim_real: Tensor,
    discrim_fake: Tensor,
    discrim_interp: Tensor | None,
    interp: Tensor | None,
    lamb: float,
) -> Tensor:
    """E[D(x~)] - E[D(x)] + lamb * E[(||grad D(x^)||_2 - 1)^2], the norm taken per image.

    discrim_real, discrim_fake: scores (B, 1). discrim_interp: scores (B, 1) of interp, the images
    x^ (B, 3, 32, 32), which require a gradient. With interp None the penalty is left out.
    """
    loss = discrim_fake.mean() - discrim_real.mean()  # a critic: scores have no bounds
    if interp is None or discrim_interp is None:
        return loss
    # Each score depends on its own image alone, so the gradient of the sum holds one per image.
    (gradient,) = torch.autograd.grad(discrim_interp.sum(), interp, create_graph=True)
    norm = gradient.float().flatten(1).norm(dim=1)  # (B,)
    return loss + lamb * (norm - 1).square().mean()  # two-sided, as the paper advises


def compute_generator_loss(discrim_fake: Tensor) -> Tensor:
    """-E[D(G(z))]."""
    return -discrim_fake.mean()


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
