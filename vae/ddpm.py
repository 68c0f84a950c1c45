"""A diffusion model of CIFAR-10: a hierarchical VAE whose encoder is fixed and adds noise.

    python vae/ddpm.py train                                        -> vae/data/ddpm/
    python vae/ddpm.py sample --steps 50 --num 2000 --out samples   DDIM; a folder of PNGs
    python vae/ddpm.py sample --sampler ddpm --num 500 --out samples1000
    python vae/ddpm.py reference --out cifar10                      the training images as PNGs

The mathematics is in diffusion/process.py. `python gan/fid.py samples cifar10` scores the samples.
"""

import json
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dataset import DATA_DIR, open_data
from diffusion.process import Diffusion, ddpm_loss, draw
from diffusion.unet import UNet
from logger import LAYOUT, epochs, log_epoch
from options import DATA, add_training_options
from pictures import check_new_folder, save_pictures
from torch import Tensor, nn
from train import get_val_metrics, run_train_epoch
from utils import ZOOM, get_dataloaders

from common import SEED, InputError, Parser, number, path
from common.device import choose_precision, prepare, resolve_device
from common.files import fingerprint, load_weights, save_grid, save_weights
from common.measure import RunningMeans, measuring, progress_bar
from common.run import Layout, Run, recorded_for_resume, resume_line, settings_of

TIMESTEPS = 1000  # T
DDPM_LAYOUT = Layout(
    "ddpm-state-2", LAYOUT.columns, (*LAYOUT.results, "samplers.csv"), LAYOUT.may_change
)


class WeightAverage:
    """Exponential moving average of a module's weights; the first steps count for more."""

    def __init__(self, module: nn.Module, make: Callable[[], nn.Module], decay: float):
        device = next(module.parameters()).device
        self.source, self.decay, self.count = module, decay, 0
        self.module = make().to(device).to(memory_format=torch.channels_last)
        self.module.load_state_dict(module.state_dict())
        self.module.requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the module's optimizer."""
        # Else the random weights of the start would stay in it for thousands of steps.
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        averages, weights = self.module.parameters(), self.source.parameters()
        torch._foreach_lerp_(list(averages), list(weights), 1 - decay)
        self.count += 1

    def state_dict(self) -> dict:
        """Weights and number of updates."""
        return {"weights": self.module.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.module.load_state_dict(state["weights"])
        self.count = state["count"]


# ------------------------------------------------------------------------------------------------
# The three commands


def train(args: Namespace) -> list[dict]:
    """Train the U-Net and the average of its weights, which is what validates and samples."""
    precision = choose_precision(args.device, not args.disable_amp)
    with Run(args.out_dir, DDPM_LAYOUT, args.resume, args.overwrite, args.again) as run:
        own = {"model": "ddpm", "timesteps": TIMESTEPS}
        settings = settings_of(args, run.folder, precision, own)
        run.check(settings)
        train_loader, val_loader = get_dataloaders(args.batch_size, args)
        settings["data"] = fingerprint(train_loader.images, val_loader.images)
        torch.manual_seed(args.seed)
        model = UNet().to(args.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
        average = WeightAverage(model, UNet, args.decay)
        diffusion, means = Diffusion(TIMESTEPS, args.predict), RunningMeans(args.device)
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "average": average}
        parts |= {"batches": train_loader, "shuffler": train_loader.generator, "means": means}
        prepare(precision)
        counts = [len(loader.images) for loader in (train_loader, val_loader)]
        parameters = sum(p.numel() for p in model.parameters())
        run.begin(settings, parts, args.num_epochs, images=counts, parameters=parameters)

        def loss(model: nn.Module, x: Tensor) -> tuple[Tensor, OrderedDict]:
            return ddpm_loss(model, x, diffusion), OrderedDict()

        def save_samples(epoch: int) -> None:
            """49 of the average, from the same noise; its weights."""
            with measuring(average.module), precision():
                fixed = torch.Generator(args.device).manual_seed(args.seed + 1)
                samples = draw(average.module, diffusion, 49, 50, generator=fixed)
            path = run.folder / f"epoch_{epoch}_samples.png"
            run.events.add_image("samples", save_grid(samples, path, 7, ZOOM), epoch)
            save_weights(average.module, run.folder / "model.pt")

        steps = len(train_loader)
        for epoch, bar in epochs(run, train_loader, args.eval_interval, save_samples):
            train_metrics = run_train_epoch(
                model,
                loss,
                run.steps(train_loader, bar, average.update),
                optimizer,
                grad_clip=args.grad_clip,
                precision=precision,
                means=means,
                first_step=epoch * steps + train_loader.taken,
            )
            # The average: it is what draws, and what is kept.
            val_metrics = get_val_metrics(average.module, loss, val_loader, precision=precision)
            line = log_epoch(run, {"epoch": epoch}, train_metrics, val_metrics)
            bar.write(line, file=sys.stdout)
    return run.rows


def sample(args: Namespace) -> None:
    """Write `--num` samples of a trained model as PNGs."""
    precision = choose_precision(args.device, not args.disable_amp)
    check_new_folder(args.out, args.overwrite)
    args.model = args.model / "model.pt" if args.model.is_dir() else args.model
    model = UNet().to(args.device).to(memory_format=torch.channels_last)
    load_weights(model, args.model, "--model")
    predict = args.predict or recorded_prediction(args.model)
    prepare(precision)
    diffusion = Diffusion(TIMESTEPS, predict)
    steps = len(diffusion.times(args.steps or TIMESTEPS, args.until)) - 1
    starts = range(0, args.num, args.batch_size)
    counts = [min(args.batch_size, args.num - start) for start in starts]
    # A seed for each batch: whatever was drawn before.
    rng = torch.Generator().manual_seed(args.seed)
    seeds = torch.randint(2**62, (len(counts),), generator=rng).tolist()
    drawn = []
    with progress_bar(total=len(counts) * steps, unit="step") as bar, measuring(model), precision():
        for count, seed in zip(counts, seeds, strict=True):
            rng = torch.Generator(args.device).manual_seed(seed)
            x = draw(model, diffusion, count, args.steps, args.eta, rng, bar.update, args.until)
            if not torch.isfinite(x).all():
                raise InputError(
                    f"--model: {args.model} gives non-finite images; give another, or --disable_amp"
                )
            # 2,000 images are 6 MB; written at the end, all or none.
            drawn.append(x.add(1).mul(127.5).round().to(torch.uint8).cpu())
    save_pictures(torch.cat(drawn), args.out)
    how = f"DDIM, {steps} steps, eta {args.eta:g}" if args.steps else f"DDPM, {steps} steps"
    how += f", none from a time below {args.until}" if args.until > 1 else ""
    print(f"{args.num} samples ({how}) are in {args.out}")


def recorded_prediction(model: Path) -> str:
    """What a model predicts, as the config.json beside it says; an older one: the noise."""
    path = model.parent / "config.json"
    try:
        predict: str = json.loads(path.read_text()).get("predict", "noise")
        if predict not in ("v", "noise"):
            raise ValueError(f"predict is {predict!r}")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"--model: cannot read {path} ({error}); give --predict") from None
    return predict


