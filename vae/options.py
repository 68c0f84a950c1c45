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
from common.run import recorded_for_resume, recorded_settings, resume_line, settings_of

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
_parsed: list[Namespace] = []  # what get_args gave last, for a main without `options`
DATA = "cifar10", "6,000 drawn images", "CIFAR-10: folder or archive (vae/data, fetched once)"
BETA_MODES = ("constant", "linear", "anneal", "cyclical")


def make_parser(description: str | None = None) -> Parser:
    """The options, their bounds and defaults."""
    names = {"{presets}": ", ".join(PRESETS), "{neighbours}": ", ".join(NEIGHBOURS)}
    for name, text in names.items():
        description = (description or "").replace(name, text)
    parser = Parser(description)
    add = parser.add_argument
    add("presets", nargs="*", metavar="PRESET", help="runs by name, or all (the assignment's)")
    again = "train nothing; validate and draw the model of this run (or its model.pt) again"
    add("--evaluate", type=path, metavar="RUN", help=again)
    drawn = "with --evaluate: also write N samples as PNGs, to the folder samples/"
    add("--num_samples", type=number(int, 1, 10_000_000), metavar="N", help=drawn)
    add = parser.add_argument_group("a run of your own (instead of a preset)").add_argument
    add("--log_dir", type=path, metavar="NAME", help="its folder, under --out_dir")
    add("--loss_mode", choices=("ae", "vae"), default="vae", help="(vae)")
    add("--beta_mode", choices=BETA_MODES, default="constant", help="(constant)")
    add("--latent_size", type=number(int, 1, 100_000), default=256, metavar="N", help="(256)")
    add("--target_beta_val", type=NOT_NEGATIVE, default=1, help="weight of the KL term (1)")
    add("--anneal_steps", type=COUNT, default=10_000, help="in which anneal rises (10000)")
    add("--cycles", type=COUNT, default=4, metavar="M", help="cycles of a cyclical schedule (4)")
    share = number(float, 0, 1, above=True)
    add("--ratio", type=share, default=0.5, help="share of a cycle in which beta rises (0.5)")
    add("--free_bits", type=NOT_NEGATIVE, default=0.0, help="nats each latent has for free (0)")
    add("--flows", type=number(int, 0, 1000), default=0, help="planar flows behind the encoder (0)")
    width = "of the decoder's first map; 256 in editions since 2023 (128)"
    add("--base_channels", type=number(int, 1, 4096), default=128, metavar="C", help=width)
    add_training_options(parser)
    group = parser.add_data_options(*DATA)
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
    add("--grad_clip", type=NOT_NEGATIVE, default=1, help="largest gradient norm; 0: any (1)")
    add("--eval_interval", type=COUNT, default=5, metavar="N", help="epochs between pictures (5)")
    add("--seed", type=SEED, default=0, help="fixes weights, order and noise (0)")
    parser.add_device_options()


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
        places = Path(given.get("out_dir", DATA_DIR)) / resume, Path(resume).absolute()
        if place := next((place for place in places if (place / "state.pt").exists()), None):
            there, given["resume"], given["out_dir"] = place.name, True, str(place.parent)
    check_together(parser, names, given, own_file or there is not None)
    args = Namespace(**parser.defaults() | given)
    args.given, args.parser, args.presets, args.own_file = given, parser, names, own_file
    args.device, args.network = resolve_device(args.device), "assignment"
    args.out_dir = Path(args.out_dir or DATA_DIR).absolute()
    # What was typed, for all runs together; arguments_of has the line of each.
    typed = [pair for pair in given.items() if pair[0] not in ("resume", "overwrite")]
    words = [w for name, value in typed for w in (f"--{name}", value) if w is not True]
    args.again = resume_line(*words, *names)
    every, suffix = PRESETS | NEIGHBOURS, "_synthetic" if args.dataset == "synthetic" else ""
    wanted = [name for preset in names for name in (PRESETS if preset == "all" else [preset])]
    args.runs = {f"{name}{suffix}": every[name] for name in wanted}
    if args.log_dir or there:
        args.runs = {there or f"{args.log_dir}{suffix}": {}}
    _parsed[:] = [args]
    return args


