"""The helpers that the handout puts here: plots, the latent grid, the score, the options."""

import functools
from pathlib import Path

import torch
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


def interpolate_latent_space(gen: Generator, path: Path | str, rest: Tensor | None = None) -> None:
    """Save the 100 images of `latent_grid` as one PNG, 10 a row, in [0, 1].

    Running statistics normalise them: in train mode a grid of nearly equal latents would be
    stretched by its own batch, and show structure that is not there.
    """
    with measuring(gen):
        reestimate_statistics(gen)
        save_interpolation(gen, path, rest)


def save_interpolation(gen: Generator, path: Path | str, rest: Tensor | None = None) -> None:
    """The same of a generator as it is."""
    device = next(gen.parameters()).device
    save_grid(gen.forward_given_samples(latent_grid(device, rest)), path)


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
