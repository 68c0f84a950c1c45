"""Autoencoder, VAE and beta-VAE on CIFAR-10 (questions 2.1, 2.2 and 2.3).

    python vae/train.py vae_latent1024                     one run of the assignment, by name
    python vae/train.py all                                all nine; goes on where it stopped
    python vae/train.py --log_dir mine --loss_mode vae --latent_size 64 --num_epochs 5
    python vae/train.py --evaluate vae/data/vae_latent1024    its saved model, measured again

The runs of the assignment: {presets}.
Neighbours of theirs, from other reports: {neighbours}.
"""

import contextlib
import inspect
import signal
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from evaluate import evaluate
from logger import EVALUATIONS, LAYOUT, epochs, is_drawn, log_epoch
from losses import Terms, ae_loss, try_loss, vae_loss
from options import arguments_of, check_own_call, get_args, parsed, recorded, with_recorded
from presets import build, losses_of
from schedules import beta_schedule, constant_beta_scheduler, linear_beta_scheduler  # noqa: F401
from torch import Tensor, nn
from utils import count_active_latents, get_dataloaders, preprocess_data, vis_recons, vis_samples

from common import InputError, Interrupted, check_agreement
from common.device import choose_precision, prepare
from common.files import fingerprint, save_weights
from common.measure import RunningMeans, measuring, preserved
from common.run import Run

Loader = Iterable[tuple[Tensor, Any]]  # images (B, 3, 32, 32), uint8 or in [0, 1], and anything


def loss_function(loss_mode: Any) -> Callable[..., Terms]:
    """(model, x, beta) -> (loss, terms) for "ae", "vae" or a function of (model, x[, beta])."""
    if loss_mode == "vae":
        return vae_loss
    function: Any = ae_loss if loss_mode == "ae" else loss_mode
    if not callable(function):
        raise InputError(f"loss_mode: got {loss_mode!r}, expected ae, vae or a function")
    parameters = inspect.signature(function).parameters
    if "beta" in parameters:  # by its name, wherever it stands
        return lambda model, x, beta: function(model, x, beta=beta)
    needed = [p for p in parameters.values() if p.default is p.empty]
    # An autoencoder's loss has no beta, nor need a student's have one.
    return function if len(needed) > 2 else lambda model, x, beta: function(model, x)


def run_train_epoch(
    model: nn.Module,
    loss_mode: Any,
    train_loader: Loader,
    optimizer: torch.optim.Optimizer,
    beta: Any = 1,
    grad_clip: float | None = 1,
    *,
    precision: Callable = contextlib.nullcontext,
    means: RunningMeans | None = None,
    first_step: int = 0,
) -> OrderedDict:
    """One pass over train_loader: (images, anything) pairs. Returns its mean terms.

    loss_mode: "ae", "vae", or a function (model, x) or (model, x, beta) as in losses.py. beta:
    what multiplies the KL, or a function of the run's step that gives it. grad_clip: largest norm
    of the gradient; 0 or None: any. precision: an autocast context for the loss. means: those of
    an epoch that is gone on with, from `first_step`. The means weigh images equally, whatever the
    batch sizes.
    """
    device, loss_fn = next(model.parameters()).device, loss_function(loss_mode)
    means = means or RunningMeans(device)
    model.train()
    for step, (x, _) in enumerate(train_loader, start=first_step):
        x = preprocess_data(x, device)  # (B, 3, 32, 32) in [-1, 1]
        optimizer.zero_grad()
        with precision():  # the forward pass alone; backward takes its types from that
            loss, terms = loss_fn(model, x, beta(step) if callable(beta) else beta)
        loss.backward()
        if grad_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        detached = {name: term.detach() for name, term in terms.items()}
        means.add({"loss": loss.detach()} | detached, len(x))
    return OrderedDict(means.means())


def get_val_metrics(
    model: nn.Module,
    loss_mode: Any,
    val_loader: Loader,
    *,
    precision: Callable = contextlib.nullcontext,
) -> OrderedDict:
    """Mean terms over val_loader, with beta 1 and, for a VAE, the same noise at every call."""
    loss_fn = loss_function(loss_mode)
    # Seeded anew each time: two epochs differ by the model, not by the noise of z.
    with measuring(model, seed=0) as device, precision():
        means = RunningMeans(device)
        for x, _ in val_loader:
            x = preprocess_data(x, device)  # (B, 3, 32, 32) in [-1, 1]
            loss, terms = loss_fn(model, x, 1)  # beta 1: losses of different betas compare
            means.add({"loss": loss} | terms, len(x))
    return OrderedDict(means.means())


