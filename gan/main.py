"""What `python q1_3.py`, `q1_4.py` and `q1_5.py` do with their two losses."""

import json
from pathlib import Path

import torch

from command_line import exit_codes
from dataset import DATA_DIR, fingerprint, load_images
from download import prepare_cub
from errors import InputError
from fid import Features, Scorer, measuring
from files import atomic, load_tensors, save_grid
from hardware import resolve_device
from logger import RESULTS, describe_score
from networks import LATENT_DIM, Discriminator, Generator
from run_log import check_folder
from synthetic import draw_birds
from train import train_model
from utils import get_args, interpolate_latent_space

SYNTHETIC_IMAGES = 6_000


def run(
    description,
    out_dir,
    disc_loss_fn,
    gen_loss_fn,
    argv=None,
    networks=(Generator, Discriminator),
    **training,
):
    """Parse the command line, then train or evaluate; exit codes 2, 3, 130 and 143 as in errors.py.

    networks: the classes of generator and discriminator. training: more for `train_model`.
    """
    args = get_args(description, out_dir, argv)
    with exit_codes():
        if args.evaluate:
            evaluate(args, networks[0])
        else:
            train(args, disc_loss_fn, gen_loss_fn, networks, training)


def train(args, disc_loss_fn, gen_loss_fn, networks, training):
    device = resolve_device(args.device)
    check_folder(args.out_dir, RESULTS, args.resume, args.overwrite)
    images, stats_folders = open_data(args)
    torch.manual_seed(args.seed)
    gen, disc = (network().to(device) for network in networks)
    train_model(
        gen, disc, args.num_iterations, args.batch_size, prefix=args.out_dir, gen_loss_fn=gen_loss_fn,
        disc_loss_fn=disc_loss_fn, log_period=args.log_period, amp_enabled=not args.disable_amp, images=images,
        stats_folders=stats_folders, fid=args.fid, fid_mode=args.fid_mode, num_gen=args.num_gen,
        inception_weights=args.inception_weights, seed=args.seed, resume=args.resume, overwrite=args.overwrite,
        save_minutes=args.save_minutes, options={"dataset": args.dataset, "data_dir": args.data_dir}, **training,
    )  # fmt: skip
    print(f"Results are in {args.out_dir}")


def open_data(args):
    """uint8 images (N, 3, 32, 32) and the folders where their statistics may be kept."""
    if args.dataset == "synthetic":
        return draw_birds(SYNTHETIC_IMAGES, torch.Generator().manual_seed(args.seed)), ()
    folder = DATA_DIR if args.data_dir is None else args.data_dir
    # A missing default folder is simply fetched; a missing named one may be a slip of the pen.
    folder = prepare_cub(folder, download=args.download or args.data_dir is None)
    return load_images(folder), (folder.parent,)


def evaluate(args, generator):
    """Score, sample and interpolate a saved generator; the results go beside its file."""
    device = resolve_device(args.device)
    path = args.out_dir / "generator.pt" if args.evaluate is True else Path(args.evaluate)
    gen = generator().to(device)
    weights = load_tensors(path, "--evaluate")
    try:
        gen.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        raise InputError(f"--evaluate: {path} does not hold the weights of a {generator.__name__}") from None
    if args.fid != "off":
        images, stats_folders = open_data(args)
        features = Features(args.fid, device, args.inception_weights)
        scorer = Scorer(
            images, features, (*stats_folders, path.parent), fingerprint(images), args.fid_mode, args.seed
        )

    folder = path.parent
    z = torch.randn(
        100, LATENT_DIM, generator=torch.Generator(device).manual_seed(args.seed + 2), device=device
    )
    with measuring(gen):
        save_grid(gen.forward_given_samples(z), folder / f"{path.stem}_samples.png")
    interpolate_latent_space(gen, folder / f"{path.stem}_interpolations.png")
    # Zeros are a latent that N(0, I) never gives; the same grid around one that it does.
    interpolate_latent_space(gen, folder / f"{path.stem}_interpolations_around_a_sample.png", rest=z[0])
    if args.fid != "off":
        row = {"generator": path.name} | scorer.score_row(gen, args.num_gen[1]) | {"images": len(images)}
        with atomic(folder / f"{path.stem}_score_{args.fid_mode}.json") as unfinished:
            unfinished.write_text(json.dumps(row, indent=2) + "\n")
        print(describe_score(row))
    print(f"Pictures are in {folder}")