def reference(args: Namespace) -> None:
    """Write the training images as PNGs."""
    check_new_folder(args.out, args.overwrite)
    images, _ = open_data(args)
    save_pictures(images, args.out)
    print(f"{len(images)} images are in {args.out}")


def get_args(argv: list[str]) -> Namespace:
    """The options of the command that comes first."""
    about = __doc__ or ""
    if not argv or argv[0] not in COMMANDS:
        parser = Parser(about)
        parser.add_argument("command", choices=COMMANDS, metavar="train|sample|reference")
        parser.parse_given(argv[:1])
    parser = Parser(about, prog=f"{Path(sys.argv[0]).name} {argv[0]}")
    add = parser.add_argument
    if argv[0] == "train":
        add_training_options(parser, epochs=60, batch=128, lr=5e-4)
        share = number(float, 0, 1)
        add("--decay", type=share, default=0.999, help="of the average of the weights (0.999)")
        what = "of x_t: v = sqrt(abar) noise - sqrt(1 - abar) x_0, or noise (v)"
        add("--predict", choices=("v", "noise"), default="v", help=what)
        group = parser.add_data_options(*DATA)
        where = "run folder (vae/data/ddpm, _synthetic added for those images)"
        group.add_argument("--out_dir", type=path, metavar="FOLDER", help=where)
        parser.add_resume_options(group)
    elif argv[0] == "sample":
        model = DATA_DIR / "ddpm" / "model.pt"
        add("--model", type=path, default=model, metavar="FILE", help="(vae/data/ddpm/model.pt)")
        what = "what that model predicts (default: as its config.json says)"
        add("--predict", choices=("v", "noise"), help=what)
        images = number(int, 1, 10_000_000)
        add("--num", type=images, default=2000, metavar="N", help="images (2000)")
        how = f"ddpm: ancestral, {TIMESTEPS} steps (ddim)"
        add("--sampler", choices=("ddim", "ddpm"), default="ddim", help=how)
        time = number(int, 1, TIMESTEPS)
        add("--steps", type=time, metavar="S", help="of DDIM (50)")
        noise = "noise of DDIM: 0 none, 1 as much as DDPM (0)"
        add("--eta", type=number(float, 0, 1), default=0.0, help=noise)
        until = f"leave out the times below T (of 1 to {TIMESTEPS}): the step over them is one (1)"
        add("--until", type=time, default=1, metavar="T", help=until)
        size = number(int, 1, 100_000)
        add("--batch_size", type=size, default=250, metavar="B", help="images at a time (250)")
        parser.add_device_options()
    else:
        parser.add_data_options(*DATA)
    if argv[0] != "train":
        add("--seed", type=SEED, default=0, help="(0)")
        add("--out", type=path, required=True, metavar="FOLDER", help="where the PNGs go")
        add("--overwrite", action="store_true", help="replace that folder")
    given = parser.parse_given(argv[1:])
    if given.get("sampler") == "ddpm" and (given.get("eta") or given.get("steps")):
        parser.error("--steps and --eta belong to DDIM; leave them out for --sampler ddpm")
    args = parser.defaults() | given
    if argv[0] == "train":
        name = "ddpm_synthetic" if args["dataset"] == "synthetic" else "ddpm"
        folder = Path(given.get("out_dir", DATA_DIR / name)).absolute()
        recorded = recorded_for_resume(folder, given.get("resume"), given)
        args |= {k: v for k, v in recorded.items() if k in args}
        words = ["--dataset", "synthetic"] if args["dataset"] == "synthetic" else []
        words = ["--out_dir", given["out_dir"]] if "out_dir" in given else words
        args |= {"out_dir": folder, "again": resume_line("train", *words), "given": given}
    if argv[0] == "sample":
        args["steps"] = None if args["sampler"] == "ddpm" else args["steps"] or 50
    args |= {name: Path(args[name]) for name in ("model", "out") if name in args}
    args["device"] = resolve_device(args.get("device"))
    return Namespace(**args)


COMMANDS = {"train": train, "sample": sample, "reference": reference}

if __name__ == "__main__":
    args = get_args(sys.argv[1:])
    COMMANDS[sys.argv[1]](args)
