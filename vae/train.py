"""Autoencoder, VAE and beta-VAE on CIFAR-10 (questions 2.1, 2.2 and 2.3).

    python vae/train.py vae_latent1024                     one run of the assignment, by name
    python vae/train.py all                                all nine; goes on where it stopped
    python vae/train.py --log_dir mine --loss_mode vae --latent_size 64 --num_epochs 5

The runs of the assignment: {presets}.
"""

import contextlib
import copy
import functools
import math
import sys
import time
from collections import OrderedDict
from pathlib import Path

import torch
from tqdm import tqdm

from command_line import OneLineParser, exit_codes, number
from dataset import DATA_DIR, Batches, draw_shapes, fingerprint, load_cifar10, to_signed
from errors import InputError, Interrupted, NonFiniteError
from hardware import autocast, autocast_dtype, keep_freed_memory, resolve_device
from model import AEModel
from run_log import RunLog, StopSignal, check_folder, load_state, rng_state, save_weights, set_rng_state
from running_means import RunningMeans, check_weights
from utils import save_plot, vis_recons, vis_samples

PRESETS = {
    "ae_latent16": {"loss_mode": "ae", "latent_size": 16},
    "ae_latent128": {"loss_mode": "ae", "latent_size": 128},
    "ae_latent1024": {"loss_mode": "ae", "latent_size": 1024},
    "vae_latent16": {"loss_mode": "vae", "latent_size": 16},
    "vae_latent128": {"loss_mode": "vae", "latent_size": 128},
    "vae_latent1024": {"loss_mode": "vae", "latent_size": 1024},
    "vae_latent1024_beta_constant0.8": {"loss_mode": "vae", "latent_size": 1024, "target_beta_val": 0.8},
    "vae_latent1024_beta_constant1.2": {"loss_mode": "vae", "latent_size": 1024, "target_beta_val": 1.2},
    "vae_latent1024_beta_linear1": {"loss_mode": "vae", "latent_size": 1024, "beta_mode": "linear"},
}
SYNTHETIC_IMAGES = (5_000, 1_000)  # training, validation
STATE_FORMAT = "vae-state-1"
# What a run leaves behind; --overwrite removes these and nothing else.
RESULTS = (
    "config.json", "metrics.csv", "state.pt", "model.pt", "epoch_*_recons.png", "epoch_*_samples.png",
    "*_vs_epochs.png", "events.out.tfevents.*",
)  # fmt: skip
TERMS = ("loss", "recon_loss", "kl_loss")
COLUMNS = ("epoch", "beta", *(f"{part}_{term}" for part in ("train", "val") for term in TERMS), "seconds")


# ------------------------------------------------------------------------------------------------
# Losses


def ae_loss(model, x):
    """Squared error of the reconstruction, summed over pixels, averaged over the batch only.

    x: (B, 3, 32, 32) in [-1, 1]. Returns (loss, OrderedDict(recon_loss=loss)).
    """
    loss = reconstruction_error(model.decoder(model.encoder(x)), x)
    return loss, OrderedDict(recon_loss=loss)


def vae_loss(model, x, beta=1, generator=None):
    """recon + beta * KL(q(z | x) || N(0, I)), the beta-VAE objective (arXiv 1606.05908, 1804.03599).

    recon is that of `ae_loss` for a sampled z; the KL divergence is in closed form, summed over
    latents and averaged over the batch. x: (B, 3, 32, 32) in [-1, 1]; `generator` draws the noise.
    Returns (loss, OrderedDict(recon_loss, kl_loss)).
    """
    mu, log_std = (output.float() for output in model.encoder(x))  # (B, latent_size) each
    recon_loss = reconstruction_error(model.decoder(reparameterise(mu, log_std, generator)), x)
    kl_loss = kl_divergence(mu, log_std)
    return recon_loss + beta * kl_loss, OrderedDict(recon_loss=recon_loss, kl_loss=kl_loss)


