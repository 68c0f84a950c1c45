"""The helpers that the handout puts here: loaders, pictures of a model, plots."""

import contextlib
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from dataset import Batches, open_data
from losses import Autoencoder, reconstruction
from torch import Tensor

from common import InputError
from common.files import as_png, check_images, save_grid
from common.files import save_plot as save_plot  # public here
from common.measure import measuring

ZOOM = 4  # a pixel of CIFAR-10 is drawn 4x4, so that a report shows it sharp
FRAME = 6  # pixels of a picture, on all sides of an image
ORANGE = (1.0, 0.1, -1.0)  # in [-1, 1]


def get_dataloaders(
    batch_size: int = 256,
    options: Namespace | None = None,
    images: tuple[Tensor, Tensor] | None = None,
) -> tuple[Batches, Batches]:
    """(train_loader, val_loader) of (uint8 images (B, 3, 32, 32), None), on the options' device.

    options: of the command line; default CIFAR-10, fetched once. images: uint8 (N, 3, 32, 32)
    instead, for training and validation. Each epoch of training has a fresh order.
    """
    options = options or Namespace(
        dataset="cifar10", data_dir=None, download=True, seed=0, device=torch.device("cpu")
    )
    if images is not None and (not isinstance(images, tuple | list) or len(images) != 2):
        raise InputError("images: expected two tensors, for training and for validation")
    training, validation = images or open_data(options)
    for part in (training, validation):
        check_images(part)
    shuffler = torch.Generator(options.device).manual_seed(options.seed)
    return (
        Batches(training, batch_size, options.device, shuffler),
        Batches(validation, batch_size, options.device),
    )


def preprocess_data(x: Tensor, device: torch.device | None = None) -> Tensor:
    """uint8, or floats in [0, 1], to float32 in [-1, 1] (channels_last), on `device`.

    Raises InputError for other floats: images that were brought to [-1, 1] already.
    """
    if x.dtype == torch.uint8:
        x = x.to(device).float().div_(127.5).sub_(1)
    else:
        low, high = float(x.min()), float(x.max())
        if not (0 <= low and high <= 1):
            raise InputError(
                f"images: got floats from {low:.3g} to {high:.3g}, expected [0, 1] as a loader "
                "with ToTensor gives them, or uint8"
            )
        x = 2 * x.to(device).float() - 1  # the handout's own
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def vis_recons(model: Autoencoder, x: Tensor, _file: Path | str) -> Tensor:
    """Save images x (B, 3, 32, 32), as a loader gives them, each with its reconstruction beside it.

    The images have orange frames. A VAE reconstructs from the mean of q(z | x), sent through its
    flows where it has some. Twelve pictures, six pairs, a row. A `_file` without suffix gets
    "_recons.png". Returns the picture.
    """
    with measuring(model) as device:
        x = preprocess_data(x, device)
        pairs = torch.stack([x, reconstruction(model, x)], dim=1).flatten(0, 1).cpu().float()
    pairs = pairs.repeat_interleave(ZOOM, 2).repeat_interleave(ZOOM, 3)  # (2B, 3, 128, 128)
    framed = F.pad(pairs, (FRAME,) * 4, value=-1.0)  # black around the reconstructions
    inside = F.pad(torch.ones_like(pairs[::2]), (FRAME,) * 4)
    orange = torch.tensor(ORANGE).view(3, 1, 1)
    framed[::2] = torch.where(inside > 0, framed[::2], orange)
    return save_grid(framed, as_png(_file, "_recons.png"), nrow=12)


def vis_samples(model: Autoencoder, _file: Path | str, num_samples: int = 49) -> Tensor:
    """Save decoded latents from N(0, I) as a PNG, seven a row; returns the picture.

    A `_file` without suffix gets "_samples.png". Drawn with torch's global random numbers.
    """
    device = next(model.parameters()).device
    # (B, latent_size), drawn on the CPU: the same on every device.
    z = torch.randn(num_samples, model.latent_size).to(device)
    with measuring(model):
        images = model.decoder(z)
    return save_grid(images, as_png(_file, "_samples.png"), nrow=7, zoom=ZOOM)


def count_active_latents(
    model: Autoencoder,
    loader: Iterable[tuple[Tensor, Any]],
    precision: Callable = contextlib.nullcontext,
    threshold: float = 0.01,
) -> int:
    """Latents of a VAE whose mean depends on the image: Var_x(E[z_j | x]) > threshold.

    Burda et al. 2015, arXiv 1509.00519. loader: as for training; the variance is over all of it.
    """
    with measuring(model) as device, precision():
        batches = (preprocess_data(x, device) for x, _ in loader)
        means = torch.cat([model.encoder(x)[0].float() for x in batches])  # (N, latent_size)
    return int((means.var(dim=0) > threshold).sum())
