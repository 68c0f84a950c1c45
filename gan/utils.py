"""The helpers that the handout puts here: plots, the latent grid, the score, the options."""

import functools
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from dataset import DATA_DIR, load_images
from fid import GENERATOR_BATCH, Features, Reference, score
from networks import LATENT_DIM, AnyGenerator, reestimate_statistics
from torch import Tensor

from common import COUNT, NOT_NEGATIVE, SEED, InputError, Parser, check_agreement, number, path
from common.device import resolve_device
from common.files import save_grid, save_plot  # noqa: F401 (save_plot is public here)
from common.measure import measuring
from common.run import recorded_for_resume, resume_line

HERE = Path(__file__).resolve().parent
PREFIXES = {"q1_3": "data_gan", "q1_4": "data_ls_gan", "q1_5": "data_wgan_gp"}


def latent_grid(device: torch.device | str = "cpu", rest: Tensor | None = None) -> Tensor:
    """Latents (100, 128) of a 10 x 10 grid over the first two dimensions.

    The first goes from -1 to 1 down the rows, the second along the columns; the others are those
    of `rest` (128,), by default 0.
    """
    steps = torch.linspace(-1, 1, 10, device=device)
    z = (torch.zeros(LATENT_DIM, device=device) if rest is None else rest).repeat(100, 1)
    z[:, :2] = torch.cartesian_prod(steps, steps)  # the first moves slowest: down the rows
    return z


