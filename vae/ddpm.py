"""A diffusion model of CIFAR-10: a hierarchical VAE whose encoder is fixed and adds noise step by step.

    python vae/ddpm.py train                                        -> vae/data/ddpm/
    python vae/ddpm.py sample --steps 50 --num 2000 --out samples   DDIM; a folder of PNGs
    python vae/ddpm.py sample --sampler ddpm --num 500 --out samples1000
    python vae/ddpm.py reference --out cifar10                      the training images as PNGs

DDPM is Ho et al. 2020 (arXiv 2006.11239), DDIM Song et al. 2020 (arXiv 2010.02502), the cosine schedule
Nichol & Dhariwal 2021 (arXiv 2102.09672). `python gan/fid.py samples cifar10` scores the samples.
"""

import functools
import hashlib
import itertools
import math
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from command_line import OneLineParser, exit_codes, number
from dataset import DATA_DIR, fingerprint
from errors import InputError, Interrupted
from files import load_tensors, save_grid
from hardware import autocast, keep_freed_memory, resolve_device
from logger import RESULTS
from options import add_data_options
from run_log import StopSignal, check_folder, save_weights
from train import Trainer, fit, number_format, open_data
from unet import UNet
from utils import ZOOM, measuring

TIMESTEPS = 1000


# ------------------------------------------------------------------------------------------------
# The diffusion: times run from 0 (an image) to T (noise)


