"""Autoencoder, VAE and beta-VAE on CIFAR-10 (questions 2.1, 2.2 and 2.3).

    python vae/train.py vae_latent1024                     one run of the assignment, by name
    python vae/train.py all                                all nine; goes on where it stopped
    python vae/train.py --log_dir mine --loss_mode vae --latent_size 64 --num_epochs 5
    python vae/train.py --evaluate vae/data/vae_latent1024    its saved model, measured again

The runs of the assignment: {presets}.
Neighbours of theirs, from other reports: {neighbours}.
"""

if __name__ == "__main__":  # a slip in the command line is told before torch loads
    from settings import get_args

    arguments = get_args(__doc__)

import argparse
import contextlib
import dataclasses
import functools
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from dataset import Batches, open_data, to_signed
from flows import PlanarVAE, planar_vae_loss
from logger import LAYOUT, TERMS, Logger
from losses import ae_loss, free_bits_loss, vae_loss
from model import AEModel
from schedules import beta_schedule, constant_beta_scheduler, linear_beta_scheduler  # noqa: F401
from settings import DATA_DIR, Settings, TrainingSettings
from small_ae import SmallAE
from torch import Tensor, nn
from utils import count_active_latents, vis_recons, vis_samples

from common import InputError, NonFiniteError
from common.command_line import UNNAMED, exit_codes
from common.device import Precision, autocast_dtype, prepare, resolve_device
from common.files import atomic, fingerprint, load_weights, save_weights
from common.measure import RunningMeans, check_weights, measuring
from common.run import (
    Forecast,
    RunFolder,
    StopSignal,
    check_recorded_data,
    check_recorded_path,
    last_good_state,
    progress_bar,
    recorded_settings,
    results_folder,
    rng_state,
    set_rng_state,
    stoppable,
)

Loss = Callable[..., tuple[Tensor, OrderedDict]]  # of (model, x, generator=)
Loader = Iterable[tuple[Tensor, Any]]  # images (B, 3, 32, 32) in [-1, 1], anything


def loss_of(loss_mode: Any, beta: float = 1) -> Loss:
    """The loss called "ae" or "vae"; a function stays what it is."""
    if loss_mode == "ae":
        return lambda model, x, generator=None: ae_loss(model, x)
    return functools.partial(vae_loss, beta=beta) if loss_mode == "vae" else loss_mode


