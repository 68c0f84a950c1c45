"""What `python q1_3.py`, `q1_4.py` and `q1_5.py` do with their two losses."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from dataset import DATA_DIR, draw_birds, load_images
from download import prepare_cub
from fid import Features, Scorer
from logger import LAYOUT, describe_score
from networks import LATENT_DIM, Discriminator, Generator
from settings import Settings, get_args
from torch import Tensor
from train import Losses, Trainer, get_optimizers_and_schedulers, train
from utils import interpolate_latent_space

from common.command_line import exit_codes
from common.device import autocast_dtype, resolve_device
from common.files import atomic, fingerprint, load_weights, save_grid
from common.measure import measuring
from common.run import RunFolder

SYNTHETIC_IMAGES = 6_000
ASSIGNMENT = (Generator, Discriminator)


def run(
    description: str | None,
    out_dir: str,
    losses: Losses,
    networks: tuple[Callable[[], Any], Callable[[], Any]] = ASSIGNMENT,
    make_optimizers: Callable[..., tuple] = get_optimizers_and_schedulers,
    generator_every: int = 5,
    argv: Sequence[str] | None = None,
) -> None:
    """Parse the command line, then train or evaluate; exit codes 2, 3 and 128 + signal.

    out_dir: the default run folder, beside this file. networks: the classes of generator and
    discriminator. generator_every: discriminator steps to one of the generator.
    """
    args = get_args(description, out_dir, argv)
    with exit_codes():
        settings = Settings(generator_every=generator_every, **args.settings)
        device = resolve_device(args.device)
        if args.evaluate:
            evaluate(networks[0]().to(device), settings, args)
            return
        with RunFolder(args.out_dir, LAYOUT, args.resume, args.overwrite) as folder:
            images, stats_folders = open_data(settings, args.download)
            torch.manual_seed(settings.seed)
            gen, disc = (network().to(device) for network in networks)
            dtype = autocast_dtype(device, not args.disable_amp)
            trainer = Trainer(gen, disc, losses, images, settings, dtype, make_optimizers)
            train(trainer, folder, stats_folders)
        print(f"Results are in {args.out_dir}")


def open_data(settings: Settings, download: bool) -> tuple[Tensor, tuple[Path, ...]]:
    """uint8 images (N, 3, 32, 32) and the folders where their statistics may be kept."""
    if settings.dataset == "synthetic":
        rng = torch.Generator().manual_seed(settings.seed)
        return draw_birds(SYNTHETIC_IMAGES, rng), ()
    # A missing default folder is simply fetched; a missing named one may be a slip of the pen.
    folder = prepare_cub(settings.data_dir or DATA_DIR, download or settings.data_dir is None)
    return load_images(folder), (folder.parent,)


def evaluate(gen: Generator, settings: Settings, args: argparse.Namespace) -> None:
    """Score, sample and interpolate a saved generator; the results go beside its file."""
    path = args.out_dir / "generator.pt" if args.evaluate is True else Path(args.evaluate)
    load_weights(gen, path, "--evaluate")
    device, folder = next(gen.parameters()).device, path.parent
    if settings.fid != "off":
        images, stats_folders = open_data(settings, args.download)
        features = Features(settings.fid, device, settings.inception_weights)
        folders = (*stats_folders, folder)
        scorer = Scorer(images, features, folders, settings.fid_mode, settings.seed)

    rng = torch.Generator(device).manual_seed(settings.seed + 2)
    z = torch.randn(100, LATENT_DIM, generator=rng, device=device)
    with measuring(gen):
        save_grid(gen.forward_given_samples(z), folder / f"{path.stem}_samples.png")
    interpolate_latent_space(gen, folder / f"{path.stem}_interpolations.png")
    # Zeros are a latent that N(0, I) never gives; the same grid around one that it does.
    around = folder / f"{path.stem}_interpolations_around_a_sample.png"
    interpolate_latent_space(gen, around, rest=z[0])
    if settings.fid != "off":
        row = {"generator": path.name} | scorer.score_row(gen, settings.num_gen[1])
        row |= {"images": len(images), "data": fingerprint(images)}
        with atomic(folder / f"{path.stem}_score_{settings.fid_mode}.json") as unfinished:
            unfinished.write_text(json.dumps(row, indent=2) + "\n")
        print(describe_score(row))
    print(f"Pictures are in {folder}")
