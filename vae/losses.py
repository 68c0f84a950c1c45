"""The losses of questions 2.1, 2.2 and 2.3, and what they are made of.

x: (B, 3, 32, 32) in [-1, 1]. Sums run over pixels or latents, means over the batch only. Each loss
returns (loss, OrderedDict of its terms); the noise of a sampled z is torch's global one.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common import InputError, name_of, tried
from common.measure import preserved

Autoencoder = Any  # a module with .encoder(x) and .decoder(z)
Terms = tuple[Tensor, OrderedDict]  # the loss, and its terms


def ae_loss(model: Autoencoder, x: Tensor) -> Terms:
    """Squared error of the reconstruction, summed over pixels, averaged over the batch only."""
    loss = reconstruction_error(model.decoder(model.encoder(x)), x)
    return loss, OrderedDict(recon_loss=loss)


def vae_loss(model: Autoencoder, x: Tensor, beta: float = 1) -> Terms:
    """recon + beta * KL(q(z | x) || N(0, I)), the beta-VAE objective.

    arXiv 1606.05908 and 1804.03599. recon is that of `ae_loss` for a sampled z; the KL divergence
    is in closed form, summed over latents and averaged over the batch.
    """
    mu, log_std = (output.float() for output in model.encoder(x))  # (B, latent_size) each
    z = reparameterise(mu, log_std)
    recon_loss = reconstruction_error(model.decoder(z), x)
    kl_loss = kl_divergence(mu, log_std)  # without beta: runs of other betas compare
    return recon_loss + beta * kl_loss, OrderedDict(recon_loss=recon_loss, kl_loss=kl_loss)


def free_bits_loss(model: Autoencoder, x: Tensor, beta: float = 1, *, free_bits: float) -> Terms:
    """recon + beta * sum_j max(free_bits, KL_j), KL_j the batch mean of latent j in nats.

    Kingma et al. 2016, arXiv 1606.04934, equation (15). Below `free_bits` a latent costs the same
    whatever it says, so nothing pushes it to say less. The kl_loss among the terms is the true one.
    """
    mu, log_std = (output.float() for output in model.encoder(x))  # (B, latent_size) each
    z = reparameterise(mu, log_std)
    recon_loss = reconstruction_error(model.decoder(z), x)
    # The mean over the batch comes before the bound: an image may say more where another is mute.
    kl = kl_terms(mu, log_std).mean(dim=0)  # (latent_size,)
    loss = recon_loss + beta * kl.clamp(min=free_bits).sum()
    return loss, OrderedDict(recon_loss=recon_loss, kl_loss=kl.sum())


def reconstruction_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Squared error, summed over pixels and channels, averaged over the batch only."""
    # float32: a sum of 3,072 terms in bfloat16 keeps two or three digits.
    return (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()


def reparameterise(mu: Tensor, log_std: Tensor) -> Tensor:
    """z = mu + exp(log_std) * noise, a sample of q(z | x) that gradients pass through."""
    noise = torch.randn_like(mu)  # (B, latent_size)
    return mu + log_std.exp() * noise


def kl_terms(mu: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mu, std^2) || N(0, 1)) of every latent of every image, (B, latent_size).

    log(std^2) is 2 * log_std; the log of an exponential would be -inf below about -52.
    """
    return 0.5 * (mu.square() + (2 * log_std).exp() - 2 * log_std - 1)


def kl_divergence(mu: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mu, std^2) || N(0, I)), summed over latents and averaged over the batch."""
    return kl_terms(mu, log_std).sum(dim=1).mean()


def reconstruction(model: Autoencoder, x: Tensor) -> Tensor:
    """What is drawn beside x (B, 3, 32, 32) in [-1, 1]: decoded from the mean of q(z | x)."""
    code = model.encoder(x)
    mean = code[0] if isinstance(code, tuple | list) else code  # (B, latent_size)
    if hasattr(model, "transform"):
        mean, _ = model.transform(mean)
    return model.decoder(mean)


def try_loss(model: nn.Module, function: Callable[..., Terms], call: Callable) -> None:
    """Model and loss on three images, in float32 and without a trace; InputError names a slip.

    function: what the student wrote, for the message. call: the same as (model, x, beta).
    """
    kind, name = type(model).__name__, name_of(function)
    size = getattr(model, "latent_size", None)
    if not isinstance(size, int):
        raise InputError(f"{kind}.latent_size is {size!r}, expected an int")
    if lost := [part for part in ("encoder", "decoder") if not hasattr(model, part)]:
        raise InputError(f"{kind} has no {lost[0]}; samples and reconstructions are made by it")
    with preserved(model):
        x = torch.rand(3, 3, 32, 32, device=next(model.parameters()).device) * 2 - 1
        z = torch.zeros(3, size, device=x.device)
        what = "expected images (3, 3, 32, 32) of latents (3, size), the means of the encoder's"
        decoder: Any = model.decoder
        drawn = {"decoder": tried(decoder, z, what=what, name=f"{kind}.decoder")}
        drawn["reconstruction"] = tried(reconstruction, model, x, what=what, name=kind)
        for part, images in drawn.items():
            if getattr(images, "shape", None) != x.shape:
                got = tuple(getattr(images, "shape", ()))
                raise InputError(f"{kind}.{part} gives {got}, expected {(*x.shape,)}")
        expected = "expected (loss, OrderedDict of terms), each a scalar tensor"
        got = tried(call, model, x, 1.0, what=expected, name=name)
        if not (isinstance(got, tuple) and len(got) == 2 and isinstance(got[1], dict)):
            raise InputError(f"{name} returned {type(got).__name__}; {expected}")
        for term, value in {"the loss": got[0], **got[1]}.items():
            if not isinstance(term, str) or "/" in term or term == "loss":
                raise InputError(f"{name}: a term is called {term!r}; give another name")
            if not isinstance(value, Tensor) or value.shape != ():
                found = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
                raise InputError(f"{name}: {term} is {found}; {expected}")
        if not got[0].requires_grad:
            raise InputError(f"{name} returned a loss without a gradient")
