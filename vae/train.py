"""Autoencoder, VAE and beta-VAE on CIFAR-10 (questions 2.1, 2.2 and 2.3).

    python vae/train.py vae_latent1024                     one run of the assignment, by name
    python vae/train.py all                                all nine; goes on where it stopped
    python vae/train.py --log_dir mine --loss_mode vae --latent_size 64 --num_epochs 5

The runs of the assignment: {presets}.
Neighbours of theirs, from other reports: {neighbours}.
"""

import contextlib
import copy
import functools
import math
import sys
import time
from collections import OrderedDict

import torch
from tqdm import tqdm

from command_line import exit_codes
from dataset import DATA_DIR, Batches, draw_shapes, fingerprint, load_cifar10, to_signed
from errors import InputError, Interrupted, NonFiniteError
from flows import PlanarVAE, planar_vae_loss
from hardware import autocast, autocast_dtype, keep_freed_memory, resolve_device
from logger import COLUMNS, RESULTS, STATE_FORMAT, TERMS, Logger
from losses import ae_loss, free_bits_loss, kl_divergence, reparameterise, vae_loss  # noqa: F401 (public here)
from model import AEModel
from options import get_args
from run_log import RunLog, StopSignal, check_folder, load_state, rng_state, save_weights, set_rng_state
from running_means import RunningMeans, check_weights
from schedules import beta_schedule, constant_beta_scheduler, linear_beta_scheduler  # noqa: F401 (public here)
from settings import NEIGHBOUR_SETTINGS, NEIGHBOURS, PRESETS, identity
from small_ae import SmallAE
from utils import count_active_latents, vis_recons, vis_samples

SYNTHETIC_IMAGES = (5_000, 1_000)  # training, validation
LOSSES = {"ae": lambda model, x, beta, generator: ae_loss(model, x), "vae": vae_loss}


# ------------------------------------------------------------------------------------------------
# Training