def main(
    log_dir: str | Path,
    loss_mode: Any = "vae",
    beta_mode: Any = "constant",
    num_epochs: int = 20,
    batch_size: int = 256,
    latent_size: int = 256,
    target_beta_val: float = 1,
    grad_clip: float | None = 1,
    lr: float = 1e-3,
    eval_interval: int = 5,
    *,
    base_channels: int = 128,
    model: nn.Module | None = None,
    images: tuple[Tensor, Tensor] | None = None,
    options: Namespace | None = None,
) -> list[dict]:
    """Train one model for `num_epochs` epochs and write its results to `log_dir`.

    log_dir: the run's folder (relative: under vae/data). loss_mode: "ae", "vae" or a function
    (model, x) or (model, x, beta) -> (loss, OrderedDict of terms). beta_mode: constant, linear,
    anneal, cyclical, or a function of the epoch. model: one of your own, with `encoder`, `decoder`
    and `latent_size`. images: uint8 (N, 3, 32, 32) for training and validation, instead of the
    options' data. options: the rest of a command line, of `get_args`; default what it gave last.
    Returns the rows of metrics.csv. Raises InputError before anything is written, NonFiniteError,
    Interrupted.
    """
    options = options or parsed()
    if not str(log_dir or ""):
        raise InputError("main: log_dir is empty; expected the name of a folder")
    folder = options.out_dir / log_dir
    options = with_recorded(options, folder)
    arguments = {
        **{"loss_mode": loss_mode, "beta_mode": beta_mode, "num_epochs": num_epochs},
        **{"batch_size": batch_size, "latent_size": latent_size, "lr": lr},
        **{"target_beta_val": target_beta_val, "grad_clip": grad_clip},
        **{"eval_interval": eval_interval, "base_channels": base_channels},
    }
    check_agreement(options.given, arguments, "main")
    arguments = options.parser.check(arguments | {"grad_clip": grad_clip or 0})
    precision = choose_precision(options.device, not options.disable_amp)
    check_own_call(options, model, images)
    how = options.resume, options.overwrite, options.again
    with Run(folder, LAYOUT, *how) as run:
        settings = recorded(arguments, options, run.folder, precision)
        if model is not None:
            settings |= {"network": type(model).__name__}
            settings["latent_size"] = getattr(model, "latent_size", None)
        run.check(settings)
        if run.step >= num_epochs and is_drawn(run):
            print(f"{folder.name}: finished already; --overwrite repeats it")
            return run.rows
        torch.manual_seed(options.seed)  # of the weights, and of the noise in every step
        model = model or build(loss_mode, latent_size, base_channels, options)
        model = model.to(options.device).to(memory_format=torch.channels_last)
        train_loss, val_loss = losses_of(loss_mode, options)
        for loss in (train_loss, val_loss):
            named = {"ae": ae_loss, "vae": vae_loss}.get(loss, loss)
            try_loss(model, named, loss_function(loss))
        train_loader, val_loader = get_dataloaders(batch_size, options, images)
        settings["data"] = fingerprint(train_loader.images, val_loader.images)
        settings["dataset"] = options.dataset if images is None else "unnamed"
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        of_schedule = num_epochs, target_beta_val, len(train_loader), options
        beta_fn = beta_schedule(beta_mode, *of_schedule)
        means = RunningMeans(options.device)  # of the epoch under way
        parts = {"model": model, "optimizer": optimizer, "means": means}  # all that a step changes
        parts |= {"batches": train_loader, "shuffler": train_loader.generator}
        prepare(precision)
        counts = [len(loader.images) for loader in (train_loader, val_loader)]
        parameters = sum(p.numel() for p in model.parameters())
        run.begin(settings, parts, num_epochs, images=counts, parameters=parameters)
        vis_x = val_loader.images[:36]  # uint8 (36, 3, 32, 32)

        def save_pictures(epoch: int) -> None:
            """Reconstructions, samples from the same latents, weights."""
            for name in EVALUATIONS:  # of the weights before
                (run.folder / name).unlink(missing_ok=True)
            with preserved(model):
                torch.manual_seed(options.seed + 1)  # the same latents in every picture
                start = run.folder / f"epoch_{epoch}"
                pictures = {"samples": vis_samples(model, start)}
                pictures["reconstructions"] = vis_recons(model, vis_x, start)
            for tag, picture in pictures.items():
                run.events.add_image(tag, picture, epoch)
            save_weights(model, run.folder / "model.pt")

        steps = len(train_loader)
        for epoch, bar in epochs(run, train_loader, eval_interval, save_pictures):
            beta = beta_fn(epoch)  # a number, or a function of the run's step
            train_metrics = run_train_epoch(
                model,
                train_loss,
                run.steps(train_loader, bar),
                optimizer,
                beta,
                grad_clip,
                precision=precision,
                means=means,
                first_step=epoch * steps + train_loader.taken,
            )
            val_metrics = get_val_metrics(model, val_loss, val_loader, precision=precision)
            last_step = (epoch + 1) * steps - 1
            row = {"epoch": epoch, "beta": float(beta(last_step) if callable(beta) else beta)}
            if (epoch + 1) % eval_interval == 0 and getattr(model, "variational", False):
                row["active_latents"] = count_active_latents(model, val_loader, precision)
            bar.write(log_epoch(run, row, train_metrics, val_metrics), file=sys.stdout)
    return run.rows


def run_presets(args: Namespace) -> None:
    """Train each of `args.runs`; what must be refused is refused before the first begins.

    `all` goes on with what was begun.
    """
    calls, asked = [], args.resume
    for name in args.runs:
        begun = (args.out_dir / name / "state.pt").exists() and not args.overwrite
        # Where several are named, those that are not begun yet begin.
        args.resume = asked if begun or len(args.runs) == 1 else None
        if begun and "all" in args.presets:
            args.resume = True
        arguments, options = arguments_of(name, args)
        how = options.resume, options.overwrite, options.again
        precision = choose_precision(options.device, not options.disable_amp)
        with Run(args.out_dir / name, LAYOUT, *how) as run:
            run.check(recorded(arguments, options, run.folder, precision))
        calls.append((name, arguments, options))
    for name, arguments, options in calls:
        if Run.last_signal:  # it came when the one before was done
            told = f"stopped by {signal.Signals(Run.last_signal).name} before {name}"
            raise Interrupted(Run.last_signal, f"{told}; go on with: {args.again}")
        main(name, **arguments, options=options)


if __name__ == "__main__":
    args = get_args(__doc__)
    if args.evaluate:
        evaluate(args, get_val_metrics)
    else:
        run_presets(args)