def spherical(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of (..., 128) latents; share 0 is start, 1 is end.

    The straight line between two samples of N(0, I) passes through lengths that N(0, I) never
    gives (White 2016, arXiv 1609.04468); the arc does not.
    """
    cosine = F.cosine_similarity(start, end, dim=-1).unsqueeze(-1)
    # Off 0 and pi, where the arc has no direction and its sine is 0.
    angle = cosine.clamp(-0.9999, 0.9999).acos()
    return (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / angle.sin()


def between_four(corners: Tensor) -> Tensor:
    """Latents (100, 128) of a 10 x 10 grid with these four (4, 128) in its corners."""
    share = torch.linspace(0, 1, 10, device=corners.device)
    down, along = share.view(10, 1, 1), share.view(1, 10, 1)
    left = spherical(corners[0], corners[2], down)  # (10, 1, 128)
    right = spherical(corners[1], corners[3], down)  # (10, 1, 128)
    return spherical(left, right, along).reshape(100, LATENT_DIM)


def draw(
    gen: AnyGenerator, latents: dict[str, Tensor], reestimate: bool = True
) -> dict[str, Tensor]:
    """Images (B, 3, 32, 32) in [-1, 1] of named latents (B, 128).

    Running statistics normalise them, so each picture depends on its own latent alone: in train
    mode a grid of nearly equal latents would be stretched by its own batch, and show structure
    that is not there. They are estimated anew, for those of training lag behind.
    """
    with measuring(gen):
        if reestimate:
            reestimate_statistics(gen)
        return {name: gen.forward_given_samples(z) for name, z in latents.items()}


def interpolate_latent_space(gen: AnyGenerator, path: Path | str, reestimate: bool = True) -> None:
    """Save the 100 images of `latent_grid` as one PNG, 10 a row, in [0, 1]."""
    z = latent_grid(next(gen.parameters()).device)
    save_grid(draw(gen, {"grid": z}, reestimate)["grid"], path)


def picture_latents(seed: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The latents (100, 128) of the grids that a run draws beside `latent_grid`, by their files.

    samples: from N(0, I). around_a_sample: the assignment's grid around the first of them instead
    of 0, a latent that N(0, I) never gives. between_samples: spherical, with the first four
    samples in the corners.
    """
    rng = torch.Generator().manual_seed(seed + 2)  # neither training's nor the scores'
    # Drawn on the CPU: the same on every device.
    samples = torch.randn(100, LATENT_DIM, generator=rng).to(device)  # (100, 128)
    return {
        "samples": samples,
        "around_a_sample": latent_grid(device, samples[0]),
        "between_samples": between_four(samples[:4]),
    }


@functools.lru_cache(maxsize=1)
def _reference(folder: Path, resolution: int, features: str, where: tuple) -> Reference:
    device, weights_folder = where
    network = Features(features, device, weights_folder)
    return Reference(load_images(folder, resolution), network, (folder.parent,))


def get_fid(
    gen: AnyGenerator,
    dataset_name: str,
    dataset_resolution: int,
    z_dimension: int,
    batch_size: int,
    num_gen: int,
    *,
    features: str = "inception",
    mode: str = "train",
    seed: int = 0,
    images: Tensor | Reference | None = None,
    inception_weights: str | Path | None = None,
    details: dict | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> float:
    """clean-fid's FID of `num_gen` images of `gen` against a data set: "cub", or a folder of JPEGs.

    Batch statistics in batches of 256, whatever `batch_size` is: the score depends on it. features:
    or a TorchScript file. mode: "eval" for running statistics. seed: of the latents. images: uint8
    (N, 3, H, W), or their Reference, instead of the data set. details: a dict to fill with KID,
    precision and recall. after_batch: may raise to stop.
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
    device = next(gen.parameters()).device
    if images is None:
        folder = DATA_DIR if dataset_name == "cub" else Path(dataset_name)
        images = _reference(folder, dataset_resolution, features, (device, inception_weights))
    elif isinstance(images, Tensor):
        images = Reference(images, Features(features, device, inception_weights))
    row = score(gen, images, num_gen, mode, seed, details is not None, after_batch)
    distance = row.pop("score")
    if details is not None:
        details.update(row)
    return distance


def score_row(
    gen: AnyGenerator,
    reference: Reference,
    options: Namespace,
    num_gen: int,
    quality: bool = False,
    after_batch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """A score by `options`, with all that it depends on; quality: also KID, precision, recall."""
    of = (options.dataset, 32, LATENT_DIM, GENERATOR_BATCH, num_gen)
    details: dict | None = {} if quality else None
    how: Any = {"mode": options.fid_mode, "seed": options.seed, "images": reference}
    row: dict = {"score": get_fid(gen, *of, **how, details=details, after_batch=after_batch)}
    row |= {"score_name": reference.features.name, "num_gen": num_gen}
    row |= {"fid_mode": options.fid_mode, "fid_batch": GENERATOR_BATCH}
    return row | {"features": reference.features.key} | (details or {})


# ------------------------------------------------------------------------------------------------
# Options

_parsed: list[Namespace] = []  # what get_args gave last, for a train_model without `options`
# What says nothing about a generator that is there already.
OF_TRAINING = (
    *("num_iterations", "batch_size", "lamb", "ema", "log_period", "score_period"),
    *("save_minutes", "resume", "overwrite"),
)


def get_args(description: str | None = None, argv: Sequence[str] | None = None) -> Namespace:
    """The options that the scripts share; `prefix` is the run's folder, named by the script.

    With --resume what the command line does not give is what the run recorded. `given` holds the
    options that it does give.
    """
    parser = make_parser(description)
    given = parser.parse_given(argv)
    out_dir, fid = given.pop("out_dir", None), given.get("fid", "off")
    if fid not in ("inception", "off") and not Path(fid).is_file():
        parser.error(f"--fid: no file {fid}; expected inception, off or a TorchScript file")
    if given.get("evaluate") and (training := [name for name in OF_TRAINING if name in given]):
        parser.error(f"--evaluate trains nothing; leave --{training[0]} out")
    stem = Path(getattr(sys.modules["__main__"], "__file__", None) or "run").stem

    def place(dataset: str | None) -> Path:
        suffix = "_synthetic" if dataset == "synthetic" else ""
        return Path(out_dir or HERE / (PREFIXES.get(stem, f"data_{stem}") + suffix)).absolute()

    own, drawn = (place(dataset) / "state.pt" for dataset in (given.get("dataset"), "synthetic"))
    if given.get("resume") is True and drawn.exists() and not own.exists():
        parser.error(f"--resume: no run in {own.parent}; there is one with --dataset synthetic")
    recorded = recorded_for_resume(own.parent, given.get("resume"), given)
    known = parser.defaults()
    args = known | {k: v for k, v in recorded.items() if k in known} | given
    args["fid"] = args["fid"] or ("inception" if args["dataset"] == "cub" else "off")
    # What to type to go on with this run.
    where = ["--dataset", "synthetic"] if args["dataset"] == "synthetic" else []
    args["again"] = resume_line(*(["--out_dir", out_dir] if out_dir else where))
    args |= {"device": resolve_device(args["device"]), "prefix": place(args["dataset"])}
    args["given"] = given | ({"prefix": args["prefix"]} if out_dir else {})
    del args["out_dir"]
    _parsed[:] = [Namespace(**args)]
    return _parsed[0]


def make_parser(description: str | None = None) -> Parser:
    """The options, their bounds and defaults."""
    parser = Parser(description)
    add = parser.add_argument_group("training").add_argument
    add("--num_iterations", type=COUNT, default=30_000, metavar="N", help="iterations (30000)")
    add("--batch_size", type=COUNT, default=256, metavar="B", help="images in a step (256)")
    add("--lamb", type=NOT_NEGATIVE, default=10, help="weight of the gradient penalty (10)")
    add("--seed", type=SEED, default=0, metavar="S", help="fixes weights, batches, latents (0)")
    average = "also keep, score and draw an average of the generator's weights (0.99 to 0.999; off)"
    add("--ema", type=number(float, 0, 0.999999), metavar="DECAY", help=average)
    parser.add_device_options()
    add, count = parser.add_argument_group("scores").add_argument, number(int, 2, 10_000_000)
    add("--fid", type=path, help="inception, FILE.pt (a TorchScript program, which is run), off")
    mode = "batch norm by its batch, as all published numbers have it, or by running means (train)"
    add("--fid_mode", choices=("train", "eval"), default="train", help=mode)
    scored, two = "images scored at a log line and at the end (10000 50000)", [10_000, 50_000]
    add("--num_gen", type=count, nargs=2, default=two, metavar=("LOG", "FINAL"), help=scored)
    add("--inception_weights", type=path, help="folder that holds inception-2015-12-05.pt")
    only = "train nothing; score and sample this generator (default: the run's generator.pt)"
    add("--evaluate", nargs="?", const=True, type=path, metavar="GENERATOR", help=only)
    where = "32x32 JPEGs (gan/datasets/CUB_200_2011_32, fetched once)"
    group = parser.add_data_options("cub", "6,000 drawn birds", where)
    add, lines = group.add_argument, "iterations between log lines (1000)"
    add("--log_period", type=COUNT, default=1000, metavar="N", help=lines)
    scores = "iterations between scores, a multiple of the log period (the log period)"
    add("--score_period", type=COUNT, metavar="N", help=scores)
    place = "run folder (beside this script, by its name); for --evaluate where the results go"
    add("--out_dir", type=path, metavar="FOLDER", help=place)
    parser.add_resume_options(group)
    return parser


def merged_options(options: Namespace | None, every: int = 5, **arguments: Any) -> Namespace:
    """The options with the arguments of train_model; InputError where the two disagree."""
    options = options or (_parsed[0] if _parsed else get_args(argv=[]))
    prefix = arguments.pop("prefix")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InputError(f"generator_every: got {every!r}, expected int >= 1")
    where = {} if prefix is None else {"prefix": HERE / prefix}
    check_agreement(options.given, arguments | where, "train_model")
    if options.evaluate:
        raise InputError("--evaluate: this script trains only; see the end of q1_5.py")
    if "seed" in options.given and torch.initial_seed() != options.seed:
        raise InputError(
            "--seed: this script does not use it; write torch.manual_seed(args.seed) before the "
            "networks"
        )
    merged = Namespace(**vars(options) | make_parser().check(arguments) | where)
    if merged.prefix != options.prefix:  # one that is typed in the call
        merged.again = resume_line("--out_dir", merged.prefix)
        if options.resume is True:
            raise InputError(
                f"--resume: this script's run is in {merged.prefix}; go on with: {merged.again}"
            )
    if merged.score_period and merged.score_period % merged.log_period:  # scores fall on log lines
        raise InputError(
            f"--score_period: got {merged.score_period}, "
            f"expected a multiple of --log_period, {merged.log_period}"
        )
    return merged
