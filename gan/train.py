"""The training loop of questions 1.3, 1.4 and 1.5: one algorithm, the losses are passed in.

An iteration is one discriminator step; every fifth (the 0th included) also takes one generator
step, as in Algorithm 1 of WGAN-GP (arXiv 1704.00028) with n_critic = 5.
"""

import contextlib
import copy
import functools
import inspect
import sys
import time
from pathlib import Path

import torch
from torchvision import transforms
from tqdm import tqdm

import penalty
from dataset import DATA_DIR, Batches, Dataset, fingerprint, load_images  # noqa: F401 (Dataset is public here)
from errors import InputError, Interrupted, NonFiniteError
from fid import Features, Scorer
from hardware import autocast, autocast_dtype, keep_freed_memory
from logger import COLUMNS, RESULTS, STATE_FORMAT, TERMS, Logger
from networks import LATENT_DIM
from run_log import RunLog, StopSignal, check_folder, load_state, rng_state, set_rng_state
from running_means import RunningMeans, check_weights

HERE = Path(__file__).resolve().parent
GENERATOR_EVERY = 5  # discriminator steps


def build_transforms():
    """PIL image or array to a float tensor (3, H, W) in [-1, 1]."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])


def get_optimizers_and_schedulers(gen, disc):
    """Adam (2e-4, betas (0, 0.9)), its rate falling linearly to 0 and staying there.

    Over 500,000 discriminator steps and 100,000 generator steps. Returns (optim_discriminator,
    scheduler_discriminator, optim_generator, scheduler_generator).
    """

    def adam_and_decay(module, steps):
        optimizer = torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.0, 0.9), fused=True)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / steps)
        )

    return *adam_and_decay(disc, 500_000), *adam_and_decay(gen, 100_000)


def discriminator_step(
    gen, disc, real, z, eps, loss_fn, lamb, precision, penalty_precision=None, scale=lambda loss: loss,
    fast_penalty=False,
):  # fmt: skip
    """Backward pass of one discriminator update; returns its terms as detached scalars.

    real: (B, 3, 32, 32) in [-1, 1]; z: (B, 128) ~ N(0, I); eps: (B, 1, 1, 1) ~ U(0, 1), one per
    image, the share of the fake in x^ = eps * fake + (1 - eps) * real. `precision()` is the
    autocast context; losses are computed in float32. `scale` is a gradient scaler's. fast_penalty:
    let penalty.py stand in for a loss's "gradient penalty".
    """
    with torch.no_grad(), precision():
        fake = gen.forward_given_samples(z).float()  # (B, 3, 32, 32) in [-1, 1]
    with precision():
        # One pass for both: without batch normalisation no score depends on its neighbours.
        scores = disc(torch.cat([real, fake]))  # (2B, 1)
    discrim_real, discrim_fake = scores.float().chunk(2)
    terms = {"real_score": discrim_real.mean().detach(), "fake_score": discrim_fake.mean().detach()}

    # The loss says what it needs; one that says nothing gets the interpolates and their scores.
    needs = getattr(loss_fn, "interpolates", "scores")
    if needs == "gradient penalty" and not fast_penalty:
        needs = "scores"
    discrim_interp = interp = None
    if needs != "unused":
        interp = (eps * fake + (1 - eps) * real).requires_grad_()
    if needs == "scores":
        with (penalty_precision or precision)():
            discrim_interp = disc(interp).float()
    loss = loss_fn(discrim_real, discrim_fake, discrim_interp, interp if needs == "scores" else None, lamb)
    scale(loss).backward()
    terms["discriminator_loss"] = loss.detach()
    if needs == "gradient penalty":
        value = penalty.penalty_backward(disc, interp, lamb, penalty_precision or precision, scale)
        terms |= {"discriminator_loss": loss.detach() + lamb * value, "gradient_penalty": value}
    return terms


def generator_step(gen, disc, z, loss_fn, precision, scale=lambda loss: loss):
    """Backward pass of one generator update through the frozen discriminator; returns its terms."""
    disc.requires_grad_(False)
    with precision():
        scores = disc(gen.forward_given_samples(z))  # (B, 1)
    loss = loss_fn(scores.float())
    scale(loss).backward()
    disc.requires_grad_(True)
    return {"generator_loss": loss.detach()}


class Trainer:
    """All that an iteration changes. `state_dict` is the whole of it, `iterate` the algorithm."""

    def __init__(
        self, gen, disc, images, batch_size, lamb, gen_loss_fn, disc_loss_fn, dtype=None, seed=0,
        generator_every=GENERATOR_EVERY, make_optimizers=get_optimizers_and_schedulers,
    ):  # fmt: skip
        self.gen, self.disc, self.batch_size, self.lamb = gen, disc, batch_size, lamb
        self.gen_loss_fn, self.disc_loss_fn = gen_loss_fn, disc_loss_fn
        self.device = next(gen.parameters()).device
        self.seed = seed
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.batches = Batches(images, batch_size, self.rng)
        self.generator_every = generator_every
        self.optim_disc, self.sched_disc, self.optim_gen, self.sched_gen = make_optimizers(gen, disc)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.precision = functools.partial(autocast, self.device, dtype)
        # float16 has too small a range for the gradients in the penalty; bfloat16 has float32's.
        self.penalty_precision = functools.partial(
            autocast, self.device, None if dtype == torch.float16 else dtype
        )
        self.fast_penalty = (
            getattr(disc_loss_fn, "interpolates", None) == "gradient penalty" and self._try_penalty()
        )
        self.iteration = 0
        self.losses = RunningMeans(TERMS, self.device)  # since the last log line

    def _try_penalty(self):
        holds = penalty.replaces(self.disc, self.disc_loss_fn, self.lamb)
        if not holds:
            print(
                "The penalty is differentiated twice: penalty.py does not hold for this loss or discriminator."
            )
        return holds

    def iterate(self):
        """One discriminator step and, every fifth time, one generator step on fresh fakes.

        Nothing here waits for the device: the terms are summed there and read at log lines.
        """
        self.optim_disc.zero_grad()
        eps = torch.rand(self.batch_size, 1, 1, 1, generator=self.rng, device=self.device)
        terms = discriminator_step(
            self.gen, self.disc, self.batches.next(), self.latents(), eps, self.disc_loss_fn, self.lamb,
            self.precision, self.penalty_precision, self.scaler.scale, self.fast_penalty,
        )  # fmt: skip
        self.scaler.step(self.optim_disc)
        self.sched_disc.step()
        if self.iteration % self.generator_every == 0:
            self.optim_gen.zero_grad()
            terms |= generator_step(
                self.gen, self.disc, self.latents(), self.gen_loss_fn, self.precision, self.scaler.scale
            )
            self.scaler.step(self.optim_gen)
            self.sched_gen.step()
        self.scaler.update()
        self.iteration += 1
        self.losses.add(terms, self.iteration)

    def latents(self):
        """(B, 128) ~ N(0, I), float32 whatever the autocast type."""
        return torch.randn(self.batch_size, LATENT_DIM, generator=self.rng, device=self.device)

    def check_finite(self):
        """Raise NonFiniteError if any loss so far, or any weight now, is NaN or infinite."""
        self.losses.check_finite()
        check_weights(self.gen, self.disc)

    def _parts(self):
        return {"generator": self.gen, "discriminator": self.disc, "optim_disc": self.optim_disc,
                "sched_disc": self.sched_disc, "optim_gen": self.optim_gen, "sched_gen": self.sched_gen,
                "scaler": self.scaler, "batches": self.batches, "losses": self.losses}  # fmt: skip

    def state_dict(self):
        """Tensors and builtins only, so that it loads with `weights_only=True`."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        return state | {
            "iteration": self.iteration,
            "rng": self.rng.get_state(),
            "global_rng": rng_state(self.device),
        }

    def load_state_dict(self, state):
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.iteration = state["iteration"]
        self.rng.set_state(state["rng"])
        set_rng_state(state["global_rng"], self.device)