def run_train_epoch(
    model: nn.Module,
    loss_mode: Any,
    train_loader: Loader,
    optimizer: torch.optim.Optimizer,
    beta: float = 1,
    grad_clip: float = 1,
    means: RunningMeans | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> OrderedDict:
    """One pass over train_loader: (images in [-1, 1], anything) pairs. Returns its mean terms.

    loss_mode: "ae", "vae" (with this beta), or a function (model, x) as in losses.py. The means
    weigh images equally, whatever the batch sizes; `means` holds those of an epoch that is gone on
    with. `after_step` may raise to stop.
    """
    device, loss_fn = next(model.parameters()).device, loss_of(loss_mode, beta)
    means = means or RunningMeans(TERMS, device)
    model.train()
    for step, (x, _) in enumerate(train_loader, start=1):
        x = x.to(device)  # (B, 3, 32, 32) in [-1, 1]
        optimizer.zero_grad()
        loss, terms = loss_fn(model, x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        detached = {name: term.detach() for name, term in terms.items()}
        means.add({"loss": loss.detach()} | detached, step, len(x))
        after_step()
    return OrderedDict(means.means())


def get_val_metrics(model: nn.Module, loss_mode: Any, val_loader: Loader) -> OrderedDict:
    """Mean terms over val_loader, with beta 1 and, for a VAE, the same noise at every call."""
    loss_fn = loss_of(loss_mode)
    with measuring(model) as device:
        generator = torch.Generator(device).manual_seed(0)
        means = RunningMeans(TERMS, device)
        for x, _ in val_loader:
            x = x.to(device)  # (B, 3, 32, 32) in [-1, 1]
            loss, terms = loss_fn(model, x, generator=generator)
            means.add({"loss": loss} | terms, 1, len(x))
    return OrderedDict(means.means())


class Trainer:
    """All that training changes; `state_dict` is the whole of it."""

    units: dict[str, str] = {}  # of the losses, where they are not those of logger.UNITS

    def __init__(
        self,
        model: nn.Module,
        images: tuple[Tensor, Tensor],
        settings: TrainingSettings,
        precision: Precision,
    ):
        """images: uint8 (N, 3, 32, 32), for training and for validation."""
        self.settings: Any = find_out(settings, images, precision)
        self.precision, self.device = precision, precision.device
        device = precision.device
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.lr, fused=True)
        self.shuffler = torch.Generator(device).manual_seed(settings.seed)
        self.train_loader = Batches(images[0], settings.batch_size, device, self.shuffler)
        self.val_loader = Batches(images[1], settings.batch_size, device)
        self.means = RunningMeans(TERMS, device)  # of the current epoch
        self.epoch = 0

    @property
    def step(self) -> int:
        """The step under way, over the whole run from 0; between two epochs the one just done."""
        loader = self.train_loader
        return self.epoch * len(loader) + (loader.taken or len(loader)) - 1

    def loss(self, model: Any, x: Tensor) -> tuple[Tensor, OrderedDict]:
        """What a training step minimises, and its terms."""
        raise NotImplementedError

    def val_loss(
        self, model: Any, x: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, OrderedDict]:
        """What validation averages."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Whatever else a step changes."""

    def validated_model(self) -> nn.Module:
        """The one whose losses and pictures are shown."""
        return self.model

    def extra_columns(self) -> dict:
        """More of the row of an epoch."""
        return {}

    def save_pictures(self, folder: Path) -> dict[str, Tensor]:
        """Write the pictures and weights of this epoch; returns {TensorBoard tag: grid}."""
        raise NotImplementedError

    def finish_epoch(self) -> None:
        """The next one begins."""
        self.means.clear()
        self.epoch += 1

    def check_finite(self) -> None:
        """Raise NonFiniteError if any loss so far, or any weight now, is NaN or infinite."""
        self.means.check_finite()
        check_weights(self.model)

    def _parts(self) -> dict:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "batches": self.train_loader,
            "means": self.means,
        }

    def state_dict(self) -> dict:
        """Tensors and builtins only, so that it loads with `weights_only=True`."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"shuffler": self.shuffler.get_state(), "rng": rng_state(self.device)}
        return state | {"epoch": self.epoch}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch = state["epoch"]
        self.shuffler.set_state(state["shuffler"])
        set_rng_state(state["rng"], self.device)


class AutoencoderTrainer(Trainer):
    """Trains the model of `Settings`."""

    def __init__(self, images: tuple[Tensor, Tensor], settings: Settings, precision: Precision):
        torch.manual_seed(settings.seed)
        super().__init__(build(settings), images, settings, precision)
        steps = settings.num_epochs * len(self.train_loader)
        if settings.beta_mode == "cyclical" and 2 * settings.cycles > steps:
            raise InputError(
                f"--cycles: got {settings.cycles}, expected at most half of the run's {steps} steps"
            )
        self.beta_at = beta_schedule(settings, len(self.train_loader))

    @property
    def beta(self) -> float:
        """Of the step under way."""
        return self.beta_at(self.epoch, self.step)

    def loss(self, model: Any, x: Tensor) -> tuple[Tensor, OrderedDict]:
        """With the schedule's beta."""
        with self.precision():
            if self.settings.free_bits:
                return free_bits_loss(model, x, self.beta, free_bits=self.settings.free_bits)
            if self.settings.flows:
                return planar_vae_loss(model, x, self.beta)
            return loss_of(self.settings.loss_mode, self.beta)(model, x)

    def val_loss(
        self, model: Any, x: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, OrderedDict]:
        """With beta 1, without free bits."""
        with self.precision():
            loss_fn = planar_vae_loss if self.settings.flows else loss_of(self.settings.loss_mode)
            return loss_fn(model, x, generator=generator)

    def extra_columns(self) -> dict:
        """Beta, and at the epochs with pictures how many latents tell images apart."""
        columns: dict = {"beta": float(self.beta)}
        # What a row holds never depends on how long the run is.
        regular = (self.epoch + 1) % self.settings.eval_interval == 0
        if regular and getattr(self.model, "variational", False):
            active = count_active_latents(self.model, self.val_loader, self.precision)
            columns["active_latents"] = active
        return columns

    def save_pictures(self, folder: Path) -> dict[str, Tensor]:
        """Reconstructions of 36 validation images, and 49 samples from the same latents."""
        grids = self.draw(folder / f"epoch_{self.epoch}")
        save_weights(self.model, folder / "model.pt")
        return grids

    def draw(self, start: Path) -> dict[str, Tensor]:
        """To files whose names begin with `start`; returns the grids."""
        images = to_signed(self.val_loader.images[:36])  # (36, 3, 32, 32) in [-1, 1]
        fixed = torch.Generator(self.device).manual_seed(self.settings.seed + 1)
        recons = vis_recons(self.model, images, f"{start}_recons.png")
        samples = vis_samples(self.model, f"{start}_samples.png", generator=fixed)
        return {"reconstructions": recons, "samples": samples}