def reconstruction_error(reconstruction, x):
    return (reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()


def reparameterise(mu, log_std, generator=None):
    """z = mu + exp(log_std) * noise, a sample of q(z | x) that gradients pass through."""
    noise = torch.randn(mu.shape, device=mu.device, dtype=mu.dtype, generator=generator)
    return mu + log_std.exp() * noise


def kl_divergence(mu, log_std):
    """KL(N(mu, std^2) || N(0, I)), summed over latents and averaged over the batch.

    log(std^2) is 2 * log_std; the log of an exponential would be -inf below about -52.
    """
    return 0.5 * (mu.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(dim=1).mean()


# ------------------------------------------------------------------------------------------------
# Schedules of beta: functions of the epoch, which counts from 0


def constant_beta_scheduler(target_val=1):
    return lambda epoch: target_val


def linear_beta_scheduler(max_epochs=None, target_val=1):
    """0 at epoch 0, target_val at epoch max_epochs and after."""
    if max_epochs is None or max_epochs <= 0:
        raise ValueError(
            f"linear_beta_scheduler: max_epochs is {max_epochs}, expected a number of epochs > 0"
        )
    return lambda epoch: target_val * min(1.0, epoch / max_epochs)


# ------------------------------------------------------------------------------------------------
# Training


def run_train_epoch(
    model, loss_mode, train_loader, optimizer, beta=1, grad_clip=1, *,
    precision=contextlib.nullcontext, means=None, after_step=lambda: None,
):  # fmt: skip
    """One pass over train_loader: (images in [-1, 1], anything) pairs. Returns its mean terms.

    The means weigh images equally, whatever the batch sizes. `precision()` is the autocast context;
    `means` holds the terms of an epoch that is gone on with; `after_step` may raise to stop.
    """
    device = next(model.parameters()).device
    means = means or RunningMeans(TERMS, device)
    model.train()
    for step, (x, _) in enumerate(train_loader, start=1):
        x = x.to(device)
        optimizer.zero_grad()
        with precision():
            loss, terms = ae_loss(model, x) if loss_mode == "ae" else vae_loss(model, x, beta)
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
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    means = RunningMeans(TERMS, device)
    was_training = model.training
    model.eval()
    for x, _ in val_loader:
        x = x.to(device)
        with precision():
            loss, terms = ae_loss(model, x) if loss_mode == "ae" else vae_loss(model, x, 1, generator)
        means.add({"loss": loss} | terms, 1, len(x))
    model.train(was_training)
    return OrderedDict(means.means())


def main(
    log_dir, loss_mode="vae", beta_mode="constant", num_epochs=20, batch_size=256, latent_size=256,
    target_beta_val=1, grad_clip=1, lr=1e-3, eval_interval=5, *, images=None, seed=0, device=None,
    amp_enabled=True, resume=None, overwrite=False, save_minutes=5.0, options=None,
):  # fmt: skip
    """Train one model for `num_epochs` epochs and write its results to `log_dir`.

    log_dir: the run's folder (relative: under vae/data). images: uint8 (training, validation);
    default CIFAR-10. resume: True for the folder's own state, or a path. options: more for
    config.json. Returns the rows of metrics.csv. Raises InputError before any work, NonFiniteError,
    Interrupted.
    """
    folder = DATA_DIR / log_dir
    device = resolve_device(device)
    dtype = number_format(device, amp_enabled)
    same_run = identity(
        loss_mode, beta_mode, num_epochs, batch_size, latent_size, target_beta_val, grad_clip, lr, seed
    )
    check_folder(folder, RESULTS, resume, overwrite)
    images = images or load_cifar10()
    same_run |= machine_identity(images, device, dtype)
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = True
    if beta_mode == "linear":
        beta_at = linear_beta_scheduler(num_epochs, target_beta_val)
    else:
        beta_at = constant_beta_scheduler(target_beta_val)
    torch.manual_seed(seed)
    trainer = Trainer(loss_mode, latent_size, images, batch_size, grad_clip, lr, device, dtype, seed)
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

    config = same_run | {"num_epochs": num_epochs, "eval_interval": eval_interval, "images": [len(part) for part in images],
                         "parameters": sum(p.numel() for p in trainer.model.parameters())} | (options or {})  # fmt: skip
    if device.type == "cpu" and len(images[0]) * (num_epochs - trainer.epoch) >= 100_000:
        announce_duration(trainer, num_epochs)
    run = RunLog(folder, COLUMNS, RESULTS, config, state)
    logger = Logger(run, trainer, same_run, save_minutes, state["seconds"] if state else 0.0)
    with StopSignal() as stop:
        try:
            try:
                training_loop(trainer, logger, num_epochs, beta_at, eval_interval, stop)
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


def identity(loss_mode, beta_mode, num_epochs, batch_size, latent_size, target_beta_val, grad_clip, lr, seed):
    """The settings that make a run what it is, checked; a run is resumed only with the same ones."""
    if loss_mode not in ("ae", "vae") or beta_mode not in ("constant", "linear"):
        raise InputError(
            f"loss_mode, beta_mode: got {loss_mode!r}, {beta_mode!r}; expected ae or vae, constant or linear"
        )
    for name, value in (("num_epochs", num_epochs), ("batch_size", batch_size), ("latent_size", latent_size)):
        if value != int(value) or value < 1:
            raise InputError(f"--{name}: got {value}, expected a whole number >= 1")
    if not (0 <= target_beta_val < float("inf") and grad_clip > 0 and lr > 0):
        raise InputError(
            f"target_beta_val, grad_clip, lr: got {target_beta_val}, {grad_clip}, {lr}; expected >= 0, > 0, > 0"
        )
    settings = {"loss_mode": loss_mode, "beta_mode": beta_mode, "latent_size": latent_size, "batch_size": batch_size,
                "target_beta_val": target_beta_val, "lr": lr, "grad_clip": grad_clip, "seed": seed}  # fmt: skip
    # The length of a run sets a linear schedule's slope: there it belongs to the identity too.
    return settings | ({"num_epochs": num_epochs} if beta_mode == "linear" else {})


def machine_identity(images, device, dtype):
    return {"data": fingerprint(*images), "device": device.type,
            "number_format": str(dtype or torch.float32).removeprefix("torch.")}  # fmt: skip


def number_format(device, amp_enabled):
    """bfloat16 where the hardware has it, else float32: there is no gradient scaler here for float16."""
    dtype = autocast_dtype(device, amp_enabled)
    return None if dtype == torch.float16 else dtype


def training_loop(trainer, logger, num_epochs, beta_at, eval_interval, stop):
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

        while trainer.epoch < num_epochs:
            beta = beta_at(trainer.epoch)
            train_means = trainer.train_epoch(beta, after_step)
            val_means = trainer.validate()
            logger.log(beta, train_means, val_means)
            if (trainer.epoch + 1) % eval_interval == 0 or trainer.epoch + 1 == num_epochs:
                logger.save_pictures()
            trainer.finish_epoch()
            logger.save()
            stop.check()  # a signal during validation or pictures
            bar.set_postfix({name: f"{value:.1f}" for name, value in val_means.items()}, refresh=False)


class Trainer:
    """All that training changes; `state_dict` is the whole of it."""

    def __init__(self, loss_mode, latent_size, images, batch_size, grad_clip, lr, device, dtype, seed):
        self.loss_mode, self.grad_clip, self.device, self.seed = loss_mode, grad_clip, device, seed
        self.model = AEModel(loss_mode == "vae", latent_size).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr, fused=True)
        self.shuffler = torch.Generator(device).manual_seed(seed)
        self.train_loader = Batches(images[0], batch_size, device, self.shuffler)
        self.val_loader = Batches(images[1], batch_size, device)
        self.precision = functools.partial(autocast, device, dtype)
        self.means = RunningMeans(TERMS, device)  # of the current epoch
        self.epoch = 0

    def train_epoch(self, beta, after_step):
        return run_train_epoch(
            self.model, self.loss_mode, self.train_loader, self.optimizer, beta, self.grad_clip,
            precision=self.precision, means=self.means, after_step=after_step,
        )  # fmt: skip

    def validate(self):
        return get_val_metrics(self.model, self.loss_mode, self.val_loader, precision=self.precision)

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


class Logger:
    """What happens at the end of an epoch. It measures and writes; it changes nothing in training."""

    def __init__(self, run, trainer, same_run, save_minutes, seconds):
        self.run, self.trainer, self.same_run, self.save_minutes = run, trainer, same_run, save_minutes
        self.name = run.folder.name
        self.started = time.monotonic() - seconds
        self.saved = time.monotonic()

    def log(self, beta, train_means, val_means):
        self.trainer.check_finite()
        if not all(map(math.isfinite, val_means.values())):
            raise NonFiniteError(f"a validation loss is not finite: {dict(val_means)}")
        row = {"epoch": self.trainer.epoch, "beta": float(beta)}
        row |= {f"train_{name}": value for name, value in train_means.items()}
        row |= {f"val_{name}": value for name, value in val_means.items()}
        self.run.add_row(row | {"seconds": round(time.monotonic() - self.started, 1)})
        epochs = [row["epoch"] for row in self.run.rows]
        for term in train_means:
            betas = (" (its beta)", " (beta 1)") if term == "loss" and "kl_loss" in train_means else ("", "")
            curves = {label + beta_of: [row[f"{part}_{term}"] for row in self.run.rows]
                      for part, label, beta_of in zip(("train", "val"), ("training", "validation"), betas)}  # fmt: skip
            title = {"loss": "Total loss", "recon_loss": "Reconstruction loss", "kl_loss": "KL loss"}[term]
            unit = {
                "loss": "loss per image",
                "recon_loss": "squared error per image",
                "kl_loss": "nats per image",
            }[term]
            save_plot(
                epochs,
                curves,
                "epochs",
                unit,
                f"{title}, {self.name}",
                self.run.folder / f"{term}_vs_epochs.png",
            )

    def save_pictures(self):
        folder, trainer = self.run.folder, self.trainer
        images = to_signed(trainer.val_loader.images[:36])
        fixed = torch.Generator(trainer.device).manual_seed(trainer.seed + 1)
        recons = vis_recons(trainer.model, images, folder / f"epoch_{trainer.epoch}_recons.png")
        samples = vis_samples(trainer.model, folder / f"epoch_{trainer.epoch}_samples.png", generator=fixed)
        self.run.events.add_image("reconstructions", recons, trainer.epoch)
        self.run.events.add_image("samples", samples, trainer.epoch)
        save_weights(trainer.model, folder / "model.pt")

    def save_if_due(self):
        if time.monotonic() - self.saved > 60 * self.save_minutes:
            self.save()

    def save(self):
        self.trainer.check_finite()  # a bad state never replaces a good one
        state = self.trainer.state_dict() | {"run": self.same_run, "seconds": time.monotonic() - self.started}
        self.run.save_state(state, STATE_FORMAT)
        self.saved = time.monotonic()


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
        trainer.train_epoch(1, after_step)
    trainer.load_state_dict(before)
    if len(times) < 2:  # resumed at the very end of an epoch
        return
    seconds = (times[-1] - times[0]) / (len(times) - 1) * len(trainer.train_loader)
    print(f"On this CPU: about {seconds:.0f} s an epoch, {seconds * (num_epochs - trainer.epoch) / 60:.0f} minutes to the end. "
          "Interrupt at any time and go on with --resume.")  # fmt: skip


# ------------------------------------------------------------------------------------------------
# Command line


def get_args(argv=None):
    parser = OneLineParser(__doc__.format(presets=", ".join(PRESETS)))
    positive, count = number(float, 0, above=True), number(int, 1)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="runs of the assignment, or all")
    own = parser.add_argument_group("a run of your own (instead of a preset)")
    own.add_argument("--log_dir", metavar="NAME", help="its folder, under --out_dir")
    own.add_argument("--loss_mode", choices=("ae", "vae"), help="(vae)")
    own.add_argument("--beta_mode", choices=("constant", "linear"), help="(constant)")
    own.add_argument("--latent_size", type=count, metavar="N", help="(256)")
    own.add_argument(
        "--target_beta_val",
        type=number(float, 0),
        metavar="BETA",
        help="weight of the KL term; a linear schedule would reach it at epoch num_epochs (1)",
    )
    every = parser.add_argument_group("every run")
    every.add_argument("--num_epochs", type=count, default=20, metavar="N", help="(20)")
    every.add_argument("--batch_size", type=count, default=256, metavar="B", help="(256)")
    every.add_argument("--lr", type=positive, default=1e-3, help="learning rate of Adam (0.001)")
    every.add_argument("--grad_clip", type=positive, default=1.0, help="largest norm of the gradient (1)")
    every.add_argument(
        "--eval_interval", type=count, default=5, metavar="N", help="epochs between pictures (5)"
    )
    every.add_argument("--seed", type=number(int, 0), default=0, help="fixes weights, order and noise (0)")
    every.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    every.add_argument("--disable_amp", action="store_true", help="float32 throughout, no bfloat16 autocast")
    data = parser.add_argument_group("data and output")
    data.add_argument(
        "--dataset", choices=("cifar10", "synthetic"), default="cifar10", help="synthetic: 6,000 drawn images"
    )
    data.add_argument(
        "--data_dir", metavar="FOLDER", help="CIFAR-10: folder or archive (default: vae/data, fetched once)"
    )
    data.add_argument(
        "--download", action="store_true", help="fetch CIFAR-10 to --data_dir where it is missing"
    )
    data.add_argument(
        "--out_dir", metavar="FOLDER", default=DATA_DIR, type=Path, help="where run folders go (vae/data)"
    )
    data.add_argument(
        "--save_minutes", type=positive, default=5.0, metavar="M", help="minutes between saved states (5)"
    )
    data.add_argument("--resume", nargs="?", const=True, metavar="STATE",
                      help="go on from the run folder's state, or a path (all goes on by itself)")  # fmt: skip
    data.add_argument("--overwrite", action="store_true", help="replace the results in the run folder")
    args = parser.parse_args(argv)

    if args.resume in (*PRESETS, "all"):  # `--resume PRESET`: the option took the name for a path
        args.presets, args.resume = [args.resume, *args.presets], True
    args.own = {name: value for name in ("loss_mode", "beta_mode", "latent_size", "target_beta_val")
                if (value := getattr(args, name)) is not None}  # fmt: skip
    if args.presets and (args.log_dir or args.own):
        parser.error(
            "a preset fixes --log_dir, --loss_mode, --beta_mode, --latent_size and --target_beta_val; leave them out"
        )
    if not args.presets and not args.log_dir:
        parser.error(f"give presets or --log_dir NAME; the presets: {', '.join(PRESETS)}, all")
    unknown = [name for name in args.presets if name not in PRESETS and name != "all"]
    if unknown:
        parser.error(f"unknown preset {unknown[0]!r}; expected one of {', '.join(PRESETS)}, all")
    if args.loss_mode == "ae" and (args.beta_mode or args.target_beta_val is not None):
        parser.error("--beta_mode and --target_beta_val belong to a VAE; leave them out for --loss_mode ae")
    if args.resume not in (None, True) and len(args.presets) > 1:
        parser.error("--resume STATE goes with a single run")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    if args.dataset == "synthetic" and args.data_dir:
        parser.error("--data_dir goes with --dataset cifar10")
    return args