def train_model(
    gen, disc, num_iterations, batch_size, lamb=10, prefix=None, gen_loss_fn=None, disc_loss_fn=None,
    log_period=10000, amp_enabled=True, *, images=None, stats_folders=(), fid="inception", fid_mode="train",
    num_gen=(10_000, 50_000), inception_weights=None, seed=0, resume=None, overwrite=False, save_minutes=5.0,
    options=None, generator_every=GENERATOR_EVERY, make_optimizers=get_optimizers_and_schedulers,
):  # fmt: skip
    """Train `gen` and `disc`, on the device they are on, for exactly `num_iterations` iterations.

    prefix: the run's folder (relative: beside this file). images: uint8 (N, 3, 32, 32); default the
    CUB folder. fid: "inception", "off" or a TorchScript file; num_gen: samples at a log line and at
    the end. resume: True for the folder's own state, or a path. options: more for config.json.
    generator_every: discriminator steps to one of the generator; make_optimizers: as
    get_optimizers_and_schedulers. Returns the rows of metrics.csv. Raises InputError before any work, NonFiniteError, Interrupted.
    """
    if gen_loss_fn is None or disc_loss_fn is None:
        raise InputError("train_model: gen_loss_fn and disc_loss_fn must be given; see q1_5.py")
    folder = HERE / (prefix or "data_gan")
    device = next(gen.parameters()).device
    dtype = autocast_dtype(device, amp_enabled)
    check_folder(folder, RESULTS, resume, overwrite)
    if images is None:
        images, stats_folders = load_images(DATA_DIR), (DATA_DIR.parent,)
    data_key = fingerprint(images)
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = True  # every batch has one shape
    gen.to(memory_format=torch.channels_last).train()
    disc.to(memory_format=torch.channels_last).train()
    trainer = Trainer(gen, disc, images, batch_size, lamb, gen_loss_fn, disc_loss_fn, dtype, seed,
                      generator_every, make_optimizers)  # fmt: skip

    same_run = {"loss": loss_name(disc_loss_fn), "batch_size": batch_size,
                "lamb": lamb, "seed": seed, "data": data_key, "device": device.type,
                "number_format": str(dtype or torch.float32).removeprefix("torch.")}  # fmt: skip
    same_run |= unlike_the_assignment(gen, disc, generator_every, make_optimizers)
    state = None
    if resume:
        state = load_state(folder / "state.pt" if resume is True else resume, STATE_FORMAT, same_run)
        try:
            trainer.load_state_dict(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"--resume: the state does not fit this program ({type(error).__name__}: {error})"
            ) from None
        if trainer.iteration > num_iterations:
            raise InputError(
                f"--num_iterations: got {num_iterations}, the run is at {trainer.iteration} already"
            )
    scorer = None
    if fid != "off":
        features = Features(fid, device, inception_weights)
        with contextlib.suppress(OSError):  # RunLog reports it
            folder.mkdir(parents=True, exist_ok=True)
        scorer = Scorer(images, features, (*stats_folders, folder), data_key, fid_mode, seed)

    config = {name: value for name, value in same_run.items() if value is not None}
    config |= {"num_iterations": num_iterations, "log_period": log_period, "images": len(images),
               "fid": str(fid), "features": scorer.features.key if scorer else None, "fid_mode": fid_mode,
               "num_gen": list(num_gen)} | (options or {})  # fmt: skip
    if device.type == "cpu" and num_iterations - trainer.iteration >= 1000:
        announce_duration(trainer, num_iterations)
    run = RunLog(folder, COLUMNS, RESULTS, config, state)
    logger = Logger(run, trainer, scorer, num_gen, same_run, state["seconds"] if state else 0.0)
    with StopSignal() as stop, progress_bar(trainer.iteration, num_iterations) as bar:
        try:
            try:
                training_loop(trainer, logger, num_iterations, log_period, save_minutes, stop, bar)
            except Interrupted as error:
                logger.save()
                raise Interrupted(
                    stop.arrived, f"{error} at iteration {trainer.iteration}; go on with --resume"
                ) from None
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; the last good state is {folder / 'state.pt'}") from None
        finally:
            run.close()
    return run.rows


