"""What makes a GAN run what it is, and the command line that fills it in. Needs no torch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.command_line import (
    UNNAMED,
    Number,
    OneLineParser,
    check_settings,
    given_settings,
    option,
    path,
)

HERE = Path(__file__).resolve().parent
PILLOW_QUALITY = 75  # its default: the assignment's reference statistics come from such files
COUNT, POSITIVE = Number(int, 1), Number(float, 0, above=True)


@dataclass(frozen=True)
class Settings:
    """A run. The defaults are those of questions 1.3 to 1.5; config.json holds all of it.

    Two are equal where a run with one can be resumed with the other. Raises InputError.
    """

    loss: str = option("", label="the script")
    num_iterations: int = option(
        30_000, "discriminator steps (30000)", may_change=True, type=COUNT, metavar="N"
    )
    batch_size: int = option(256, "images in a step (256)", type=COUNT, metavar="B")
    lamb: float = option(10, label="lamb", type=Number(float, 0))  # weight of the penalty
    seed: int = option(0, "fixes weights, batches, latents (0)", type=Number(int, 0), metavar="S")
    fast_penalty: bool = option(
        False, "penalty of q1_5.py by one differentiation less; see penalty.py", action="store_true"
    )
    ema: float | None = option(
        None,
        "also keep, score and draw a moving average of the generator's weights, of this decay "
        "(0.99 to 0.999; off)",
        type=Number(float, 0, 0.999999),
        metavar="DECAY",
    )
    # discriminator steps to one of the generator
    generator_every: int = option(5, label="generator_every", type=COUNT)
    networks: tuple[str, str] = option(("Generator", "Discriminator"), label="the networks")
    optimizers: str = option("train.get_optimizers_and_schedulers", label="make_optimizers")

    dataset: str = option(
        "cub",
        "synthetic: 6,000 drawn birds, no download",
        may_change=True,
        choices=("cub", "synthetic"),
        also=(UNNAMED,),
    )
    data_dir: str | None = option(
        None,
        "32x32 JPEGs (default: gan/datasets/CUB_200_2011_32, fetched once)",
        may_change=True,
        type=path,
        metavar="FOLDER",
    )

    fid: str = option(
        "",
        "inception (default for cub), FILE.pt (TorchScript: a program, which is run) or off",
        may_change=True,
        metavar="FEATURES",
    )
    fid_mode: str = option(
        "train",
        "generator normalised by its batch (train, as all published numbers) or by running "
        "statistics",
        may_change=True,
        choices=("train", "eval"),
    )
    num_gen: tuple[int, int] = option(
        (10_000, 50_000),
        "images scored at a log line and at the end (10000 50000)",
        may_change=True,
        type=Number(int, 2, 10_000_000),
        nargs=2,
        metavar=("LOG", "FINAL"),
    )
    inception_weights: str | None = option(
        None,
        "folder that holds inception-2015-12-05.pt",
        may_change=True,
        type=path,
        metavar="FOLDER",
    )

    log_period: int = option(
        1000, "iterations between log lines (1000)", may_change=True, type=COUNT, metavar="N"
    )
    save_minutes: float = option(
        5.0, "minutes between saved states (5)", may_change=True, type=POSITIVE, metavar="M"
    )

    # What a start finds out: the pixels' fingerprint, the kind of device, the number format.
    data: str | None = option(None, label="--data_dir or --dataset (the pixels)")
    device: str | None = option(None)
    number_format: str | None = option(
        None, label="the number format (--disable_amp, or another machine)"
    )

    def __post_init__(self) -> None:
        if not self.fid:
            object.__setattr__(self, "fid", "inception" if self.dataset == "cub" else "off")
        check_settings(self)


# What says nothing about a generator that is there already.
OF_TRAINING = (
    "num_iterations",
    "batch_size",
    "fast_penalty",
    "ema",
    "log_period",
    "save_minutes",
    "resume",
    "overwrite",
)


def check_evaluate(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Training options beside --evaluate end the program."""
    if given := [name for name in OF_TRAINING if getattr(args, name, None)]:
        parser.error(f"--evaluate trains nothing; leave --{given[0]} out")


def get_args(
    description: str | None = None, out_dir: str = "data_gan", argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """The options that the scripts share; `settings` holds those that were given, by name."""
    parser = OneLineParser(description)
    parser.add_settings(
        "training", Settings, "num_iterations", "batch_size", "seed", "fast_penalty", "ema"
    )
    parser.add_device_options()
    data = parser.add_settings("data", Settings, "dataset", "data_dir")
    data.add_argument(
        "--download", action="store_true", help="fetch CUB-200-2011 to --data_dir if missing"
    )
    scores = parser.add_settings(
        "scores", Settings, "fid", "fid_mode", "num_gen", "inception_weights"
    )
    scores.add_argument(
        "--evaluate",
        nargs="?",
        const=True,
        type=path,
        metavar="GENERATOR",
        help="train nothing; score and sample this generator (default: the run's generator.pt)",
    )
    output = parser.add_settings("output", Settings, "log_period", "save_minutes")
    output.add_argument(
        "--out_dir",
        type=path,
        metavar="FOLDER",
        help=f"run folder (default: gan/{out_dir}, _synthetic added for that data); with "
        "--evaluate GENERATOR where the results go (default: beside it)",
    )
    parser.add_resume_options(output)
    args = parser.parse_args(argv)

    args.settings = given_settings(args, Settings)
    dataset, fid = args.settings.get("dataset", "cub"), args.settings.get("fid", "off")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    if dataset == "synthetic" and "data_dir" in args.settings:
        parser.error("--data_dir goes with --dataset cub")
    if fid not in ("inception", "off") and not Path(fid).is_file():
        parser.error(f"--fid: no file {fid}; expected inception, off or a TorchScript file")
    if args.evaluate is not None:
        check_evaluate(parser, args)
    named = args.out_dir and isinstance(args.evaluate, str)
    args.results = Path(args.out_dir).absolute() if named else None
    folder = out_dir + ("_synthetic" if dataset == "synthetic" else "")
    args.out_dir = Path(args.out_dir).absolute() if args.out_dir else HERE / folder
    return args


def get_fid_args(
    description: str | None = None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """The options of fid.py."""
    parser = OneLineParser(description)
    parser.add_argument("images", help="folder of images to score, searched to any depth")
    parser.add_argument("reference", help="folder of images to score against")
    parser.add_argument(
        "--features",
        default="inception",
        metavar="FILE",
        help="inception (default) or a TorchScript file: a program, which is run",
    )
    parser.add_argument(
        "--inception_weights", metavar="FOLDER", help="folder that holds inception-2015-12-05.pt"
    )
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    return parser.parse_args(argv)


def get_resize_args(
    description: str | None = None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """The options of resize_dataset.py."""
    parser = OneLineParser(description)
    parser.add_argument("--input_folder", required=True, help="searched to any depth")
    parser.add_argument("--output_folder", required=True, help="one flat folder of .jpg files")
    parser.add_argument(
        "--res", type=Number(int, 1, 100_000), default=32, help="side in pixels (32)"
    )
    parser.add_argument(
        "--quality",
        type=Number(int, 1, 95),
        default=PILLOW_QUALITY,
        help="JPEG quality, 1 to 95 (75, Pillow's own)",
    )
    return parser.parse_args(argv)