def run(args):
    """Train what the command line names, one after the other."""
    device = resolve_device(args.device)
    suffix = "_synthetic" if args.dataset == "synthetic" else ""
    names = list(PRESETS) if "all" in args.presets else args.presets
    wanted = {f"{name}{suffix}": PRESETS[name] for name in names} or {f"{args.log_dir}{suffix}": args.own}
    common = {"num_epochs": args.num_epochs, "batch_size": args.batch_size, "grad_clip": args.grad_clip, "lr": args.lr,
              "seed": args.seed}  # fmt: skip
    todo = {}
    for name, settings in wanted.items():
        folder = args.out_dir.absolute() / name
        same_run = identity(**{"loss_mode": "vae", "beta_mode": "constant", "latent_size": 256, "target_beta_val": 1}
                            | settings | common)  # fmt: skip
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
    if args.dataset == "synthetic":
        images = draw_shapes(sum(SYNTHETIC_IMAGES), torch.Generator().manual_seed(args.seed)).split(
            SYNTHETIC_IMAGES
        )
    else:
        images = load_cifar10(args.data_dir or DATA_DIR, download=args.download or args.data_dir is None)
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
            options={"dataset": args.dataset}, **settings, **common,
        )  # fmt: skip
        last = ", ".join(
            f"{name.removeprefix('val_').replace('_', ' ')} {rows[-1][name]:.2f}"
            for name in rows[-1]
            if "val" in name
        )
        print(f"{folder.name}: validation at epoch {rows[-1]['epoch']}: {last}; results in {folder}")


if __name__ == "__main__":
    arguments = get_args()
    with exit_codes():
        run(arguments)