def loss_name(loss_fn):
    """The script that a loss comes from, q1_5 for one: a run is resumed with the same loss only."""
    code = getattr(inspect.unwrap(loss_fn), "__code__", None)
    return Path(code.co_filename).stem if code else type(loss_fn).__name__


def unlike_the_assignment(gen, disc, generator_every, make_optimizers):
    """What a run has of its own; None where it is as in questions 1.3 to 1.5."""
    names = [type(gen).__name__, type(disc).__name__]
    same_rates = make_optimizers is get_optimizers_and_schedulers
    return {
        "generator_every": None if generator_every == GENERATOR_EVERY else generator_every,
        "optimizers": None if same_rates else make_optimizers.__qualname__,
        "networks": None if names == ["Generator", "Discriminator"] else names,
    }


def training_loop(trainer, logger, num_iterations, log_period, save_minutes, stop, bar):
    """Iterate; log at every multiple of `log_period` and at the end; save then and in between."""
    logger.save()
    if trainer.iteration > 0 and not (logger.run.folder / "generator.pt").exists():
        logger.save_pictures()  # a state from elsewhere: what belongs to it is written here too
        logger.save_plots()
    while True:
        at_end = trainer.iteration == num_iterations
        if trainer.iteration > 0 and (at_end or trainer.iteration % log_period == 0):
            logger.log_once("log", stop.check)
        if at_end:
            logger.log_once("final", stop.check)
            return
        trainer.iterate()
        bar.update()
        if logger.seconds_since_shown() > 2:
            bar.set_postfix(logger.postfix(), refresh=False)
        if logger.seconds_since_saved() > 60 * save_minutes:
            logger.save()
        stop.check()


def progress_bar(initial, total):
    seconds = 0.5 if sys.stderr.isatty() else 30  # a log file needs no animation
    return tqdm(
        initial=initial,
        total=total,
        unit="it",
        dynamic_ncols=True,
        smoothing=0.05,
        mininterval=seconds,
        maxinterval=seconds,
    )


def announce_duration(trainer, num_iterations):
    """Time one cycle, put the trainer back to where it was, and say how long the run takes."""
    before = copy.deepcopy(trainer.state_dict())
    trainer.iterate()
    start = time.perf_counter()
    for _ in range(GENERATOR_EVERY):
        trainer.iterate()
    seconds = (time.perf_counter() - start) / GENERATOR_EVERY
    trainer.load_state_dict(before)
    left = num_iterations - trainer.iteration
    print(f"On this CPU: {seconds:.2f} s an iteration, about {seconds * left / 3600:.1f} hours for {left:,}, scores apart. "
          "Interrupt at any time and go on with --resume.")  # fmt: skip