def choose_precision(device: torch.device, amp_enabled: bool) -> Precision:
    """bfloat16 where the hardware has it, else float32: float16 would need a gradient scaler."""
    dtype = autocast_dtype(device, amp_enabled)
    return Precision(device, None if dtype == torch.float16 else dtype)


def find_out(settings: Any, images: tuple[Tensor, Tensor], precision: Precision) -> Any:
    """The settings together with what only a start knows."""
    return dataclasses.replace(
        settings,
        data=fingerprint(*images),
        device=precision.device.type,
        number_format=precision.name,
    )


def build(settings: Settings) -> nn.Module:
    """The model of a run's settings."""
    if settings.flows:
        return PlanarVAE(settings.latent_size, settings.flows)
    if settings.network == "small":
        return SmallAE()
    return AEModel(settings.loss_mode == "vae", settings.latent_size)


# ------------------------------------------------------------------------------------------------
# The loop


def fit(trainer: Trainer, run: RunFolder) -> list[dict]:
    """Train until the settings' num_epochs, from the start or from the run's state.

    Returns the rows of metrics.csv. Raises InputError, NonFiniteError, Interrupted.
    """
    settings = trainer.settings
    run.check_settings(settings)
    run.restore(trainer)
    if trainer.epoch > settings.num_epochs:
        raise InputError(
            f"--num_epochs: got {settings.num_epochs}, the run has {trainer.epoch} already"
        )
    if is_finished(run, trainer.epoch, settings):
        print(f"{run.folder.name}: finished already; --overwrite repeats it")
        return run.rows
    prepare(trainer.precision)
    counts = [len(loader.images) for loader in (trainer.train_loader, trainer.val_loader)]
    parameters = sum(p.numel() for p in trainer.model.parameters())
    run.begin(settings, images=counts, parameters=parameters)
    where = f"of {run.folder.name}"
    try:
        with stoppable(run, trainer, lambda: f"in epoch {trainer.epoch} {where}") as stop:
            training_loop(trainer, Logger(run, trainer), stop)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{error}, in epoch {trainer.epoch} since its start or resume; "
            f"{last_good_state(run.folder)}"
        ) from None
    return run.rows


def is_finished(run: RunFolder, epoch: int, settings: TrainingSettings) -> bool:
    """Whether nothing is left to do at this epoch: no step, and no pictures of the last one.

    These are missing where a longer run was stopped there and is now ended with fewer epochs.
    """
    drawn = (run.folder / f"epoch_{epoch - 1}_samples.png").exists()
    return epoch > settings.num_epochs or (epoch == settings.num_epochs and drawn)


