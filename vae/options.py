"""The command line of train.py, and what makes a run what it is."""

import contextlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset import DATA_DIR
from presets import NEIGHBOURS, PRESETS

from common import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    InputError,
    Parser,
    did_you_mean,
    name_of,
    number,
    path,
)
from common.device import Precision, resolve_device
from common.run import from_folder, recorded_for_resume, recorded_settings, resume_line

# The arguments of train.main that the command line gives; the other options go along as `options`.
OF_MAIN = (
    *("loss_mode", "beta_mode", "num_epochs", "batch_size", "latent_size", "target_beta_val"),
    *("grad_clip", "lr", "eval_interval", "base_channels"),
)
# What a preset fixes.
OWN = (
    *("loss_mode", "beta_mode", "latent_size", "target_beta_val", "anneal_steps"),
    *("cycles", "ratio", "free_bits", "flows", "base_channels"),
)
# What is no part of a run's settings.
APART = (
    *("device", "disable_amp", "download", "evaluate", "resume", "overwrite", "out_dir", "log_dir"),
    *("presets", "given", "again", "parser", "runs", "num_samples", "own_file"),
)
_parsed: list[Namespace] = []  # what get_args gave last, for a main without `options`
BETA_MODES = ("constant", "linear", "anneal", "cyclical")


def make_parser(description: str | None = None) -> Parser:
    """The options, their bounds and defaults."""
    names = {"{presets}": ", ".join(PRESETS), "{neighbours}": ", ".join(NEIGHBOURS)}
    for name, text in names.items():
        description = (description or "").replace(name, text)
    parser = Parser(description)
    runs = "runs by name, or all (the assignment's)"
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=runs)
    add = parser.add_argument
    again = "train nothing; validate and draw the model of this run (or its model.pt) again"
    add("--evaluate", type=path, metavar="RUN", help=again)
    drawn = "with --evaluate: also write N samples as PNGs, to the folder samples/"
    add("--num_samples", type=number(int, 1, 10_000_000), metavar="N", help=drawn)
    group = parser.add_argument_group("a run of your own (instead of a preset)")
    add = group.add_argument
    add(
        "--log_dir",
        type=path,
        metavar="NAME",
        help="its folder, under --out_dir; _synthetic is added for that data",
    )
    add("--loss_mode", choices=("ae", "vae"), default="vae", help="(vae)")
    add("--beta_mode", choices=BETA_MODES, default="constant", help="(constant)")
    add("--latent_size", type=number(int, 1, 100_000), default=256, metavar="N", help="(256)")
    target = "weight of the KL term; a linear schedule would reach it at epoch num_epochs (1)"
    add("--target_beta_val", type=NOT_NEGATIVE, default=1, metavar="BETA", help=target)
    rise = "steps from beta 0 to its target, for anneal (10000)"
    add("--anneal_steps", type=COUNT, default=10_000, metavar="N", help=rise)
    add("--cycles", type=COUNT, default=4, metavar="M", help="cycles of a cyclical schedule (4)")
    share = number(float, 0, 1, above=True)
    add(
        "--ratio",
        type=share,
        default=0.5,
        metavar="R",
        help="share of a cycle in which beta rises (0.5)",
    )
    free = "KL that each latent has for free (0)"
    add("--free_bits", type=NOT_NEGATIVE, default=0.0, metavar="NATS", help=free)
    behind = "planar flows behind the encoder (0)"
    add("--flows", type=number(int, 0, 1000), default=0, metavar="K", help=behind)
    width = "of the decoder's first map; 256 in editions since 2023 (128)"
    add("--base_channels", type=number(int, 1, 4096), default=128, metavar="C", help=width)
    add_training_options(parser)
    group = add_data_options(parser)
    where = "folder of the run folders (vae/data); with --evaluate where the results go"
    group.add_argument("--out_dir", metavar="FOLDER", type=path, help=where)
    parser.add_resume_options(group)
    return parser


def add_training_options(
    parser: Parser, epochs: int = 20, batch: int = 256, lr: float = 1e-3
) -> None:
    """What every run has, with the defaults that are given."""
    add = parser.add_argument_group("every run").add_argument
    add("--num_epochs", type=COUNT, default=epochs, metavar="N", help=f"({epochs})")
    add("--batch_size", type=COUNT, default=batch, metavar="B", help=f"({batch})")
    add("--lr", type=POSITIVE, default=lr, help=f"learning rate of Adam ({lr:g})")
    clip = "largest norm of the gradient; 0: any (1)"
    add("--grad_clip", type=NOT_NEGATIVE, default=1, help=clip)
    add("--eval_interval", type=COUNT, default=5, metavar="N", help="epochs between pictures (5)")
    stop = (
        "stop after N epochs without a better validation loss, with the weights of the last (never)"
    )
    add("--patience", type=COUNT, metavar="N", help=stop)
    add("--seed", type=SEED, default=0, help="fixes weights, order and noise (0)")
    parser.add_device_options()