class Diffusion:
    """alpha_bar[t], the share of the image's variance that is left at time t = 0, ..., T (float64)."""

    def __init__(self, timesteps=TIMESTEPS):
        """Equation (17) of arXiv 2102.09672, s = 0.008, with no beta above 0.999."""
        self.timesteps = timesteps
        angle = (torch.arange(timesteps + 1, dtype=torch.float64) / timesteps + 0.008) / 1.008 * math.pi / 2
        ideal = angle.cos().square()
        betas = (1 - ideal[1:] / ideal[:-1]).clamp(max=0.999)
        self.alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(dim=0)])

    def at(self, t, x):
        """alpha_bar at times t, a number or (B,), shaped to multiply images x.

        In float64, as is what is made of it before a method rounds its result: 1 - alpha_bar is small near 0.
        """
        self.alpha_bar = self.alpha_bar.to(x.device)  # once; afterwards it is there
        return self.alpha_bar[torch.as_tensor(t, device=x.device)].view(-1, 1, 1, 1)

    def q_sample(self, x0, t, noise):
        """x_t ~ q(x_t | x_0), equation (4) of DDPM."""
        alpha_bar = self.at(t, x0)
        return (alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise).to(x0.dtype)

    def predict_x0(self, x, t, noise):
        """The image that x_t was made of, if its noise was that; clipped to [-1, 1]."""
        alpha_bar = self.at(t, x)
        x0 = (x - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
        return x0.clamp(-1, 1).to(x.dtype)

    def noise_in(self, x, t, x0):
        """The noise that turned x0 into x_t: the prediction again, after the image was clipped."""
        alpha_bar = self.at(t, x)
        return ((x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()).to(x.dtype)

    def ddpm_step(self, x, t, predicted_noise, noise):
        """x_{t-1} ~ N(mu~, beta~), equations (6) and (7) of DDPM, with x_0 as predicted."""
        x0 = self.predict_x0(x, t, predicted_noise)
        now, before = self.at(t, x), self.at(t - 1, x)
        alpha = now / before
        mean = before.sqrt() * (1 - alpha) / (1 - now) * x0 + alpha.sqrt() * (1 - before) / (1 - now) * x
        variance = (1 - before) / (1 - now) * (1 - alpha)
        return (mean + variance.sqrt() * noise).to(x.dtype)

    def ddim_step(self, x, t, earlier, predicted_noise, eta=0.0, noise=0.0):
        """x at time `earlier`, equations (12) and (16) of DDIM; eta 0 adds no noise."""
        x0 = self.predict_x0(x, t, predicted_noise)
        now, then = self.at(t, x), self.at(earlier, x)
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        direction = (1 - then - sigma.square()).clamp(min=0).sqrt() * self.noise_in(x, t, x0)
        return (then.sqrt() * x0 + direction + sigma * noise).to(x.dtype)

    def times(self, steps):
        """T = t_0 > t_1 > ... > t_steps = 0, evenly spaced."""
        return torch.linspace(self.timesteps, 0, steps + 1).round().long().tolist()


def ddpm_loss(model, x, beta=None, generator=None, *, diffusion):
    """Mean squared error of the predicted noise at uniform times, L_simple (equation (14) of DDPM).

    x: (B, 3, 32, 32) in [-1, 1]; beta is not used. The mean runs over pixels and batch.
    """
    t = torch.randint(1, diffusion.timesteps + 1, (len(x),), device=x.device, generator=generator)
    noise = torch.randn(x.shape, device=x.device, generator=generator)
    predicted = model(diffusion.q_sample(x, t, noise), t)
    return (predicted.float() - noise).square().mean(), OrderedDict()


@torch.no_grad()
def draw(model, diffusion, count, steps, eta=0.0, sampler="ddim", generator=None, after_step=lambda: None):
    """`count` images (count, 3, 32, 32) in [-1, 1] from noise; `generator` is on the model's device."""
    device = next(model.parameters()).device

    def normal():
        return torch.randn(count, 3, 32, 32, device=device, generator=generator)

    x = normal()
    times = diffusion.times(diffusion.timesteps if sampler == "ddpm" else steps)
    for t, earlier in zip(times, times[1:]):
        predicted = model(x, torch.full((count,), t, device=device)).float()
        if sampler == "ddpm":
            x = diffusion.ddpm_step(x, t, predicted, normal() if earlier else 0.0)
        else:
            x = diffusion.ddim_step(x, t, earlier, predicted, eta, normal() if eta and earlier else 0.0)
        after_step()
    return x


# ------------------------------------------------------------------------------------------------
# Training, by the loop of train.py


class WeightAverage:
    """Exponential moving average of a module's weights; the first steps count for more."""

    def __init__(self, module, make, decay):
        self.source, self.decay, self.count = module, decay, 0
        self.module = make().to(next(module.parameters()).device, memory_format=torch.channels_last)
        self.module.load_state_dict(module.state_dict())
        self.module.requires_grad_(False)

    @torch.no_grad()
    def update(self):
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(list(self.module.parameters()), list(self.source.parameters()), 1 - decay)
        self.count += 1

    def state_dict(self):
        return {"weights": self.module.state_dict(), "count": self.count}

    def load_state_dict(self, state):
        self.module.load_state_dict(state["weights"])
        self.count = state["count"]


class DiffusionTrainer(Trainer):
    """Trains a U-Net and keeps the average of its weights, which is what validates and samples."""

    loss_unit = "squared error of the noise per pixel"

    def __init__(self, diffusion, decay, *args):
        self.diffusion = diffusion
        loss = functools.partial(ddpm_loss, diffusion=diffusion)
        super().__init__(UNet(), loss, loss, *args)
        self.average = WeightAverage(self.model, UNet, decay)

    def train_epoch(self, beta_at, after_step):
        def average_first():
            self.average.update()
            after_step()

        return super().train_epoch(beta_at, average_first)

    def validated_model(self):
        return self.average.module

    def save_pictures(self, folder):
        fixed = torch.Generator(self.device).manual_seed(self.seed + 1)
        with measuring(self.average.module), self.precision():
            samples = draw(self.average.module, self.diffusion, 49, 50, generator=fixed)
        grid = save_grid(samples, folder / f"epoch_{self.epoch}_samples.png", nrow=7, zoom=ZOOM)
        save_weights(self.average.module, folder / "model.pt")
        return {"samples": grid}

    def _parts(self):
        return super()._parts() | {"average": self.average}


def train(args):
    device = resolve_device(args.device)
    check_folder(args.out_dir, RESULTS, args.resume, args.overwrite)
    same_run = {"model": "ddpm", "timesteps": TIMESTEPS, "batch_size": args.batch_size, "lr": args.lr,
                "grad_clip": args.grad_clip, "decay": args.decay, "seed": args.seed}  # fmt: skip
    images = open_data(args)
    torch.manual_seed(args.seed)
    trainer = DiffusionTrainer(
        Diffusion(), args.decay, images, args.batch_size, args.grad_clip, args.lr, device,
        number_format(device, not args.disable_amp), args.seed,
    )  # fmt: skip
    rows = fit(
        args.out_dir, trainer, same_run, args.num_epochs, lambda epoch, step: None, args.eval_interval,
        resume=args.resume, save_minutes=args.save_minutes, options={"dataset": args.dataset},
    )  # fmt: skip
    print(
        f"validation loss at epoch {rows[-1]['epoch']}: {rows[-1]['val_loss']:.5f}; results in {args.out_dir}"
    )


# ------------------------------------------------------------------------------------------------
# Folders of pictures


def sample(args):
    """Write `--num` samples of a trained model as PNGs."""
    device = resolve_device(args.device)
    check_new_folder(args.out, args.overwrite)
    model = load_model(args.model, device)
    if device.type == "cpu":
        keep_freed_memory()
    diffusion, dtype = Diffusion(), number_format(device, not args.disable_amp)
    steps = TIMESTEPS if args.sampler == "ddpm" else args.steps
    counts = [min(args.batch_size, args.num - start) for start in range(0, args.num, args.batch_size)]
    # A seed for each batch: whatever was drawn before, here or in an interrupted process, it is the same.
    seeds = torch.randint(2**62, (len(counts),), generator=torch.Generator().manual_seed(args.seed)).tolist()
    settings = [steps, args.sampler, args.eta, args.num, args.batch_size, args.seed, device.type, str(dtype)]
    key = hashlib.sha256(args.model.read_bytes() + repr(settings).encode()).hexdigest()[:8]
    try:
        with (
            NewFolder(args.out, counts, key, args.overwrite) as folder,
            StopSignal() as stop,
            tqdm(
                total=len(counts) * steps, initial=folder.batch * steps, unit="step", dynamic_ncols=True
            ) as bar,
            measuring(model),
            autocast(device, dtype),
        ):

            def after_step():
                bar.update()
                stop.check()

            for count, seed in list(zip(counts, seeds))[folder.batch :]:
                generator = torch.Generator(device).manual_seed(seed)
                x = draw(model, diffusion, count, steps, args.eta, args.sampler, generator, after_step)
                if not torch.isfinite(x).all():
                    raise InputError(
                        f"--model: {args.model} gives non-finite images; give another, or --disable_amp"
                    )
                folder.add(x.add(1).mul(127.5).round().to(torch.uint8).cpu())
    except Interrupted as error:
        raise Interrupted(stop.arrived, f"{error}; the same command goes on") from None
    how = "DDPM, 1000 steps" if args.sampler == "ddpm" else f"DDIM, {steps} steps, eta {args.eta:g}"
    print(f"{args.num} samples ({how}) are in {args.out}")


def load_model(path, device):
    """The U-Net with the weights of a model.pt, or InputError."""
    model = UNet().to(device, memory_format=torch.channels_last)
    weights = load_tensors(path, "--model")
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError):
        raise InputError(f"--model: {path} does not hold the weights of this U-Net") from None
    return model


def reference(args):
    """Write the training images as PNGs."""
    check_new_folder(args.out, args.overwrite)
    images, _ = open_data(args)
    batches = images.split(500)
    with NewFolder(
        args.out, [len(batch) for batch in batches], fingerprint(images), args.overwrite
    ) as folder:
        for batch in tqdm(batches[folder.batch :], unit_scale=500, unit="image", dynamic_ncols=True):
            folder.add(batch)
    print(f"{len(images)} images are in {args.out}")


def check_new_folder(folder, overwrite):
    """An --out that does not exist or is empty; with --overwrite also one that holds such pictures alone."""
    if not folder.exists():
        return
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name]
    if not folder.is_dir() or (names and not overwrite):
        raise InputError(f"--out: {folder} exists; give --overwrite or another folder")
    if foreign := [name for name in names if not re.fullmatch(r"\d{5,}\.png", name)]:
        raise InputError(
            f"--out: {folder} holds other files than samples ({foreign[0]}); give another folder"
        )


