"""The helpers that the handout puts here: plots, the latent grid, the score, the options."""

import functools
from pathlib import Path

import torch

from command_line import OneLineParser, number
from dataset import DATA_DIR, fingerprint, load_images
from errors import InputError
from fid import GENERATOR_BATCH, Features, Scorer, measuring
from files import save_grid, save_plot  # noqa: F401 (save_plot is public here)
from networks import LATENT_DIM


def latent_grid(device="cpu", rest=None):
    """(100, 128): the first dimension goes from -1 to 1 down the 10 rows, the second along
    the 10 columns, the others are those of `rest` (128,), by default 0."""
    steps = torch.linspace(-1, 1, 10, device=device)
    z = (torch.zeros(LATENT_DIM, device=device) if rest is None else rest).repeat(100, 1)
    z[:, :2] = torch.cartesian_prod(steps, steps)
    return z


def interpolate_latent_space(gen, path, rest=None):
    """Save the 100 images of `latent_grid` as one PNG, 10 a row, in [0, 1].

    Running statistics normalise them: in train mode a grid of nearly equal latents would be
    stretched by its own batch, and show structure that is not there.
    """
    with measuring(gen):
        save_grid(gen.forward_given_samples(latent_grid(next(gen.parameters()).device, rest)), path)


@functools.lru_cache(maxsize=1)
def _inception_scorer(folder, resolution, device, weights_folder):
    images = load_images(folder, resolution)
    return Scorer(
        images, Features("inception", device, weights_folder), (folder.parent,), fingerprint(images)
    )


def get_fid(gen, dataset_name, dataset_resolution, z_dimension, batch_size, num_gen, inception_weights=None):
    """clean-fid's FID of `num_gen` images of `gen` against a data set: "cub", or a folder of JPEGs.

    Batch statistics in batches of 256, whatever `batch_size` is: the score depends on it.
    """
    if z_dimension != LATENT_DIM:
        raise InputError(f"get_fid: z_dimension is {z_dimension}, expected {LATENT_DIM}, the generator's")
    if batch_size != GENERATOR_BATCH:
        print(f"get_fid: scoring in batches of {GENERATOR_BATCH}, not {batch_size}: the score depends on it")
    folder = DATA_DIR if dataset_name == "cub" else Path(dataset_name)
    device = next(gen.parameters()).device
    return _inception_scorer(folder, dataset_resolution, device, inception_weights).score(gen, num_gen)


def get_args(description=None, out_dir="data_gan", argv=None):
    """The options that the three scripts share; defaults are the assignment's."""
    parser = OneLineParser(description)
    integer, positive = number(int, 1), number(float, 0, above=True)

    training = parser.add_argument_group("training")
    training.add_argument(
        "--num_iterations", type=integer, default=30_000, metavar="N", help="discriminator steps (30000)"
    )
    training.add_argument(
        "--batch_size", type=integer, default=256, metavar="B", help="images in a step (256)"
    )
    training.add_argument(
        "--seed", type=number(int, 0), default=0, metavar="S", help="fixes weights, batches, latents (0)"
    )
    training.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    training.add_argument("--disable_amp", action="store_true", help="float32 throughout, no 16-bit autocast")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        choices=("cub", "synthetic"),
        default="cub",
        help="synthetic: 6,000 drawn birds, no download",
    )
    data.add_argument(
        "--data_dir",
        metavar="FOLDER",
        help="32x32 JPEGs (default: gan/datasets/CUB_200_2011_32, fetched once)",
    )
    data.add_argument(
        "--download", action="store_true", help="fetch CUB-200-2011 to --data_dir where that is missing"
    )

    scores = parser.add_argument_group("scores")
    scores.add_argument(
        "--fid", metavar="FEATURES", help="inception (default for cub), FILE.pt (TorchScript) or off"
    )
    scores.add_argument("--fid_mode", choices=("train", "eval"), default="train",
                        help="generator normalised by batch (train, as all published numbers) or running statistics")  # fmt: skip
    scores.add_argument("--num_gen", type=number(int, 2), nargs=2, default=(10_000, 50_000), metavar=("LOG", "FINAL"),
                        help="images scored at a log line and at the end (10000 50000)")  # fmt: skip
    scores.add_argument(
        "--inception_weights", metavar="FOLDER", help="folder that holds inception-2015-12-05.pt"
    )
    scores.add_argument("--evaluate", nargs="?", const=True, metavar="GENERATOR",
                        help="train nothing; score and sample this generator (default: the run's generator.pt)")  # fmt: skip

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_dir",
        metavar="FOLDER",
        help=f"run folder (default: gan/{out_dir}, _synthetic added for that data)",
    )
    output.add_argument(
        "--log_period", type=integer, default=1000, metavar="N", help="iterations between log lines (1000)"
    )
    output.add_argument(
        "--save_minutes", type=positive, default=5.0, metavar="M", help="minutes between saved states (5)"
    )
    output.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="STATE",
        help="go on from the run folder's state, or a path",
    )
    output.add_argument("--overwrite", action="store_true", help="replace the results in the run folder")
    args = parser.parse_args(argv)

    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    if args.dataset == "synthetic" and args.data_dir:
        parser.error("--data_dir goes with --dataset cub")
    args.fid = args.fid or ("inception" if args.dataset == "cub" else "off")
    if args.fid not in ("inception", "off") and not Path(args.fid).is_file():
        parser.error(f"--fid: no file {args.fid}; expected inception, off or a TorchScript file")
    folder = out_dir + ("_synthetic" if args.dataset == "synthetic" else "")
    args.out_dir = Path(args.out_dir).absolute() if args.out_dir else Path(__file__).resolve().parent / folder
    return args