def run_train_epoch(
    model, loss_mode, train_loader, optimizer, beta=1, grad_clip=1, *,
    precision=contextlib.nullcontext, means=None, after_step=lambda: None,
):  # fmt: skip
    """One pass over train_loader: (images in [-1, 1], anything) pairs. Returns its mean terms.

    loss_mode: "ae", "vae" or a function (model, x, beta, generator) as in losses.py. beta: a number, or
    a function that gives it before each step. The means weigh images equally, whatever the batch
    sizes. `precision()` is the autocast context; `means` holds the terms of an epoch that is gone on
    with; `after_step` may raise to stop.
    """
    device, loss_of = next(model.parameters()).device, LOSSES.get(loss_mode, loss_mode)
    means = means or RunningMeans(TERMS, device)
    model.train()
    for step, (x, _) in enumerate(train_loader, start=1):
        x = x.to(device)
        optimizer.zero_grad()
        with precision():
            loss, terms = loss_of(model, x, beta() if callable(beta) else beta, None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        means.add(
            {"loss": loss.detach()} | {name: term.detach() for name, term in terms.items()}, step, len(x)
        )
        after_step()
    return OrderedDict(means.means())


@torch.no_grad()
def get_val_metrics(model, loss_mode, val_loader, *, precision=contextlib.nullcontext):
    """Mean terms over val_loader, with beta 1 and, for a VAE, the same noise at every call."""
    device, loss_of = next(model.parameters()).device, LOSSES.get(loss_mode, loss_mode)
    generator = torch.Generator(device).manual_seed(0)
    means = RunningMeans(TERMS, device)
    was_training = model.training
    model.eval()
    for x, _ in val_loader:
        x = x.to(device)
        with precision():
            loss, terms = loss_of(model, x, 1, generator)
        means.add({"loss": loss} | terms, 1, len(x))
    model.train(was_training)
    return OrderedDict(means.means())


def main(
    log_dir, loss_mode="vae", beta_mode="constant", num_epochs=20, batch_size=256, latent_size=256,
    target_beta_val=1, grad_clip=1, lr=1e-3, eval_interval=5, *, images=None, seed=0, device=None,
    amp_enabled=True, resume=None, overwrite=False, save_minutes=5.0, options=None, patience=None, **more,
):  # fmt: skip
    """Train one model for `num_epochs` epochs and write its results to `log_dir`.

    log_dir: the run's folder (relative: under vae/data). images: uint8 (training, validation);
    default CIFAR-10. resume: True for the folder's own state, or a path. patience: stop after so many
    epochs without a better validation loss. more: settings of NEIGHBOUR_SETTINGS. options: more for config.json.
    Returns the rows of metrics.csv. Raises InputError before any work, NonFiniteError, Interrupted.
    """
    device = resolve_device(device)
    same_run = identity(
        loss_mode,
        beta_mode,
        num_epochs,
        batch_size,
        latent_size,
        target_beta_val,
        grad_clip,
        lr,
        seed,
        **more,
    )
    check_folder(DATA_DIR / log_dir, RESULTS, resume, overwrite)
    images = images or load_cifar10()
    steps = math.ceil(len(images[0]) / batch_size) * num_epochs
    if beta_mode == "cyclical" and 2 * same_run["cycles"] > steps:
        raise InputError(
            f"--cycles: got {same_run['cycles']}, expected at most half of the run's {steps} steps"
        )
    torch.manual_seed(seed)
    model, loss, val_loss = build(same_run)
    trainer = Trainer(model, loss, val_loss, images, batch_size, grad_clip, lr, device,
                      number_format(device, amp_enabled), seed)  # fmt: skip
    more = NEIGHBOUR_SETTINGS | more
    beta_at = beta_schedule(beta_mode, target_beta_val, num_epochs, len(trainer.train_loader), more["anneal_steps"],
                            more["cycles"], more["ratio"])  # fmt: skip
    return fit(DATA_DIR / log_dir, trainer, same_run, num_epochs, beta_at, eval_interval, resume=resume,
               save_minutes=save_minutes, options=options, patience=patience)  # fmt: skip


def build(settings):
    """The model of a run's settings, and its training and validation losses."""
    loss_mode, latent_size = settings["loss_mode"], settings["latent_size"]
    if settings.get("flows"):
        return PlanarVAE(latent_size, settings["flows"]), planar_vae_loss, planar_vae_loss
    if settings.get("network") == "small":
        return SmallAE(), loss_mode, loss_mode
    loss = loss_mode
    if settings.get("free_bits"):
        loss = functools.partial(free_bits_loss, free_bits=settings["free_bits"])
    return AEModel(loss_mode == "vae", latent_size), loss, loss_mode


def fit(
    folder, trainer, same_run, num_epochs, beta_at, eval_interval, *, resume=None, save_minutes=5.0, options=None,
    patience=None,
):  # fmt: skip
    """Train until `num_epochs` epochs are done, from the start or from a state; see `main`.

    same_run: the settings that a resumed run must share. beta_at: (epoch, step) -> beta.
    """
    device, images = trainer.device, trainer.images
    same_run = same_run | machine_identity(images, device, trainer.dtype)
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = True
    state = None
    if resume:
        state = load_state(folder / "state.pt" if resume is True else resume, STATE_FORMAT, same_run)
        try:
            trainer.load_state_dict(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"--resume: the state does not fit this program ({type(error).__name__}: {error})"
            ) from None
        if trainer.epoch > num_epochs:
            raise InputError(f"--num_epochs: got {num_epochs}, the run has {trainer.epoch} already")
        if trainer.epoch == num_epochs:
            print(f"{folder.name}: finished already; --overwrite repeats it")
            return state["rows"]

    config = {name: value for name, value in same_run.items() if value is not None}
    config |= {"num_epochs": num_epochs, "eval_interval": eval_interval, "images": [len(part) for part in images],
               "parameters": sum(p.numel() for p in trainer.model.parameters())} | (options or {})  # fmt: skip
    if device.type == "cpu" and len(images[0]) * (num_epochs - trainer.epoch) >= 100_000:
        announce_duration(trainer, num_epochs)
    run = RunLog(folder, COLUMNS, RESULTS, config, state)
    logger = Logger(run, trainer, same_run, save_minutes, state["seconds"] if state else 0.0)
    with StopSignal() as stop:
        try:
            try:
                training_loop(trainer, logger, num_epochs, beta_at, eval_interval, patience, stop)
            except Interrupted as error:
                logger.save()
                where = f"in epoch {trainer.epoch} of {folder.name}"
                raise Interrupted(stop.arrived, f"{error} {where}; go on with --resume") from None
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error}, in epoch {trainer.epoch} since its start or resume; the last good state is {folder / 'state.pt'}"
            ) from None
        finally:
            run.close()
    return run.rows


def machine_identity(images, device, dtype):
    return {"data": fingerprint(*images), "device": device.type,
            "number_format": str(dtype or torch.float32).removeprefix("torch.")}  # fmt: skip