class NewFolder:
    """A folder of 00000.png, ... that is there whole or not at all, made batch by batch.

    counts: images in each batch. What an interrupted process with the same `key` had finished is
    kept beside the folder; `batch` is the next one to `add`. overwrite: drop what others had begun.
    """

    def __init__(self, folder, counts, key, overwrite):
        self.folder, self.counts, self.overwrite = folder.resolve(), counts, overwrite
        self.unfinished = self._beside(key)

    def _beside(self, word):
        return self.folder.with_name(f".unfinished-{word}.{self.folder.name}")

    def __enter__(self):
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        begun = re.compile(r"\.unfinished-\w+\." + re.escape(self.folder.name))
        for other in [path for path in self.folder.parent.iterdir() if begun.fullmatch(path.name)]:
            if other == self.unfinished:
                continue
            if not self.overwrite:
                raise InputError(
                    f"--out: {other} holds unfinished images of other settings; delete it or give --overwrite"
                )
            shutil.rmtree(other)
        self.unfinished.mkdir(exist_ok=True)
        whole = len(list(self.unfinished.iterdir())) - 1  # the last one may have been cut
        self.batch = sum(end <= whole for end in itertools.accumulate(self.counts))
        return self

    def add(self, images):
        """uint8 (B, 3, H, W)."""
        first = sum(self.counts[: self.batch])
        for index, image in enumerate(images, start=first):
            to_pil_image(image).save(self.unfinished / f"{index:05d}.png")
        self.batch += 1

    def __exit__(self, error, *rest):
        if error is None:
            old = self._beside("old")
            if self.folder.exists():
                self.folder.rename(old)
            self.unfinished.rename(self.folder)
            shutil.rmtree(old, ignore_errors=True)
        elif issubclass(error, InputError):  # these settings will not get further
            shutil.rmtree(self.unfinished)


