"""The helpers that the handout puts here: plots, the latent grid, the score, the options."""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from dataset import DATA_DIR, load_images
from fid import GENERATOR_BATCH, Features, Scorer
from networks import LATENT_DIM, Generator, reestimate_statistics
from settings import get_args  # noqa: F401 (public here)
from torch import Tensor

from common import InputError
from common.files import save_grid, save_plot  # noqa: F401 (save_plot is public here)
from common.measure import measuring


def latent_grid(device: torch.device | str = "cpu", rest: Tensor | None = None) -> Tensor:
    """Latents (100, 128) of a 10 x 10 grid over the first two dimensions.

    The first goes from -1 to 1 down the rows, the second along the columns; the others are those
    of `rest` (128,), by default 0.
    """
    steps = torch.linspace(-1, 1, 10, device=device)
    z = (torch.zeros(LATENT_DIM, device=device) if rest is None else rest).repeat(100, 1)
    z[:, :2] = torch.cartesian_prod(steps, steps)
    return z


def spherical(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of (..., 128) latents; share 0 is start, 1 is end.

    The straight line between two samples of N(0, I) passes through lengths that N(0, I) never
    gives (White 2016, arXiv 1609.04468); the arc does not.
    """
    cosine = F.cosine_similarity(start, end, dim=-1).unsqueeze(-1)
    angle = cosine.clamp(-0.9999, 0.9999).acos()
    return (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / angle.sin()


def between_four(corners: Tensor) -> Tensor:
    """Latents (100, 128) of a 10 x 10 grid with these four (4, 128) in its corners."""
    share = torch.linspace(0, 1, 10, device=corners.device)
    down, along = share.view(10, 1, 1), share.view(1, 10, 1)
    left = spherical(corners[0], corners[2], down)  # (10, 1, 128)
    right = spherical(corners[1], corners[3], down)
    return spherical(left, right, along).reshape(100, LATENT_DIM)


def walk(samples: Tensor, frames: int) -> Tensor:
    """Latents (N * frames, N, 128) on the way of N samples (N, 128), each to the next and round."""
    share = torch.arange(frames, device=samples.device).view(frames, 1, 1) / frames
    legs = [samples.roll(-leg, 0) for leg in range(len(samples) + 1)]
    return torch.cat(
        [spherical(start, end, share) for start, end in zip(legs, legs[1:], strict=False)]
    )


def draw(gen: Generator, latents: dict[str, Tensor]) -> dict[str, Tensor]:
    """Images (B, 3, 32, 32) in [-1, 1] of named latents (B, 128).

    Running statistics normalise them, so each picture depends on its own latent alone: in train
    mode a grid of nearly equal latents would be stretched by its own batch, and show structure
    that is not there. They are estimated anew, for those of training lag behind.
    """
    with measuring(gen):
        reestimate_statistics(gen)
        return {name: gen.forward_given_samples(z) for name, z in latents.items()}


def interpolate_latent_space(gen: Generator, path: Path | str, rest: Tensor | None = None) -> None:
    """Save the 100 images of `latent_grid` as one PNG, 10 a row, in [0, 1]."""
    z = latent_grid(next(gen.parameters()).device, rest)
    save_grid(draw(gen, {"grid": z})["grid"], path)


def picture_latents(seed: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The latents (100, 128) of every grid that a run draws, by the names of its files.

    samples: from N(0, I). interpolations: the assignment's grid around 0, a latent that N(0, I)
    never gives. around_a_sample: the same around the first sample. between_samples: spherical,
    with the first four samples in the corners.
    """
    rng = torch.Generator(device).manual_seed(seed + 2)
    samples = torch.randn(100, LATENT_DIM, generator=rng, device=device)
    return {
        "samples": samples,
        "interpolations": latent_grid(device),
        "around_a_sample": latent_grid(device, samples[0]),
        "between_samples": between_four(samples[:4]),
    }


@functools.lru_cache(maxsize=1)
def _inception_scorer(
    folder: Path, resolution: int, device: torch.device, weights_folder: str | Path | None
) -> Scorer:
    features = Features("inception", device, weights_folder)
    return Scorer(load_images(folder, resolution), features, (folder.parent,))


def get_fid(
    gen: Generator,
    dataset_name: str,
    dataset_resolution: int,
    z_dimension: int,
    batch_size: int,
    num_gen: int,
    inception_weights: str | Path | None = None,
) -> float:
    """clean-fid's FID of `num_gen` images of `gen` against a data set: "cub", or a folder of JPEGs.

    Batch statistics in batches of 256, whatever `batch_size` is: the score depends on it.
    """
    if z_dimension != LATENT_DIM:
        raise InputError(
            f"get_fid: z_dimension is {z_dimension}, expected {LATENT_DIM}, the generator's"
        )
    if batch_size != GENERATOR_BATCH:
        print(
            f"get_fid: scoring in batches of {GENERATOR_BATCH}, not {batch_size}: "
            "the score depends on it"
        )
    folder = DATA_DIR if dataset_name == "cub" else Path(dataset_name)
    device = next(gen.parameters()).device
    scorer = _inception_scorer(folder, dataset_resolution, device, inception_weights)
    return scorer.score(gen, num_gen)