def number_format(device, amp_enabled):
    """bfloat16 where the hardware has it, else float32: there is no gradient scaler here for float16."""
    dtype = autocast_dtype(device, amp_enabled)
    return None if dtype == torch.float16 else dtype


def training_loop(trainer, logger, num_epochs, beta_at, eval_interval, patience, stop):
    """Epoch by epoch: train, validate, log, save; `logger` may also save within an epoch."""
    logger.save()
    steps = len(trainer.train_loader)
    done = trainer.epoch * steps - (-trainer.train_loader.cursor // trainer.train_loader.batch_size)
    seconds = 0.5 if sys.stderr.isatty() else 30  # a log file needs no animation
    with tqdm(initial=done, total=num_epochs * steps, unit="step", dynamic_ncols=True, desc=logger.name,
              mininterval=seconds, maxinterval=seconds) as bar:  # fmt: skip

        def after_step():
            bar.update()
            logger.save_if_due()
            stop.check()

        while trainer.epoch < num_epochs and not stopped_improving(logger.run.rows, patience):
            train_means = trainer.train_epoch(beta_at, after_step)
            val_means = trainer.validate()
            regular = (trainer.epoch + 1) % eval_interval == 0
            # What a row holds never depends on how long the run is.
            logger.log(beta_at(trainer.epoch, trainer.step), train_means, val_means, count_latents=regular)
            last = trainer.epoch + 1 == num_epochs or stopped_improving(logger.run.rows, patience)
            if regular or last:
                logger.save_pictures()
            trainer.finish_epoch()
            logger.save()
            stop.check()  # a signal during validation or pictures
            bar.set_postfix({name: f"{value:.1f}" for name, value in val_means.items()}, refresh=False)


def stopped_improving(rows, patience):
    """Whether `patience` epochs have brought no better validation loss; never, where that is None."""
    if patience is None or not rows:
        return False
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) >= patience