def training_loop(trainer: Trainer, logger: Logger, stop: StopSignal) -> None:
    """Epoch by epoch: train, validate, log, save; the state also within an epoch."""
    settings, run, loader = trainer.settings, logger.run, trainer.train_loader
    done, total = trainer.epoch * len(loader) + loader.taken, settings.num_epochs * len(loader)
    if done:
        run.save(trainer)  # a state from elsewhere stands here too
    if done == total:  # only the pictures and weights of the last epoch are missing
        trainer.epoch -= 1
        logger.save_pictures()
        logger.animate()
        trainer.epoch += 1
        return
    forecast = Forecast("step", total - done, 4, trainer.precision)
    with progress_bar(done, total, "step", run.folder.name) as bar:

        def after_step() -> None:
            trainer.after_step()
            bar.update()
            forecast.step()
            run.save_if_due(trainer)
            stop.check()

        ended = stopped_improving(run.rows, settings.patience)
        while trainer.epoch < settings.num_epochs and not ended:
            train_means = run_train_epoch(
                trainer.model,
                trainer.loss,
                loader,
                trainer.optimizer,
                grad_clip=settings.grad_clip,
                means=trainer.means,
                after_step=after_step,
            )
            model = trainer.validated_model()
            val_means = get_val_metrics(model, trainer.val_loss, trainer.val_loader)
            logger.log(train_means, val_means, trainer.extra_columns())
            ended = stopped_improving(run.rows, settings.patience)
            last = ended or trainer.epoch + 1 == settings.num_epochs
            if last or (trainer.epoch + 1) % settings.eval_interval == 0:
                logger.save_pictures()
            if last:
                logger.animate()
            trainer.finish_epoch()
            run.save(trainer)
            stop.check()  # a signal during validation or pictures
            shown = {name: f"{value:.1f}" for name, value in val_means.items()}
            bar.set_postfix(shown, refresh=False)


def stopped_improving(rows: list[dict], patience: int | None) -> bool:
    """Whether `patience` epochs have brought no better validation loss; None: never."""
    if patience is None or not rows:
        return False
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) >= patience


# ------------------------------------------------------------------------------------------------
# From Python and from the command line


def main(
    log_dir: str | Path,
    loss_mode: str = "vae",
    beta_mode: str = "constant",
    num_epochs: int = 20,
    batch_size: int = 256,
    latent_size: int = 256,
    target_beta_val: float = 1,
    grad_clip: float = 1,
    lr: float = 1e-3,
    eval_interval: int = 5,
    *,
    images: tuple[Tensor, Tensor] | None = None,
    device: str | torch.device | None = None,
    amp_enabled: bool = True,
    resume: bool | str | Path | None = None,
    overwrite: bool = False,
    settings: Settings | None = None,
) -> list[dict]:
    """Train one model for `num_epochs` epochs and write its results to `log_dir`.

    log_dir: the run's folder (relative: under vae/data). images: uint8 (training, validation);
    default those of the settings. resume: True for the folder's own state, or a path. settings: a
    whole run, PRESETS["vae_latent16"] for one; before it go the arguments that are not at their
    defaults. Returns the rows of metrics.csv. Raises InputError before any work, NonFiniteError,
    Interrupted.
    """
    arguments = {
        "loss_mode": loss_mode,
        "beta_mode": beta_mode,
        "num_epochs": num_epochs,
        "batch_size": batch_size,
        "latent_size": latent_size,
        "target_beta_val": target_beta_val,
        "grad_clip": grad_clip,
        "lr": lr,
        "eval_interval": eval_interval,
    }
    default = Settings()
    given: dict = {name: v for name, v in arguments.items() if v != getattr(default, name)}
    given |= {} if images is None else {"dataset": UNNAMED}
    settings = dataclasses.replace(settings or default, **given)
    precision = choose_precision(resolve_device(device), amp_enabled)
    with RunFolder(DATA_DIR / log_dir, LAYOUT, resume, overwrite) as run:
        return fit(AutoencoderTrainer(images or open_data(settings), settings, precision), run)


