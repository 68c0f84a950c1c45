"""The command line of train.py."""

from pathlib import Path

from command_line import OneLineParser, number
from dataset import DATA_DIR
from settings import BETA_MODES, NEIGHBOURS, PRESETS


def get_args(description="", argv=None):
    """Parsed options; `own` holds those of a run that is not a preset."""
    parser = OneLineParser(description.format(presets=", ".join(PRESETS), neighbours=", ".join(NEIGHBOURS)))
    positive, count, share = (
        number(float, 0, above=True),
        number(int, 1),
        number(float, 0, above=True, maximum=1),
    )
    parser.add_argument(
        "presets", nargs="*", metavar="PRESET", help="runs by name, or all (the assignment's)"
    )
    own = parser.add_argument_group("a run of your own (instead of a preset)")
    own.add_argument("--log_dir", metavar="NAME", help="its folder, under --out_dir")
    own.add_argument("--loss_mode", choices=("ae", "vae"), help="(vae)")
    own.add_argument("--beta_mode", choices=BETA_MODES, help="(constant)")
    own.add_argument("--latent_size", type=number(int, 1, maximum=100_000), metavar="N", help="(256)")
    own.add_argument(
        "--target_beta_val",
        type=number(float, 0),
        metavar="BETA",
        help="weight of the KL term; a linear schedule would reach it at epoch num_epochs (1)",
    )
    own.add_argument(
        "--anneal_steps", type=count, metavar="N", help="steps from beta 0 to its target, for anneal (10000)"
    )
    own.add_argument("--cycles", type=count, metavar="M", help="cycles of a cyclical schedule (4)")
    own.add_argument("--ratio", type=share, metavar="R", help="share of a cycle in which beta rises (0.5)")
    own.add_argument(
        "--free_bits", type=number(float, 0), metavar="NATS", help="KL that each latent has for free (0)"
    )
    own.add_argument("--flows", type=number(int, 0), metavar="K", help="planar flows behind the encoder (0)")
    every = parser.add_argument_group("every run")
    every.add_argument("--num_epochs", type=count, default=20, metavar="N", help="(20)")
    every.add_argument("--batch_size", type=count, metavar="B", help="(256; 64 for vae_latent128_anneal)")
    every.add_argument("--lr", type=positive, default=1e-3, help="learning rate of Adam (0.001)")
    every.add_argument("--grad_clip", type=positive, default=1.0, help="largest norm of the gradient (1)")
    every.add_argument(
        "--eval_interval", type=count, default=5, metavar="N", help="epochs between pictures (5)"
    )
    every.add_argument(
        "--patience",
        type=count,
        metavar="N",
        help="stop after N epochs without a better validation loss, with the weights of the last (never)",
    )
    every.add_argument("--seed", type=number(int, 0), default=0, help="fixes weights, order and noise (0)")
    every.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    every.add_argument("--disable_amp", action="store_true", help="float32 throughout, no bfloat16 autocast")
    data = parser.add_argument_group("data and output")
    add_data_options(data)
    data.add_argument(
        "--out_dir",
        metavar="FOLDER",
        default=DATA_DIR,
        type=Path,
        help="folder of the run folders (vae/data)",
    )
    data.add_argument(
        "--save_minutes", type=positive, default=5.0, metavar="M", help="minutes between saved states (5)"
    )
    data.add_argument("--resume", nargs="?", const=True, metavar="STATE",
                      help="go on from the run folder's state, or a path (all goes on by itself)")  # fmt: skip
    data.add_argument("--overwrite", action="store_true", help="replace the results in the run folder")
    args = parser.parse_args(argv)

    if args.resume in (
        *PRESETS,
        *NEIGHBOURS,
        "all",
    ):  # `--resume PRESET`: the option took the name for a path
        args.presets, args.resume = [args.resume, *args.presets], True
    args.own = {
        name: value
        for name in ("loss_mode", "beta_mode", "latent_size", "target_beta_val", "anneal_steps", "cycles", "ratio", "free_bits", "flows")
        if (value := getattr(args, name)) is not None
    }  # fmt: skip
    if args.presets and (args.log_dir or args.own):
        parser.error(
            f"a preset fixes --log_dir, --{', --'.join(args.own) or 'loss_mode'} and the like; leave them out"
        )
    if not args.presets and not args.log_dir:
        parser.error(f"give presets or --log_dir NAME; the presets: {', '.join(PRESETS)}, all")
    unknown = [name for name in args.presets if name not in PRESETS | NEIGHBOURS and name != "all"]
    if unknown:
        parser.error(
            f"unknown preset {unknown[0]!r}; expected one of {', '.join([*PRESETS, 'all', *NEIGHBOURS])}"
        )
    if args.loss_mode == "ae" and args.own.keys() - {"loss_mode", "latent_size"}:
        parser.error(
            "--beta_mode, --target_beta_val and the like belong to a VAE; leave them out for --loss_mode ae"
        )
    for name, mode in (("anneal_steps", "anneal"), ("cycles", "cyclical"), ("ratio", "cyclical")):
        if getattr(args, name) is not None and args.beta_mode != mode:
            parser.error(f"--{name} goes with --beta_mode {mode}")
    if args.resume not in (None, True) and len(args.presets) > 1:
        parser.error("--resume STATE goes with a single run")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    if args.dataset == "synthetic" and args.data_dir:
        parser.error("--data_dir goes with --dataset cifar10")
    return args


def add_data_options(parser):
    """What train.open_data reads."""
    parser.add_argument(
        "--dataset", choices=("cifar10", "synthetic"), default="cifar10", help="synthetic: 6,000 drawn images"
    )
    parser.add_argument(
        "--data_dir", metavar="FOLDER", help="CIFAR-10: folder or archive (default: vae/data, fetched once)"
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch CIFAR-10 to --data_dir where it is missing"
    )