class Trainer:
    """All that training changes; `state_dict` is the whole of it."""

    loss_unit = "loss per image"

    def __init__(self, model, loss, val_loss, images, batch_size, grad_clip, lr, device, dtype, seed):
        self.loss, self.val_loss, self.images, self.grad_clip = loss, val_loss, images, grad_clip
        self.device, self.dtype, self.seed = device, dtype, seed
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr, fused=True)
        self.shuffler = torch.Generator(device).manual_seed(seed)
        self.train_loader = Batches(images[0], batch_size, device, self.shuffler)
        self.val_loader = Batches(images[1], batch_size, device)
        self.precision = functools.partial(autocast, device, dtype)
        self.means = RunningMeans(TERMS, device)  # of the current epoch
        self.epoch = 0

    @property
    def step(self):
        """The step under way, counted over the whole run from 0; between two epochs the one just done."""
        loader = self.train_loader
        taken = -(-(loader.cursor or len(loader.images)) // loader.batch_size)  # in this epoch
        return self.epoch * len(loader) + taken - 1

    def train_epoch(self, beta_at, after_step):
        return run_train_epoch(
            self.model, self.loss, self.train_loader, self.optimizer, lambda: beta_at(self.epoch, self.step),
            self.grad_clip, precision=self.precision, means=self.means, after_step=after_step,
        )  # fmt: skip

    def validate(self):
        model = self.validated_model()
        return get_val_metrics(model, self.val_loss, self.val_loader, precision=self.precision)

    def validated_model(self):
        return self.model

    def active_latents(self):
        """For a VAE, how many latents tell validation images apart."""
        if isinstance(self.model, AEModel) and self.model.variational:
            return {"active_latents": count_active_latents(self.model, self.val_loader, self.precision)}
        return {}

    def save_pictures(self, folder):
        """Write the pictures and weights of this epoch; returns {TensorBoard tag: grid}."""
        images = to_signed(self.val_loader.images[:36])
        fixed = torch.Generator(self.device).manual_seed(self.seed + 1)
        recons = vis_recons(self.model, images, folder / f"epoch_{self.epoch}_recons.png")
        samples = vis_samples(self.model, folder / f"epoch_{self.epoch}_samples.png", generator=fixed)
        save_weights(self.model, folder / "model.pt")
        return {"reconstructions": recons, "samples": samples}

    def finish_epoch(self):
        self.means.clear()
        self.epoch += 1

    def check_finite(self):
        self.means.check_finite()
        check_weights(self.model)

    def _parts(self):
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "batches": self.train_loader,
            "means": self.means,
        }

    def state_dict(self):
        """Tensors and builtins only, so that it loads with `weights_only=True`."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        return state | {
            "epoch": self.epoch,
            "shuffler": self.shuffler.get_state(),
            "rng": rng_state(self.device),
        }

    def load_state_dict(self, state):
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch = state["epoch"]
        self.shuffler.set_state(state["shuffler"])
        set_rng_state(state["rng"], self.device)


class _EnoughSteps(Exception):
    pass


def announce_duration(trainer, num_epochs, steps=4):
    """Time a few steps, put the trainer back to where it was, and say how long the run takes."""
    before = copy.deepcopy(trainer.state_dict())
    times = []

    def after_step():
        times.append(time.perf_counter())
        if len(times) > steps:
            raise _EnoughSteps

    with contextlib.suppress(_EnoughSteps):
        trainer.train_epoch(lambda epoch, step: 1, after_step)
    trainer.load_state_dict(before)
    if len(times) < 2:  # resumed at the very end of an epoch
        return
    seconds = (times[-1] - times[0]) / (len(times) - 1) * len(trainer.train_loader)
    print(f"On this CPU: about {seconds:.0f} s an epoch, {seconds * (num_epochs - trainer.epoch) / 60:.0f} minutes to the end. "
          "Interrupt at any time and go on with --resume.")  # fmt: skip


# ------------------------------------------------------------------------------------------------
# Command line


def open_data(args):
    """uint8 images (training, validation) that the data options ask for."""
    if args.dataset == "synthetic":
        return draw_shapes(sum(SYNTHETIC_IMAGES), torch.Generator().manual_seed(args.seed)).split(
            SYNTHETIC_IMAGES
        )
    return load_cifar10(args.data_dir or DATA_DIR, download=args.download or args.data_dir is None)


def run(args):
    """Train what the command line names, one after the other."""
    device = resolve_device(args.device)
    suffix = "_synthetic" if args.dataset == "synthetic" else ""
    names = [name for preset in args.presets for name in (PRESETS if preset == "all" else [preset])]
    wanted = {f"{name}{suffix}": (PRESETS | NEIGHBOURS)[name] for name in names}
    wanted = wanted or {f"{args.log_dir}{suffix}": args.own}
    defaults = {
        "loss_mode": "vae",
        "beta_mode": "constant",
        "latent_size": 256,
        "target_beta_val": 1,
        "batch_size": 256,
    }
    common = {"num_epochs": args.num_epochs, "grad_clip": args.grad_clip, "lr": args.lr, "seed": args.seed}
    common |= {"batch_size": args.batch_size} if args.batch_size else {}
    todo = {}
    for name, settings in wanted.items():
        folder = args.out_dir.absolute() / name
        settings = defaults | settings | common
        same_run = identity(**settings)
        begun = (folder / "state.pt").exists() and not args.overwrite
        if begun and load_state(folder / "state.pt", STATE_FORMAT, {}).get("epoch", 0) >= args.num_epochs:
            load_state(folder / "state.pt", STATE_FORMAT, same_run)
            print(f"{name}: finished already; --overwrite repeats it")
            continue
        resume = args.resume if len(wanted) == 1 else begun and (args.resume or "all" in args.presets)
        check_folder(folder, RESULTS, resume, args.overwrite)
        todo[folder] = (settings, resume, same_run)
    if not todo:
        return
    images = open_data(args)
    this_machine = machine_identity(images, device, number_format(device, not args.disable_amp))
    for folder, (_, resume, same_run) in todo.items():  # all of them before the first one trains
        if resume:
            load_state(
                folder / "state.pt" if resume is True else resume, STATE_FORMAT, same_run | this_machine
            )
    for folder, (settings, resume, _) in todo.items():
        rows = main(
            folder, eval_interval=args.eval_interval, images=images, device=device, resume=resume,
            amp_enabled=not args.disable_amp, overwrite=args.overwrite, save_minutes=args.save_minutes,
            options={"dataset": args.dataset}, patience=args.patience, **settings,
        )  # fmt: skip
        last = ", ".join(
            f"{name.removeprefix('val_').replace('_', ' ')} {rows[-1][name]:.2f}"
            for name in rows[-1]
            if "val" in name
        )
        print(f"{folder.name}: validation at epoch {rows[-1]['epoch']}: {last}; results in {folder}")


if __name__ == "__main__":
    arguments = get_args(__doc__)
    with exit_codes():
        run(arguments)
