"""What `python q1_3.py`, `q1_4.py` and `q1_5.py` do with their two losses."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from download import open_data
from fid import Features, Scorer
from logger import LAYOUT, describe_score
from networks import Discriminator, Generator
from settings import Settings
from train import Losses, Trainer, fit, get_optimizers_and_schedulers
from utils import draw, picture_latents

from common import InputError
from common.command_line import UNNAMED, exit_codes, refuse_to_run
from common.device import autocast_dtype, resolve_device
from common.files import atomic, fingerprint, load_weights, save_grid
from common.run import (
    RunFolder,
    check_recorded_data,
    check_recorded_path,
    recorded_settings,
    results_folder,
)

ASSIGNMENT = (Generator, Discriminator)


def run(
    args: argparse.Namespace,
    losses: Losses,
    networks: tuple[Callable[[], Any], Callable[[], Any]] = ASSIGNMENT,
    make_optimizers: Callable[..., tuple] = get_optimizers_and_schedulers,
    generator_every: int = 5,
) -> None:
    """Train or evaluate, as the command line says; exit codes 2, 3 and 128 + signal.

    args: of `get_args`. networks: the classes of generator and discriminator. generator_every:
    discriminator steps to one of the generator.
    """
    with exit_codes():
        device = resolve_device(args.device)
        if args.evaluate is not None:
            evaluate(networks[0]().to(device), args.settings, args)
            return
        settings = Settings(generator_every=generator_every, **args.settings)
        if settings.fast_penalty and not losses.interpolates:
            raise InputError("--fast_penalty: this loss has no penalty; leave the option out")
        with RunFolder(args.out_dir, LAYOUT, args.resume, args.overwrite) as folder:
            images, stats_folders = open_data(settings, args.download)
            torch.manual_seed(settings.seed)
            gen, disc = (network().to(device) for network in networks)
            dtype = autocast_dtype(device, not args.disable_amp)
            trainer = Trainer(gen, disc, losses, images, settings, dtype, make_optimizers)
            fit(trainer, folder, stats_folders)
        print(f"Results are in {args.out_dir}")


def evaluate(gen: Generator, given: dict, args: argparse.Namespace) -> None:
    """Score, sample and interpolate a saved generator; the results go beside it, or to --out_dir.

    given: settings of the command line; the others are those of the run in the same folder.
    """
    path = args.out_dir if args.evaluate is True else Path(args.evaluate)
    path = path / "generator.pt" if path.is_dir() or args.evaluate is True else path
    load_weights(gen, path, "--evaluate")
    device, folder = next(gen.parameters()).device, path.parent
    out = results_folder(args.results, folder)
    recorded = recorded_settings(folder, "--evaluate")
    if given.get("fid", recorded.get("fid")) != "off":
        for name in ("data_dir", "fid", "inception_weights"):
            if name not in given and recorded.get(name) not in ("off", "inception"):
                check_recorded_path(folder, recorded, name, "--evaluate")
    if "data_dir" in given:
        given = {"dataset": "cub"} | given
    settings = Settings(**{name: recorded[name] for name in FOR_SCORES if name in recorded} | given)
    if settings.fid != "off" and settings.dataset == UNNAMED:
        raise InputError(f"--evaluate: the run in {folder} does not name its data; give --data_dir")
    if settings.fid != "off":
        # Drawn images are those of the run's seed, whatever seed the latents have.
        drawn = dataclasses.replace(settings, seed=recorded.get("seed", settings.seed))
        images, stats_folders = open_data(drawn, args.download)
        data = fingerprint(images)
        instead = ", or evaluate a copy of the generator in another folder"
        check_recorded_data(folder, recorded, data, instead)
        features = Features(settings.fid, device, settings.inception_weights)
    out.mkdir(parents=True, exist_ok=True)
    if settings.fid != "off":
        folders = (*stats_folders, out)
        scorer = Scorer(images, features, folders, settings.fid_mode, settings.seed)
    for picture, grid in draw(gen, picture_latents(settings.seed, device)).items():
        save_grid(grid, out / f"{path.stem}_{picture}.png")
    if settings.fid != "off":
        row = {"generator": path.name} | scorer.score_row(gen, settings.num_gen[1], quality=True)
        row |= {"images": len(images), "data": data}
        with atomic(out / f"{path.stem}_score_{settings.fid_mode}.json") as unfinished:
            unfinished.write_text(json.dumps(row, indent=2) + "\n")
        print(describe_score(row))
    print(f"Pictures are in {out}")


# What --evaluate takes from the run that made a generator.
FOR_SCORES = ("dataset", "data_dir", "fid", "fid_mode", "num_gen", "inception_weights", "seed")


if __name__ == "__main__":
    refuse_to_run("main.py", "q1_3.py, q1_4.py or q1_5.py")