def run_all(args: argparse.Namespace) -> None:
    """Train what the command line names, one after the other; refusals come before the first."""
    precision = choose_precision(resolve_device(args.device), not args.disable_amp)
    todo = []
    with contextlib.ExitStack() as held:
        for name, settings in args.runs.items():
            folder = args.out_dir.absolute() / name
            begun = (folder / "state.pt").exists() and not args.overwrite
            named = args.resume if len(args.runs) == 1 else None
            run = held.enter_context(RunFolder(folder, LAYOUT, named or begun, args.overwrite))
            finished = run.state and is_finished(run, run.state.get("epoch", 0), settings)
            if begun and not finished and not (args.resume or "all" in args.presets):
                raise run.refusal()
            run.check_settings(settings)
            if finished:
                print(f"{name}: finished already; --overwrite repeats it")
                run.close()
            else:
                todo.append((run, settings))
        if not todo:
            return
        images = open_data(todo[0][1], args.download)
        for run, settings in todo:
            run.check_settings(find_out(settings, images, precision))
        for run, settings in todo:
            with run:
                rows = fit(AutoencoderTrainer(images, settings, precision), run)
            shown = {name[4:]: value for name, value in rows[-1].items() if name[:4] == "val_"}
            losses = ", ".join(f"{name.replace('_', ' ')} {shown[name]:.2f}" for name in shown)
            epoch = rows[-1]["epoch"]
            print(
                f"{run.folder.name}: validation at epoch {epoch}: {losses}; results in {run.folder}"
            )


def evaluate(args: argparse.Namespace) -> None:
    """Validate and draw a saved model with its run's settings.

    The results go beside its file, or to --out_dir.
    """
    path = Path(args.evaluate)
    path = path / "model.pt" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"--evaluate: no file {path}; give a run's folder, or its model.pt")
    folder, given = path.parent, args.settings
    recorded = recorded_settings(folder, "--evaluate")
    if "loss_mode" not in recorded:
        what = "is not that of a run of train.py" if recorded else "is missing"
        raise InputError(
            f"--evaluate: {folder / 'config.json'} {what}; give a run's folder, or its model.pt "
            "beside its config.json"
        )
    out = results_folder(args.out_dir, folder)
    if "dataset" not in given and "data_dir" not in given:
        check_recorded_path(folder, recorded, "data_dir", "--evaluate")
    if "data_dir" in given:
        given = {"dataset": "cifar10"} | given
    known = {field.name for field in dataclasses.fields(Settings) if field.init}
    settings = Settings(**{name: recorded[name] for name in known & recorded.keys()} | given)
    if settings.dataset == UNNAMED:
        raise InputError(f"--evaluate: the run in {folder} does not name its data; give --data_dir")
    amp_enabled = not args.disable_amp and recorded.get("number_format") != "float32"
    precision = choose_precision(resolve_device(args.device), amp_enabled)
    model = build(settings)
    load_weights(model, path, "--evaluate")  # before the data, which take a while
    images = open_data(settings, args.download)
    check_recorded_data(folder, recorded, fingerprint(*images))
    trainer = AutoencoderTrainer(images, settings, precision)
    trainer.model.load_state_dict(model.state_dict())
    prepare(precision)
    losses = get_val_metrics(trainer.model, trainer.val_loss, trainer.val_loader)
    row = {"model": path.name} | {f"val_{name}": value for name, value in losses.items()}
    row |= {"images": len(images[1]), "data": trainer.settings.data}
    row |= {"number_format": precision.name}
    out.mkdir(parents=True, exist_ok=True)
    trainer.draw(out / path.stem)
    with atomic(out / f"{path.stem}_score.json") as unfinished:
        unfinished.write_text(json.dumps(row, indent=2) + "\n")
    shown = ", ".join(f"{name.replace('_', ' ')} {losses[name]:.2f}" for name in losses)
    print(f"{path}: validation: {shown}; pictures are in {out}")


if __name__ == "__main__":
    with exit_codes():
        evaluate(arguments) if arguments.evaluate else run_all(arguments)
