"""Pictures of a model: reconstructions and samples."""

import contextlib

import torch

from files import save_grid, save_plot  # noqa: F401 (save_plot is a public name here)

ZOOM = 4  # a pixel of CIFAR-10 is drawn 4x4, so that a report shows it sharp


@contextlib.contextmanager
def measuring(model):
    """No gradients and eval mode for a while; the mode as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def vis_recons(model, x, _file):
    """Save images x (B, 3, 32, 32) in [-1, 1] as a PNG, each with its reconstruction to the right.

    A VAE reconstructs from the mean of q(z | x), sent through its flows where it has some. Twelve
    pictures, six pairs, a row.
    """
    with measuring(model) as device:
        x = x.to(device)
        code = model.encoder(x)
        mean = code[0] if isinstance(code, tuple) else code
        if hasattr(model, "transform"):
            mean, _ = model.transform(mean)
        pairs = torch.stack([x, model.decoder(mean)], dim=1).flatten(0, 1)  # (2B, 3, 32, 32)
    return save_grid(pairs, _file, nrow=12, zoom=ZOOM)


def vis_samples(model, _file, num_samples=49, generator=None):
    """Save decoded latents from N(0, I) as a PNG, seven a row."""
    with measuring(model) as device:
        z = torch.randn(num_samples, model.latent_size, device=device, generator=generator)
        images = model.decoder(z)
    return save_grid(images, _file, nrow=7, zoom=ZOOM)


def count_active_latents(model, loader, precision=contextlib.nullcontext, threshold=0.01):
    """Latents of a VAE whose mean depends on the image: Var_x(E[z_j | x]) > threshold (arXiv 1509.00519).

    loader: any iterable of (images in [-1, 1], anything); the variance is over all of them.
    """
    with measuring(model) as device:
        with precision():
            means = torch.cat([model.encoder(x.to(device))[0].float() for x, _ in loader])
    return int((means.var(dim=0) > threshold).sum())
