"""The runs of the assignment by name, and what the names of models and losses stand for."""

from argparse import Namespace
from typing import Any

from flows import PlanarVAE, planar_vae_loss
from losses import free_bits_loss
from model import AEModel
from small_ae import SmallAE
from torch import nn

from common import InputError

VAE_1024 = {"loss_mode": "vae", "latent_size": 1024}
# name -> what `train.main` is called with, beside the defaults
PRESETS: dict[str, dict[str, Any]] = {
    "ae_latent16": {"loss_mode": "ae", "latent_size": 16},
    "ae_latent128": {"loss_mode": "ae", "latent_size": 128},
    "ae_latent1024": {"loss_mode": "ae", "latent_size": 1024},
    "vae_latent16": {"loss_mode": "vae", "latent_size": 16},
    "vae_latent128": {"loss_mode": "vae", "latent_size": 128},
    "vae_latent1024": VAE_1024,
    "vae_latent1024_beta_constant0.8": VAE_1024 | {"target_beta_val": 0.8},
    "vae_latent1024_beta_constant1.2": VAE_1024 | {"target_beta_val": 1.2},
    "vae_latent1024_beta_linear1": VAE_1024 | {"beta_mode": "linear"},
}
VAE_128 = {"loss_mode": "vae", "latent_size": 128}
# Runs that the assignment does not ask for. `all` leaves them out.
NEIGHBOURS: dict[str, dict[str, Any]] = {
    "ae_small": {"loss_mode": "ae", "network": "small", "latent_size": 2048},
    "vae_latent128_planar4": VAE_128 | {"flows": 4},
    "vae_latent128_anneal": VAE_128 | {"beta_mode": "anneal", "batch_size": 64},
    "vae_latent128_cyclical": VAE_128 | {"beta_mode": "cyclical"},
    "vae_latent128_free_bits0.5": VAE_128 | {"free_bits": 0.5},
}


def build(loss_mode: Any, latent_size: int, base_channels: int, options: Namespace) -> nn.Module:
    """The model of a run."""
    if options.flows:
        return PlanarVAE(latent_size, options.flows)
    if options.network == "small":
        return SmallAE()
    return AEModel(loss_mode != "ae", latent_size, base_channels=base_channels)


def losses_of(loss_mode: Any, options: Namespace) -> tuple[Any, Any]:
    """What training minimises and what validation averages: for free bits the plain VAE's."""
    if (options.flows or options.free_bits) and loss_mode != "vae":
        raise InputError(
            "--flows and --free_bits belong to the VAE's own loss; leave them out, or loss_mode"
        )
    if options.flows:
        return planar_vae_loss, planar_vae_loss
    if options.free_bits:
        free_bits = options.free_bits
        # Validation compares models: what a latent has for free is left out there.
        return lambda model, x, beta: free_bits_loss(model, x, beta, free_bits=free_bits), "vae"
    return loss_mode, loss_mode