# ------------------------------------------------------------------------------------------------
# Command line


def get_args(argv=None):
    parser = OneLineParser(__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train|sample|reference", parser_class=OneLineParser
    )
    positive, count, share = number(float, 0, above=True), number(int, 1), number(float, 0, maximum=1)

    training = commands.add_parser("train", description="Train the U-Net; --resume goes on.")
    training.add_argument("--num_epochs", type=count, default=60, metavar="N", help="(60)")
    training.add_argument("--batch_size", type=count, default=128, metavar="B", help="(128)")
    training.add_argument("--lr", type=positive, default=5e-4, help="learning rate of Adam (0.0005)")
    training.add_argument("--grad_clip", type=positive, default=1.0, help="largest norm of the gradient (1)")
    training.add_argument("--decay", type=share, default=0.999, help="of the average of the weights (0.999)")
    training.add_argument(
        "--eval_interval", type=count, default=5, metavar="N", help="epochs between pictures (5)"
    )
    training.add_argument(
        "--out_dir",
        type=Path,
        metavar="FOLDER",
        help="run folder (default: vae/data/ddpm, _synthetic added for those images)",
    )
    training.add_argument(
        "--save_minutes", type=positive, default=5.0, metavar="M", help="minutes between saved states (5)"
    )
    training.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="STATE",
        help="go on from the run folder's state, or a path",
    )
    training.add_argument("--overwrite", action="store_true", help="replace the results in the run folder")

    sampling = commands.add_parser("sample", description="Write samples of a trained model as PNGs.")
    sampling.add_argument(
        "--model",
        type=Path,
        default=DATA_DIR / "ddpm" / "model.pt",
        metavar="FILE",
        help="(vae/data/ddpm/model.pt)",
    )
    sampling.add_argument("--num", type=count, default=2000, metavar="N", help="images (2000)")
    sampling.add_argument(
        "--sampler", choices=("ddim", "ddpm"), default="ddim", help="ddpm: ancestral, 1000 steps (ddim)"
    )
    sampling.add_argument(
        "--steps", type=number(int, 1, maximum=TIMESTEPS), default=50, metavar="S", help="of DDIM (50)"
    )
    sampling.add_argument(
        "--eta", type=share, default=0.0, help="noise of DDIM: 0 none, 1 as much as DDPM (0)"
    )
    sampling.add_argument("--batch_size", type=count, default=250, metavar="B", help="images at a time (250)")

    images = commands.add_parser(
        "reference", description="Write the training images as PNGs, to score samples against."
    )
    for command in (sampling, images):
        command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the PNGs go")
        command.add_argument("--overwrite", action="store_true", help="replace that folder")
    for command in (training, sampling):
        command.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
        command.add_argument("--disable_amp", action="store_true", help="float32 throughout")
    for command in (training, images):
        add_data_options(command)
    for command in (training, sampling, images):
        command.add_argument("--seed", type=number(int, 0), default=0, help="(0)")
    args = parser.parse_args(argv)

    if getattr(args, "resume", None) and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    if args.command == "train":
        suffix = "_synthetic" if args.dataset == "synthetic" else ""
        args.out_dir = (args.out_dir or DATA_DIR / f"ddpm{suffix}").absolute()
    if args.command == "sample" and args.sampler == "ddpm" and (args.eta or args.steps != 50):
        parser.error("--steps and --eta belong to DDIM; leave them out for --sampler ddpm")
    return args


if __name__ == "__main__":
    arguments = get_args()
    with exit_codes():
        {"train": train, "sample": sample, "reference": reference}[arguments.command](arguments)