def add_data_options(parser: Parser) -> Any:
    """What dataset.open_data reads; returns the group."""
    group = parser.add_argument_group("data and output")
    add = group.add_argument
    drawn = "synthetic: 6,000 drawn images"
    add("--dataset", choices=("cifar10", "synthetic"), default="cifar10", help=drawn)
    where = "CIFAR-10: folder or archive (default: vae/data, fetched once)"
    add("--data_dir", type=path, metavar="FOLDER", help=where)
    fetched = "fetch CIFAR-10 to --data_dir where it is missing"
    add("--download", action="store_true", help=fetched)
    return group


def get_args(description: str | None = None, argv: Sequence[str] | None = None) -> Namespace:
    """The options of train.py; `runs` is {folder name: arguments of train.main} of what they ask.

    `options` of train.main is the same thing, with what a resumed run recorded: `arguments_of`.
    """
    parser = make_parser(description)
    given = parser.parse_given(argv)
    names = list(given.pop("presets", ()))
    own_file = argv is None and Path(sys.argv[0]).name != "train.py"  # it names its run itself
    resume, there = given.get("resume"), None
    if resume in (*PRESETS, *NEIGHBOURS, "all"):
        # `--resume PRESET`: the option took the name for a path.
        names, given["resume"] = [resume, *names], True
    elif isinstance(resume, str) and not names and "log_dir" not in given:
        # `--resume NAME`, or the path of its folder: a run that is there, whatever made it.
        place = Path(given.get("out_dir", DATA_DIR)) / resume
        place = place if place.exists() or "out_dir" in given else Path(resume).absolute()
        if (place / "state.pt").exists():
            there, given["resume"], given["out_dir"] = place.name, True, str(place.parent)
    check_together(parser, names, given, own_file or there is not None)
    args = Namespace(**parser.defaults() | given)
    args.given, args.parser, args.presets = given, parser, names
    args.device = resolve_device(args.device)
    data = ["--dataset", "synthetic"] if args.dataset == "synthetic" else []
    own = [word for name, value in given.items() for word in words_of(name, value)]
    words = own if own_file or argv is not None else data
    args.again, args.network = resume_line(*words), "assignment"
    every, suffix = PRESETS | NEIGHBOURS, "_synthetic" if args.dataset == "synthetic" else ""
    wanted = [name for preset in names for name in (PRESETS if preset == "all" else [preset])]
    args.runs = {f"{name}{suffix}": every[name] for name in wanted}
    args.own_file = own_file
    if args.log_dir or there:
        args.runs = {there or f"{args.log_dir}{suffix}": {}}
    _parsed[:] = [args]
    return args


def words_of(name: str, value: Any) -> list[str]:
    """An option as it was typed; those of a start alone are left out."""
    kept = name not in ("resume", "overwrite")
    return [f"--{name}", *([] if value is True else [str(value)])] if kept else []


def check_together(parser: Parser, names: list[str], given: dict, own_file: bool) -> None:
    """Options that do not go together end the program."""
    own = [name for name in OWN if name in given]
    known = [*PRESETS, "all", *NEIGHBOURS]
    if given.get("resume") and given.get("overwrite"):
        parser.error("--resume and --overwrite exclude each other")
    if given.get("dataset") == "synthetic":
        for name in ("data_dir", "download"):
            if given.get(name):
                parser.error(f"--{name} goes with --dataset cifar10")
    if given.get("evaluate") is not None:
        fits: tuple[str, ...]
        fits = ("evaluate", "dataset", "data_dir", "download", "out_dir", "device", "disable_amp")
        fits += ("num_samples", "overwrite") if given.get("num_samples") else ()
        training = [f"--{name}" for name in given if name not in fits]
        if training or names:
            parser.error(f"--evaluate trains nothing; leave {[*training, *names][0]} out")
        return
    if given.get("num_samples"):
        parser.error("--num_samples goes with --evaluate RUN")
    if names and ("log_dir" in given or own):
        fixed = ", --".join(own) or "loss_mode"
        parser.error(f"a preset fixes --log_dir, --{fixed} and the like; leave them out")
    if unknown := [name for name in names if name not in known]:
        parser.error(
            f"unknown preset {unknown[0]!r}{did_you_mean(unknown[0], known)}; "
            f"expected one of {', '.join(known)}"
        )
    name = given.get("log_dir", "")
    if name == ".." or Path(name).name != name:
        parser.error(
            f"--log_dir: got {given['log_dir']!r}, expected a name; --out_dir says where it lies"
        )
    if not names and "log_dir" not in given and not own_file:
        if given.get("resume"):
            unfinished = ", ".join(unfinished_runs(Path(given.get("out_dir", DATA_DIR)))) or "none"
            lost = (
                f"no run {given['resume']}" if isinstance(given["resume"], str) else "of which run"
            )
            parser.error(f"--resume: {lost}; give --resume NAME; unfinished: {unfinished}")
        parser.error(f"give presets or --log_dir NAME; the presets: {', '.join(PRESETS)}, all")
    loss_mode, beta_mode = given.get("loss_mode"), given.get("beta_mode")
    if loss_mode == "ae" and set(own) - {"loss_mode", "latent_size", "base_channels"}:
        parser.error(
            "--beta_mode, --target_beta_val and the like belong to a VAE; "
            "leave them out for --loss_mode ae"
        )
    for name, mode in (("anneal_steps", "anneal"), ("cycles", "cyclical"), ("ratio", "cyclical")):
        if name in own and beta_mode != mode and not given.get("resume"):
            parser.error(f"--{name} goes with --beta_mode {mode}")
    if given.get("flows") and given.get("free_bits"):
        parser.error(
            "--flows and --free_bits exclude each other: the flows' KL is one estimate for all "
            "latents"
        )
    if given.get("flows") and "base_channels" in given:
        parser.error("--flows goes with the assignment's decoder; leave --base_channels out")
    single = len(names) == 1 or "log_dir" in given or own_file
    if given.get("resume") not in (None, True) and not single:
        parser.error("--resume STATE goes with a single run")