def check_together(parser: Parser, names: list[str], given: dict, own_file: bool) -> None:
    """InputError for options that do not go together."""
    if "evaluate" in given:
        fits = {"evaluate", "dataset", "data_dir", "download", "out_dir", "device", "disable_amp"}
        fits |= {"num_samples", "overwrite"} if "num_samples" in given else set()
        if odd := [*(f"--{name}" for name in given if name not in fits), *names]:
            parser.error(f"--evaluate trains nothing; leave {odd[0]} out")
        return
    own, known = [name for name in OWN if name in given], [*PRESETS, "all", *NEIGHBOURS]
    folder, resume, flows = given.get("log_dir", ""), given.get("resume"), given.get("flows")
    if "num_samples" in given:
        parser.error("--num_samples goes with --evaluate RUN")
    if names and (folder or own):
        fixed = ", --".join(own) or "loss_mode"
        parser.error(f"a preset fixes --log_dir, --{fixed} and the like; leave them out")
    if unknown := [name for name in names if name not in known]:
        proposal = did_you_mean(unknown[0], known)
        parser.error(f"unknown preset {unknown[0]!r}{proposal}; expected {', '.join(known)}")
    if folder == ".." or Path(folder).name != folder:
        parser.error(f"--log_dir: got {folder!r}, expected a name; --out_dir says where it lies")
    if not names and not folder and not own_file:
        if resume:
            unfinished = ", ".join(unfinished_runs(Path(given.get("out_dir", DATA_DIR)))) or "none"
            lost = "of which run" if resume is True else f"no run {resume}"
            parser.error(f"--resume: {lost}; give --resume NAME; unfinished: {unfinished}")
        parser.error(f"give presets or --log_dir NAME; the presets: {', '.join(PRESETS)}, all")
    if given.get("loss_mode") == "ae" and set(own) - {"loss_mode", "latent_size", "base_channels"}:
        parser.error("--beta_mode, --target_beta_val and the like belong to a VAE; leave them out")
    for name, mode in (("anneal_steps", "anneal"), ("cycles", "cyclical"), ("ratio", "cyclical")):
        if name in own and given.get("beta_mode") != mode and not resume:
            parser.error(f"--{name} goes with --beta_mode {mode}")
    if flows and given.get("free_bits"):
        parser.error("--flows and --free_bits exclude each other: flows have one KL, not one each")
    if flows and "base_channels" in given:
        parser.error("--flows goes with the assignment's decoder; leave --base_channels out")
    if resume not in (None, True) and (len(names) > 1 or "all" in names):
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
    more = {"resume": args.resume, "out_dir": args.out_dir}
    options = Namespace(**vars(args) | args.runs[name] | args.given | more)
    options = with_recorded(options, args.out_dir / name)
    where = ["--out_dir", args.out_dir] if "out_dir" in args.given else []
    options.again, options.presets = resume_line(*where, name=name), []
    return {name: getattr(options, name) for name in OF_MAIN}, options


def with_recorded(options: Namespace, folder: Path) -> Namespace:
    """The same; with --resume what it does not give is what the run in `folder` recorded."""
    recorded = recorded_for_resume(folder, options.resume, options.given)
    own = [("network", "small")]  # of a preset; a file of one's own brings another itself
    known = {k: v for k, v in recorded.items() if k in options.parser.defaults() or (k, v) in own}
    values = vars(options) | known
    return Namespace(**values | {"device": resolve_device(values["device"])})


def parsed() -> Namespace:
    """What get_args gave last; the defaults where it was not called."""
    return _parsed[0] if _parsed else get_args(argv=["--log_dir", "run"])


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
    own = {k: name_of(v) if callable(v) else v for k, v in arguments.items()}
    # The length of a run sets the slope of these schedules: there it may not change.
    by_length = arguments["beta_mode"] in ("linear", "cyclical")
    own["schedule_epochs"] = arguments["num_epochs"] if by_length else None
    return settings_of(options, folder, precision, own)
