"""What --evaluate does: score, sample and interpolate a saved generator; nothing is trained."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from dataset import Dataset
from download import find_data
from fid import Features, Reference
from logger import describe_score
from networks import AnyGenerator, reestimate_statistics
from utils import draw, interpolate_latent_space, make_parser, picture_latents, score_row

from common import InputError
from common.device import Precision, prepare
from common.files import atomic, fingerprint, is_writable, load_weights, save_grid
from common.measure import preserved
from common.run import as_options, check_data, check_paths, recorded_settings

# What is taken from the run that made a generator, where the command line does not say it.
FOR_SCORES = ("dataset", "data_dir", "fid", "fid_mode", "num_gen", "inception_weights", "seed")


def evaluate(gen: AnyGenerator, args: Namespace) -> None:
    """With --evaluate, and end the program; without it return at once.

    The results go beside the generator's file, or to --out_dir. Raises InputError.
    """
    if not args.evaluate:
        return
    path = args.prefix if args.evaluate is True else Path(args.evaluate)
    path = path / "generator.pt" if path.is_dir() or args.evaluate is True else path
    load_weights(gen, path, "--evaluate")
    folder, device = path.parent, next(gen.parameters()).device
    out = args.given.get("prefix", folder)
    if not is_writable(out):
        raise InputError(f"--evaluate: {out} cannot be written; give another --out_dir")

    recorded, given = recorded_settings(folder, "--evaluate"), dict(args.given)
    if "data_dir" in given:
        given = {"dataset": "cub"} | given
    known = {name: recorded[name] for name in FOR_SCORES if recorded.get(name) is not None}
    known = as_options(known, make_parser(), folder)
    if "data_dir" in given and known.get("fid") == "off":  # the run had none to score by
        del known["fid"]
    options = Namespace(**vars(args) | known | given)
    row: dict = {"generator": path.name}
    if options.fid != "off":
        if options.dataset == "unnamed":
            raise InputError(
                f"--evaluate: the run in {folder} does not name its data; give --data_dir"
            )
        check_paths(folder, options, given)
        # Drawn images are those of the run's seed, whatever seed the latents have.
        drawn = Namespace(**vars(options) | {"seed": recorded.get("seed", options.seed)})
        root, stats_folders = find_data(drawn)
        images = Dataset(root).pixels
        row |= {"images": len(images), "data": fingerprint(images)}
        check_data(folder, recorded, row["data"])
        prepare(Precision(device))
        features = Features(options.fid, device, options.inception_weights)
        reference = Reference(images, features, (*stats_folders, out))

    out.mkdir(parents=True, exist_ok=True)
    with preserved(gen):
        # Of other weights than those that moved the running statistics, perhaps: estimated anew.
        reestimate_statistics(gen)
        interpolate_latent_space(gen, out / f"{path.stem}_interpolations.png", False)
        for picture, grid in draw(gen, picture_latents(options.seed, device), False).items():
            save_grid(grid, out / f"{path.stem}_{picture}.png")
    if options.fid != "off":
        row |= score_row(gen, reference, options, options.num_gen[1], quality=True)
        with atomic(out / f"{path.stem}_score_{options.fid_mode}.json") as unfinished:
            unfinished.write_text(json.dumps(row, indent=2) + "\n")
        print(describe_score(row))
    print(f"Pictures are in {out}" + "; no score, for --fid is off" * (options.fid == "off"))
    sys.exit()