def unfinished_runs(place: Path) -> list[str]:
    """Names of the runs there that have a state and not their last epoch."""
    found = []
    for state in sorted(place.glob("*/state.pt")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # a damaged one is not proposed
            config = recorded_settings(state.parent, "--resume")
            rows = (state.parent / "metrics.csv").read_text().splitlines()
            ours = config.get("loss_mode") in ("ae", "vae")  # others go on by their own file
            if len(rows) - 1 < config.get("num_epochs", 0) and ours:
                found.append(state.parent.name)
    return found


def arguments_of(name: str, args: Namespace) -> tuple[dict[str, Any], Namespace]:
    """What main is called with for one of `args.runs`, and the options that go along.

    With --resume what the command line does not give is what the run recorded.
    """
    folder = Path(args.out_dir or DATA_DIR).absolute() / name
    wanted = Namespace(**vars(args) | args.runs[name] | args.given | {"resume": args.resume})
    options = with_recorded(wanted, folder)
    where = ["--out_dir", args.out_dir] if args.out_dir else []
    options.again, options.presets = resume_line(*where, name=name), []
    return {name: getattr(options, name) for name in OF_MAIN}, options


def with_recorded(options: Namespace, folder: Path) -> Namespace:
    """The same; with --resume what it does not give is what the run in `folder` recorded."""
    recorded = recorded_for_resume(folder, options.resume, options.given, options.parser)
    own = [("network", "small")]  # of a preset; a file of one's own brings another itself
    known = {k: v for k, v in recorded.items() if k in options.parser.defaults() or (k, v) in own}
    values = vars(options) | known
    return Namespace(**values | {"device": resolve_device(values["device"])})


def parsed() -> Namespace:
    """What get_args gave last; the defaults where it was not called."""
    return _parsed[0] if _parsed else get_args(argv=["--log_dir", "run"])


def run_folder(options: Namespace, log_dir: str | Path) -> Path:
    """Where a run of that name lies; InputError for no name."""
    if not str(log_dir or ""):
        raise InputError("main: log_dir is empty; expected the name of a folder")
    return Path(options.out_dir or DATA_DIR).absolute() / log_dir


def check_own_call(options: Namespace, model: Any, images: Any) -> None:
    """InputError for options that a call of train.main from a file of one's own would ignore."""
    ignored = {"log_dir": "names its run itself"} if options.own_file else {}
    ignored |= {"evaluate": "trains only", "num_samples": "trains only"}
    ignored |= {"base_channels": "brings its model"} if model is not None else {}
    of_data = dict.fromkeys(("dataset", "data_dir", "download"), "brings its images")
    ignored |= of_data if images is not None else {}
    for name, why in ignored.items():
        if name in options.given:
            raise InputError(f"--{name}: this script {why}; leave the option out")
    if options.own_file and options.presets:
        raise InputError(f"{options.presets[0]}: this script names its run itself; leave it out")


def recorded(
    arguments: dict, options: Namespace, folder: Path, precision: Precision
) -> dict[str, Any]:
    """The settings that make a run what it is, as builtins, for config.json and the state."""
    values = {name: value for name, value in vars(options).items() if name not in APART}
    values |= {k: name_of(v) if callable(v) else v for k, v in arguments.items()}
    values["data_dir"] = from_folder(options.data_dir, folder)
    # The length of a run sets the slope of these schedules: there it may not change.
    by_length = arguments["beta_mode"] in ("linear", "cyclical")
    values["schedule_epochs"] = arguments["num_epochs"] if by_length else None
    device, name = precision.device.type, precision.name
    return values | {"device": device, "number_format": name}
