"""What makes a run what it is: settings, the runs of the assignment, the command line. No torch."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import InputError
from common.command_line import (
    UNNAMED,
    Number,
    OneLineParser,
    check_settings,
    given_settings,
    option,
    path,
)

DATA_DIR = Path(__file__).resolve().parent / "data"
COUNT, POSITIVE, NOT_NEGATIVE = Number(int, 1), Number(float, 0, above=True), Number(float, 0)
TIMESTEPS = 1000  # T of the diffusion model
BETA_MODES = ("constant", "linear", "anneal", "cyclical")


@dataclass(frozen=True)
class TrainingSettings:
    """What every run has. Two are equal where a run with one can be resumed with the other."""

    num_epochs: int = option(20, "(20)", may_change=True, type=COUNT, metavar="N")
    batch_size: int = option(256, "(256)", type=COUNT, metavar="B")
    lr: float = option(1e-3, "learning rate of Adam (0.001)", type=POSITIVE)
    grad_clip: float = option(1.0, "largest norm of the gradient (1)", type=POSITIVE)
    seed: int = option(0, "fixes weights, order and noise (0)", type=Number(int, 0))
    eval_interval: int = option(
        5, "epochs between pictures (5)", may_change=True, type=COUNT, metavar="N"
    )
    patience: int | None = option(
        None,
        "stop after N epochs without a better validation loss, with the weights of the last "
        "(never)",
        may_change=True,
        type=COUNT,
        metavar="N",
    )
    save_minutes: float = option(
        5.0, "minutes between saved states (5)", may_change=True, type=POSITIVE, metavar="M"
    )
    dataset: str = option(
        "cifar10",
        "synthetic: 6,000 drawn images",
        may_change=True,
        choices=("cifar10", "synthetic"),
        also=(UNNAMED,),
    )
    data_dir: str | None = option(
        None,
        "CIFAR-10: folder or archive (default: vae/data, fetched once)",
        may_change=True,
        type=path,
        metavar="FOLDER",
    )

    # What a start finds out: the pixels' fingerprint, the kind of device, the number format.
    data: str | None = option(None, label="--data_dir or --dataset (the pixels)")
    device: str | None = option(None)
    number_format: str | None = option(
        None, label="the number format (--disable_amp, or another machine)"
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """A run of train.py; the defaults are those of the handout's `main`."""

    loss_mode: str = option("vae", "(vae)", choices=("ae", "vae"))
    beta_mode: str = option("constant", "(constant)", choices=BETA_MODES)
    latent_size: int = option(256, "(256)", type=Number(int, 1, 100_000), metavar="N")
    target_beta_val: float = option(
        1,
        "weight of the KL term; a linear schedule would reach it at epoch num_epochs (1)",
        type=NOT_NEGATIVE,
        metavar="BETA",
    )
    anneal_steps: int = option(
        10_000, "steps from beta 0 to its target, for anneal (10000)", type=COUNT, metavar="N"
    )
    cycles: int = option(4, "cycles of a cyclical schedule (4)", type=COUNT, metavar="M")
    ratio: float = option(
        0.5,
        "share of a cycle in which beta rises (0.5)",
        type=Number(float, 0, 1, above=True),
        metavar="R",
    )
    free_bits: float = option(
        0.0, "KL that each latent has for free (0)", type=NOT_NEGATIVE, metavar="NATS"
    )
    flows: int = option(
        0, "planar flows behind the encoder (0)", type=Number(int, 0, 1000), metavar="K"
    )
    network: str = option("assignment", choices=("assignment", "small"))
    # The length of a run sets the slope of these schedules: there it may not change.
    schedule_epochs: int | None = field(
        init=False, default=None, metadata={"label": "--num_epochs (the slope of the schedule)"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta_mode in ("linear", "cyclical"):
            object.__setattr__(self, "schedule_epochs", self.num_epochs)
        if self.loss_mode == "ae" and (self.flows or self.free_bits):
            raise InputError(
                "--flows and --free_bits belong to a VAE; leave them out for --loss_mode ae"
            )
        if self.flows and self.free_bits:
            raise InputError(
                "--flows and --free_bits exclude each other: the flows' KL is one estimate for "
                "all latents"
            )
        if self.network == "small" and self.loss_mode != "ae":
            raise InputError("network small is an autoencoder; expected --loss_mode ae")


@dataclass(frozen=True)
class DiffusionSettings(TrainingSettings):
    """A run of ddpm.py."""

    num_epochs: int = option(60, "(60)", may_change=True, type=COUNT, metavar="N")
    batch_size: int = option(128, "(128)", type=COUNT, metavar="B")
    lr: float = option(5e-4, "learning rate of Adam (0.0005)", type=POSITIVE)
    predict: str = option(
        "v",
        "what the network says of x_t: v = sqrt(abar) noise - sqrt(1 - abar) x_0, or its noise (v)",
        choices=("v", "noise"),
    )
    model: str = option("ddpm")
    timesteps: int = option(TIMESTEPS)
    decay: float = option(0.999, "of the average of the weights (0.999)", type=Number(float, 0, 1))


PRESETS = {
    "ae_latent16": Settings(loss_mode="ae", latent_size=16),
    "ae_latent128": Settings(loss_mode="ae", latent_size=128),
    "ae_latent1024": Settings(loss_mode="ae", latent_size=1024),
    "vae_latent16": Settings(latent_size=16),
    "vae_latent128": Settings(latent_size=128),
    "vae_latent1024": Settings(latent_size=1024),
    "vae_latent1024_beta_constant0.8": Settings(latent_size=1024, target_beta_val=0.8),
    "vae_latent1024_beta_constant1.2": Settings(latent_size=1024, target_beta_val=1.2),
    "vae_latent1024_beta_linear1": Settings(latent_size=1024, beta_mode="linear"),
}
# Runs that the assignment does not ask for. `all` leaves them out.
NEIGHBOURS = {
    "ae_small": Settings(loss_mode="ae", network="small", latent_size=2048),
    "vae_latent128_planar4": Settings(latent_size=128, flows=4),
    "vae_latent128_anneal": Settings(latent_size=128, beta_mode="anneal", batch_size=64),
    "vae_latent128_cyclical": Settings(latent_size=128, beta_mode="cyclical"),
    "vae_latent128_free_bits0.5": Settings(latent_size=128, free_bits=0.5),
}
# What a preset fixes, and what goes with any run.
OWN = (
    *("loss_mode", "beta_mode", "latent_size", "target_beta_val", "anneal_steps"),
    *("cycles", "ratio", "free_bits", "flows"),
)
EVERY = ("num_epochs", "batch_size", "lr", "grad_clip", "eval_interval", "patience", "seed")


def get_args(description: str = "", argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of train.py; `runs` is {folder name: Settings} of what they ask for."""
    names = {"presets": ", ".join(PRESETS), "neighbours": ", ".join(NEIGHBOURS)}
    parser = OneLineParser(description.format(**names))
    parser.add_argument(
        "presets", nargs="*", metavar="PRESET", help="runs by name, or all (the assignment's)"
    )
    parser.add_argument(
        "--evaluate",
        type=path,
        metavar="RUN",
        help="train nothing; validate and draw the model of this run (or its model.pt) again",
    )
    own = parser.add_settings("a run of your own (instead of a preset)", Settings, *OWN)
    own.add_argument(
        "--log_dir",
        type=path,
        metavar="NAME",
        help="its folder, under --out_dir; _synthetic is added for that data",
    )
    parser.add_settings("every run", Settings, *EVERY)
    parser.add_device_options()
    output = add_data_and_output(parser, Settings)
    output.add_argument(
        "--out_dir",
        metavar="FOLDER",
        type=Path,
        help="folder of the run folders (vae/data); with --evaluate where the results go (beside "
        "the model)",
    )
    args = parser.parse_args(argv)
    if args.resume in (*PRESETS, *NEIGHBOURS, "all"):
        # `--resume PRESET`: the option took the name for a path.
        args.presets, args.resume = [args.resume, *args.presets], True
    args.settings = given_settings(args, Settings)
    if args.evaluate is not None:
        check_evaluate(parser, args)
        return args
    args.out_dir = args.out_dir or DATA_DIR
    check_args(parser, args)

    given, every = args.settings, PRESETS | NEIGHBOURS
    wanted = [
        name for preset in args.presets for name in (PRESETS if preset == "all" else [preset])
    ]
    runs = {name: dataclasses.replace(every[name], **given) for name in wanted}
    try:
        runs = runs or {args.log_dir: Settings(**given)}
    except InputError as error:
        parser.error(str(error))
    suffix = "_synthetic" if given.get("dataset") == "synthetic" else ""
    args.runs = {f"{name}{suffix}": settings for name, settings in runs.items()}
    return args


def add_data_and_output(parser: OneLineParser, settings: type) -> argparse._ArgumentGroup:
    """Where the data come from and how a run is kept; for train.py and for ddpm.py."""
    add_data_options(parser, settings)
    output = parser.add_settings("output", settings, "save_minutes")
    parser.add_resume_options(output)
    return output


def add_data_options(parser: OneLineParser, settings: type) -> None:
    """What dataset.open_data reads."""
    data = parser.add_settings("data", settings, "dataset", "data_dir")
    data.add_argument(
        "--download", action="store_true", help="fetch CIFAR-10 to --data_dir where it is missing"
    )


def check_args(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Options that do not go together end the program."""
    own = [name for name in OWN if name in args]
    if args.presets and (args.log_dir or own):
        fixed = ", --".join(own) or "loss_mode"
        parser.error(f"a preset fixes --log_dir, --{fixed} and the like; leave them out")
    if not args.presets and not args.log_dir:
        parser.error(f"give presets or --log_dir NAME; the presets: {', '.join(PRESETS)}, all")
    known = [*PRESETS, "all", *NEIGHBOURS]
    if unknown := [name for name in args.presets if name not in known]:
        parser.error(f"unknown preset {unknown[0]!r}; expected one of {', '.join(known)}")
    loss_mode, beta_mode = getattr(args, "loss_mode", None), getattr(args, "beta_mode", None)
    if loss_mode == "ae" and set(own) - {"loss_mode", "latent_size"}:
        parser.error(
            "--beta_mode, --target_beta_val and the like belong to a VAE; "
            "leave them out for --loss_mode ae"
        )
    for name, mode in (("anneal_steps", "anneal"), ("cycles", "cyclical"), ("ratio", "cyclical")):
        if name in own and beta_mode != mode:
            parser.error(f"--{name} goes with --beta_mode {mode}")
    if args.resume not in (None, True) and len(args.presets) > 1:
        parser.error("--resume STATE goes with a single run")
    check_run_options(parser, args)


def check_evaluate(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Only what says where the data are goes with --evaluate."""
    training = [f"--{name}" for name in args.settings.keys() - {"dataset", "data_dir"}]
    training += [f"--{name}" for name in ("log_dir", "resume", "overwrite") if getattr(args, name)]
    if training or args.presets:
        parser.error(f"--evaluate trains nothing; leave {min([*training, *args.presets])} out")
    check_run_options(parser, args)


def check_run_options(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Those of `add_data_and_output`."""
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    check_data_options(parser, args)


def check_data_options(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Those of `add_data_options`."""
    if getattr(args, "dataset", None) == "synthetic" and "data_dir" in args:
        parser.error("--data_dir goes with --dataset cifar10")


def get_diffusion_args(
    description: str | None = None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """The options of ddpm.py; `command` is train, sample or reference."""
    parser = OneLineParser(description)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train|sample|reference", parser_class=OneLineParser
    )

    training = commands.add_parser("train", description="Train the U-Net; --resume goes on.")
    training.add_settings("training", DiffusionSettings, *EVERY, "decay", "predict")
    training.add_device_options()
    output = add_data_and_output(training, DiffusionSettings)
    output.add_argument(
        "--out_dir",
        type=Path,
        metavar="FOLDER",
        help="run folder (default: vae/data/ddpm, _synthetic added for those images)",
    )

    sampling = commands.add_parser("sample", description="Write samples of a model as PNGs.")
    default = DATA_DIR / "ddpm" / "model.pt"
    sampling.add_argument(
        "--model", type=Path, default=default, metavar="FILE", help="(vae/data/ddpm/model.pt)"
    )
    sampling.add_argument(
        "--predict",
        choices=("v", "noise"),
        help="what that model predicts (default: as its config.json says)",
    )
    sampling.add_argument(
        "--num", type=Number(int, 1, 10_000_000), default=2000, metavar="N", help="images (2000)"
    )
    sampling.add_argument(
        "--sampler",
        choices=("ddim", "ddpm"),
        default="ddim",
        help=f"ddpm: ancestral, {TIMESTEPS} steps (ddim)",
    )
    sampling.add_argument(
        "--steps", type=Number(int, 1, TIMESTEPS), metavar="S", help="of DDIM (50)"
    )
    sampling.add_argument(
        "--eta",
        type=Number(float, 0, 1),
        default=0.0,
        help="noise of DDIM: 0 none, 1 as much as DDPM (0)",
    )
    sampling.add_argument(
        "--until",
        type=Number(int, 1, TIMESTEPS),
        default=1,
        metavar="T",
        help=f"leave out the times below T (of 1 to {TIMESTEPS}): the step over them is one (1)",
    )
    sampling.add_argument(
        "--batch_size",
        type=Number(int, 1, 100_000),
        default=250,
        metavar="B",
        help="images at a time (250)",
    )
    sampling.add_argument("--seed", type=Number(int, 0), default=0, help="(0)")
    sampling.add_device_options()

    images = commands.add_parser("reference", description="Write the training images as PNGs.")
    add_data_options(images, DiffusionSettings)
    images.add_settings("drawing", DiffusionSettings, "seed")
    for command in (sampling, images):
        command.add_argument(
            "--out", type=Path, required=True, metavar="FOLDER", help="where the PNGs go"
        )
        command.add_argument("--overwrite", action="store_true", help="replace that folder")
    args = parser.parse_args(argv)

    if args.command == "reference":
        check_data_options(parser, args)
    if args.command == "train":
        check_run_options(parser, args)
        name = "ddpm_synthetic" if getattr(args, "dataset", "") == "synthetic" else "ddpm"
        args.out_dir = (args.out_dir or DATA_DIR / name).absolute()
    if args.command == "sample":
        if args.sampler == "ddpm" and (args.eta or args.steps):
            parser.error("--steps and --eta belong to DDIM; leave them out for --sampler ddpm")
        args.steps = None if args.sampler == "ddpm" else args.steps or 50
    return args
