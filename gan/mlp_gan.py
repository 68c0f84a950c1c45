"""A fully connected GAN, from a neighbouring report: label smoothing, dropout, two learning rates.

    python gan/mlp_gan.py                                  30,000 iterations on CUB, like the others
    python gan/mlp_gan.py --dataset synthetic --num_iterations 300 --batch_size 64

The loss of q1_3.py with one-sided label smoothing (Salimans et al. 2016, arXiv 1606.03498, section
3.4); one discriminator step to one of the generator, at 4e-4 and 1e-4 (TTUR, Heusel et al. 2017,
arXiv 1706.08500), trained by the same loop.
"""

import torch
import torch.nn.functional as F
from evaluate import evaluate
from networks import LATENT_DIM
from q1_3 import compute_generator_loss
from torch import Tensor, nn
from train import train_model
from utils import get_args

REAL_LABEL = 0.9  # instead of 1; fakes keep their 0
DROPOUT = 0.3


class MLPGenerator(nn.Module):
    """Latents (B, 128) from N(0, I) to images (B, 3, 32, 32) in [-1, 1]; 3,838,720 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT_DIM, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 1024),
            nn.LeakyReLU(0.2),
            nn.Linear(1024, 3 * 32 * 32),
            nn.Tanh(),
        )

    def forward_given_samples(self, z: Tensor) -> Tensor:
        """(B, 128) -> (B, 3, 32, 32) in [-1, 1]."""
        return self.layers(z).view(-1, 3, 32, 32)  # (B, 3072), a pixel a number

    def forward(self, n_samples: int = 1024) -> Tensor:
        """n_samples images from fresh latents, drawn on the module's own device."""
        device = next(self.parameters()).device
        return self.forward_given_samples(torch.randn(n_samples, LATENT_DIM, device=device))


class MLPDiscriminator(nn.Module):
    """Images (B, 3, 32, 32) in [-1, 1] to raw scores (B, 1), no sigmoid; 3,803,137 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(3 * 32 * 32, 1024),
            nn.LeakyReLU(0.2),
            nn.Dropout(DROPOUT),
            nn.Linear(1024, 512),
            nn.LeakyReLU(0.2),
            nn.Dropout(DROPOUT),
            nn.Linear(512, 256),
            nn.LeakyReLU(0.2),
            nn.Dropout(DROPOUT),
            nn.Linear(256, 1),  # a raw score: the loss has the sigmoid
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) in [-1, 1] -> (B, 1)."""
        return self.layers(x)


def compute_discriminator_loss(
    discrim_real: Tensor, discrim_fake: Tensor, discrim_interp: None, interp: None, lamb: float
) -> Tensor:
    """Cross-entropy with label 0.9 for real images and 0 for fakes, each a mean over its batch.

    discrim_real, discrim_fake: scores (B, 1). The other arguments are not used.
    """
    label = torch.full_like(discrim_real, REAL_LABEL)  # (B, 1)
    real = F.binary_cross_entropy_with_logits(discrim_real, label)
    return real + F.softplus(discrim_fake).mean()


def get_optimizers_and_schedulers(gen: nn.Module, disc: nn.Module) -> tuple:
    """Adam (betas (0.5, 0.999)) at constant rates: discriminator 4e-4, generator 1e-4.

    Returns what `train.get_optimizers_and_schedulers` does.
    """

    def adam(module: nn.Module, lr: float) -> tuple:
        optimizer = torch.optim.Adam(module.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)
        # A rate that stays, in the form that the loop expects.
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    return *adam(disc, 4e-4), *adam(gen, 1e-4)


if __name__ == "__main__":
    args = get_args(__doc__)
    torch.manual_seed(args.seed)
    gen, disc = MLPGenerator().to(args.device), MLPDiscriminator().to(args.device)
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
        make_optimizers=get_optimizers_and_schedulers,
        generator_every=1,  # instead of every fifth time
    )
