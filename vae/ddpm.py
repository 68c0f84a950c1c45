"""A diffusion model of CIFAR-10: a hierarchical VAE whose encoder is fixed and adds noise.

    python vae/ddpm.py train                                        -> vae/data/ddpm/
    python vae/ddpm.py sample --steps 50 --num 2000 --out samples   DDIM; a folder of PNGs
    python vae/ddpm.py sample --sampler ddpm --num 500 --out samples1000
    python vae/ddpm.py reference --out cifar10                      the training images as PNGs

The mathematics is in diffusion.py. `python gan/fid.py samples cifar10` scores the samples.
"""

if __name__ == "__main__":  # a slip in the command line is told before torch loads
    from settings import get_diffusion_args

    arguments = get_diffusion_args(__doc__)

import argparse
import dataclasses
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import logger
import torch
from dataset import open_data
from diffusion import Diffusion, ddpm_loss, draw
from pictures import PictureFolder, check_new_folder
from settings import TIMESTEPS, DiffusionSettings
from torch import Tensor, nn
from tqdm import tqdm
from train import Trainer, choose_precision, fit
from unet import UNet
from utils import ZOOM

from common import InputError, Interrupted
from common.command_line import exit_codes, given_settings
from common.device import Precision, prepare, resolve_device
from common.files import fingerprint, load_weights, save_grid, save_weights
from common.measure import measuring
from common.run import RunFolder, StopSignal

# A format of its own: states of before `predict` cannot say what their networks predict.
LAYOUT = dataclasses.replace(
    logger.LAYOUT,
    state_format="ddpm-state-1",
    results=(*logger.LAYOUT.results, "samplers.csv"),  # tests/vae/bench_samplers.py's, of model.pt
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


class DiffusionTrainer(Trainer):
    """Trains a U-Net and keeps the average of its weights, which is what validates and samples."""

    units = {"loss": "squared error of the prediction per pixel"}

    def __init__(
        self, images: tuple[Tensor, Tensor], settings: DiffusionSettings, precision: Precision
    ):
        torch.manual_seed(settings.seed)
        super().__init__(UNet(), images, settings, precision)
        self.diffusion = Diffusion(settings.timesteps, settings.predict)
        self.average = WeightAverage(self.model, UNet, settings.decay)

    def loss(
        self, model: nn.Module, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, OrderedDict]:
        """Of the predicted noise or v."""
        with self.precision():
            return ddpm_loss(model, x, self.diffusion, generator), OrderedDict()

    val_loss = loss

    def after_step(self) -> None:
        """One step more in the average."""
        self.average.update()

    def validated_model(self) -> nn.Module:
        """The average."""
        return self.average.module

    def save_pictures(self, folder: Path) -> dict[str, Tensor]:
        """49 samples from the same noise."""
        fixed = torch.Generator(self.device).manual_seed(self.settings.seed + 1)
        model = self.average.module
        with measuring(model), self.precision():
            samples = draw(model, self.diffusion, 49, 50, generator=fixed)
        path = folder / f"epoch_{self.epoch}_samples.png"
        grid = save_grid(samples, path, nrow=7, zoom=ZOOM)
        save_weights(model, folder / "model.pt")
        return {"samples": grid}

    def _parts(self) -> dict:
        return super()._parts() | {"average": self.average}


# ------------------------------------------------------------------------------------------------
# The three commands


def train(args: argparse.Namespace) -> None:
    """Train the U-Net."""
    settings = DiffusionSettings(**given_settings(args, DiffusionSettings))
    precision = choose_precision(resolve_device(args.device), not args.disable_amp)
    with RunFolder(args.out_dir, LAYOUT, args.resume, args.overwrite) as run:
        images = open_data(settings, args.download)
        rows = fit(DiffusionTrainer(images, settings, precision), run)
    loss, epoch = rows[-1]["val_loss"], rows[-1]["epoch"]
    print(f"validation loss at epoch {epoch}: {loss:.5f}; results in {args.out_dir}")


def sample(args: argparse.Namespace) -> None:
    """Write `--num` samples of a trained model as PNGs."""
    precision = choose_precision(resolve_device(args.device), not args.disable_amp)
    device = precision.device
    check_new_folder(args.out, args.overwrite)
    model = UNet().to(device).to(memory_format=torch.channels_last)
    load_weights(model, args.model, "--model")
    predict = args.predict or recorded_prediction(args.model)
    prepare(precision)
    diffusion = Diffusion(TIMESTEPS, predict)
    steps = len(diffusion.times(args.steps or TIMESTEPS, args.until)) - 1
    starts = range(0, args.num, args.batch_size)
    counts = [min(args.batch_size, args.num - start) for start in starts]
    # A seed for each batch: whatever was drawn before, here or in an interrupted process.
    rng = torch.Generator().manual_seed(args.seed)
    seeds = torch.randint(2**62, (len(counts),), generator=rng).tolist()
    names = ("sampler", "steps", "eta", "until", "num", "batch_size", "seed")
    of = [*(getattr(args, name) for name in names), predict, device.type, precision.name]
    key = hashlib.sha256(args.model.read_bytes() + repr(of).encode()).hexdigest()[:8]
    try:
        with (
            PictureFolder(args.out, counts, key, args.overwrite) as folder,
            StopSignal() as stop,
            tqdm(total=len(counts) * steps, initial=folder.batch * steps, unit="step") as bar,
            measuring(model),
            precision(),
        ):

            def after_step() -> None:
                bar.update()
                stop.check()

            for count, seed in list(zip(counts, seeds, strict=True))[folder.batch :]:
                rng = torch.Generator(device).manual_seed(seed)
                x = draw(model, diffusion, count, args.steps, args.eta, rng, after_step, args.until)
                if not torch.isfinite(x).all():
                    raise InputError(
                        f"--model: {args.model} gives non-finite images; "
                        "give another, or --disable_amp"
                    )
                folder.add(x.add(1).mul(127.5).round().to(torch.uint8).cpu())
    except Interrupted as error:
        code = error.exit_code - 128
        raise Interrupted(code, f"{error}; the same command goes on") from None
    how = f"DDIM, {steps} steps, eta {args.eta:g}" if args.steps else f"DDPM, {steps} steps"
    how += f", none from a time below {args.until}" if args.until > 1 else ""
    print(f"{args.num} samples ({how}) are in {args.out}")


def recorded_prediction(model: Path) -> str:
    """What a model predicts, as the config.json beside it says; an older one: the noise."""
    path = model.parent / "config.json"
    try:
        config = json.loads(path.read_text())
        return DiffusionSettings(predict=config.get("predict", "noise")).predict
    except (OSError, ValueError, AttributeError, InputError) as error:
        raise InputError(f"--model: cannot read {path} ({error}); give --predict") from None


def reference(args: argparse.Namespace) -> None:
    """Write the training images as PNGs."""
    check_new_folder(args.out, args.overwrite)
    settings = DiffusionSettings(**given_settings(args, DiffusionSettings))
    images, _ = open_data(settings, args.download)
    batches = images.split(500)
    counts = [len(batch) for batch in batches]
    with PictureFolder(args.out, counts, fingerprint(images), args.overwrite) as folder:
        for batch in tqdm(batches[folder.batch :], unit_scale=500, unit="image"):
            folder.add(batch)
    print(f"{len(images)} images are in {args.out}")


COMMANDS = {"train": train, "sample": sample, "reference": reference}

if __name__ == "__main__":
    with exit_codes():
        COMMANDS[arguments.command](arguments)
