"""Pictures of a model: reconstructions and samples."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from losses import Autoencoder
from torch import Tensor

from common.files import save_grid, save_plot  # noqa: F401 (save_plot is a public name here)
from common.measure import measuring

ZOOM = 4  # a pixel of CIFAR-10 is drawn 4x4, so that a report shows it sharp


def vis_recons(model: Autoencoder, x: Tensor, _file: Path | str) -> Tensor:
    """Save images x (B, 3, 32, 32) in [-1, 1] as a PNG, each with its reconstruction to the right.

    The images have orange frames. A VAE reconstructs from the mean of q(z | x), sent through its
    flows where it has some. Twelve pictures, six pairs, a row.
    """
    with measuring(model) as device:
        x = x.to(device)
        code = model.encoder(x)
        mean = code[0] if isinstance(code, tuple) else code
        if hasattr(model, "transform"):
            mean, _ = model.transform(mean)
        pairs = torch.stack([x, model.decoder(mean)], dim=1).flatten(0, 1)  # (2B, 3, 32, 32)
    return save_grid(pairs, _file, nrow=12, zoom=ZOOM, frames=True)


def vis_samples(
    model: Autoencoder,
    _file: Path | str,
    num_samples: int = 49,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Save decoded latents from N(0, I) as a PNG, seven a row."""
    with measuring(model) as device:
        shape = num_samples, model.latent_size
        z = torch.randn(shape, device=device, generator=generator)
        images = model.decoder(z)
    return save_grid(images, _file, nrow=7, zoom=ZOOM)


def count_active_latents(
    model: Autoencoder,
    loader: Iterable[tuple[Tensor, Any]],
    precision: Callable = nullcontext,
    threshold: float = 0.01,
) -> int:
    """Latents of a VAE whose mean depends on the image: Var_x(E[z_j | x]) > threshold.

    Burda et al. 2015, arXiv 1509.00519. loader: any iterable of (images in [-1, 1], anything); the
    variance is over all of them.
    """
    with measuring(model) as device, precision():
        means = torch.cat([model.encoder(x.to(device))[0].float() for x, _ in loader])
    return int((means.var(dim=0) > threshold).sum())
