"""A VAE whose posterior is bent by planar flows (Rezende & Mohamed 2015, arXiv 1505.05770).

q(z_0 | x) is the Gaussian of the assignment's VAE; z_K = f_K(... f_1(z_0)) goes to the decoder. The
flows' parameters are shared by all images: the posteriors' common shape is learned, not one an
image.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from losses import Terms, reconstruction_error
from model import AEModel
from torch import Tensor, nn

INVERSE_SOFTPLUS_OF_1 = math.log(math.e - 1)


class PlanarFlow(nn.Module):
    """f(z) = z + u^ tanh(w^T z + b) on (B, latent_size); it begins as the identity."""

    def __init__(self, latent_size: int):
        super().__init__()
        w = torch.randn(latent_size) / math.sqrt(latent_size)
        self.w = nn.Parameter(w)
        self.u = nn.Parameter(INVERSE_SOFTPLUS_OF_1 * w / w.square().sum())  # makes u^ = 0
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """f(z) and log|det df/dz|, (B, latent_size) and (B,).

        Elementwise, so float32 under autocast too.
        """
        wu = (self.w * self.u).sum()  # w^T u
        # Appendix A.1: w^T u^ = softplus(w^T u) - 1 > -1 is what makes f invertible; float32 rounds
        # to -1 without the clamp.
        slope = F.softplus(wu).clamp(min=1e-6)
        u_hat = self.u + (slope - 1 - wu) * self.w / self.w.square().sum()
        h = torch.tanh((z * self.w).sum(dim=1) + self.b)  # (B,)
        # det = 1 + u^^T psi, psi = (1 - h^2) w: equation (12), written as a sum of positive terms.
        log_det = torch.log(h.square() + (1 - h.square()) * slope)
        return z + u_hat * h.unsqueeze(1), log_det  # (B, latent_size), (B,)


class PlanarVAE(AEModel):
    """The assignment's VAE with `num_flows` planar flows behind the encoder."""

    def __init__(self, latent_size: int, num_flows: int = 4):
        super().__init__(True, latent_size)
        self.flows = nn.ModuleList(PlanarFlow(latent_size) for _ in range(num_flows))

    def transform(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z_0 to z_K and the sum of the log-determinants, (B, latent_size) and (B,)."""
        total = z.new_zeros(len(z))
        for flow in self.flows:
            z, log_det = flow(z)
            total = total + log_det
        return z, total


def planar_vae_loss(model: PlanarVAE, x: Tensor, beta: float = 1) -> Terms:
    """recon + beta * KL, the negative ELBO of equation (15), its KL estimated by the sampled z.

    KL = log q_0(z_0) - sum_k log|det| - log p(z_K), summed over latents, averaged over the batch;
    one sample's estimate may be negative. Returns what `losses.vae_loss` does.
    """
    mu, log_std = (output.float() for output in model.encoder(x))
    noise = torch.randn_like(mu)  # (B, latent_size)
    z, log_det = model.transform(mu + log_std.exp() * noise)  # z_K
    recon_loss = reconstruction_error(model.decoder(z), x)
    # The constants of the two Gaussians, latent_size / 2 * log(2 pi) each, cancel.
    log_q0 = (-log_std - 0.5 * noise.square()).sum(dim=1)
    log_p = (-0.5 * z.square()).sum(dim=1)
    kl_loss = (log_q0 - log_det - log_p).mean()
    return recon_loss + beta * kl_loss, OrderedDict(recon_loss=recon_loss, kl_loss=kl_loss)
