"""The training loop of questions 1.3, 1.4 and 1.5: one algorithm, the losses are passed in.

An iteration is one discriminator step; every fifth (the 0th included) also takes one generator
step, as in Algorithm 1 of WGAN-GP (arXiv 1704.00028) with n_critic = 5; there the generator
moves after the last of the five, here after the first.
"""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import penalty
import torch
from dataset import Batches, Dataset  # noqa: F401 (Dataset is public here)
from download import open_data
from fid import Features, Scorer
from logger import LAYOUT, TERMS, Logger
from networks import LATENT_DIM, Generator, frozen
from settings import Settings
from torch import Tensor, nn
from torchvision import transforms

from common import InputError, NonFiniteError
from common.command_line import UNNAMED, refuse_to_run
from common.device import Precision, autocast_dtype, prepare
from common.files import fingerprint
from common.measure import RunningMeans, check_weights
from common.run import (
    Forecast,
    RunFolder,
    StopSignal,
    last_good_state,
    progress_bar,
    rng_state,
    set_rng_state,
    stoppable,
)

HERE = Path(__file__).resolve().parent


def build_transforms() -> transforms.Compose:
    """PIL image or array to a float tensor (3, H, W) in [-1, 1]."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])


def get_optimizers_and_schedulers(gen: nn.Module, disc: nn.Module) -> tuple:
    """Adam (2e-4, betas (0, 0.9)), its rate falling linearly to 0 and staying there.

    Over 500,000 discriminator steps and 100,000 generator steps. Returns (optim_discriminator,
    scheduler_discriminator, optim_generator, scheduler_generator).
    """

    def adam_and_decay(module: nn.Module, steps: int) -> tuple:
        optimizer = torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.0, 0.9), fused=True)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / steps)
        )

    return *adam_and_decay(disc, 500_000), *adam_and_decay(gen, 100_000)


@dataclass(frozen=True)
class Losses:
    """The two losses of a question, and whether the discriminator's needs x^ and D(x^)."""

    discriminator: Callable[..., Tensor]  # (D(x), D(G(z)), D(x^), x^, lamb) -> scalar
    generator: Callable[[Tensor], Tensor]  # D(G(z)) -> scalar
    interpolates: bool


def discriminator_step(
    gen: Generator,
    disc: nn.Module,
    batch: tuple[Tensor, Tensor, Tensor],
    losses: Losses,
    settings: Settings,
    precision: Precision,
) -> dict[str, Tensor]:
    """Backward pass of one discriminator update; returns its terms as detached scalars.

    batch: real images (B, 3, 32, 32) in [-1, 1]; z (B, 128) ~ N(0, I); eps (B, 1, 1, 1) ~ U(0, 1),
    one per image, the share of the fake in x^ = eps * fake + (1 - eps) * real. Networks compute in
    `precision`, losses in float32.
    """
    real, z, eps = batch
    with torch.no_grad(), precision():
        fake = gen.forward_given_samples(z).float()  # (B, 3, 32, 32) in [-1, 1]
    with precision():
        # One pass for both: without batch normalisation no score depends on its neighbours.
        scores = disc(torch.cat([real, fake]))  # (2B, 1)
    discrim_real, discrim_fake = scores.float().chunk(2)

    interp = discrim_interp = None
    if losses.interpolates and not settings.fast_penalty:
        interp = (eps * fake + (1 - eps) * real).requires_grad_()  # x^
        with precision.wide():  # float16 has too small a range for the gradients of the penalty
            discrim_interp = disc(interp).float()  # (B, 1)
    loss = losses.discriminator(discrim_real, discrim_fake, discrim_interp, interp, settings.lamb)
    precision.scale(loss).backward()

    terms = {"real_score": discrim_real.mean().detach(), "fake_score": discrim_fake.mean().detach()}
    terms["discriminator_loss"] = loss.detach()
    if settings.fast_penalty:  # the loss above had none
        interp = eps * fake + (1 - eps) * real
        value = penalty.penalty_backward(
            disc, interp, settings.lamb, precision.wide, precision.scale
        )
        terms["discriminator_loss"] = loss.detach() + settings.lamb * value
        terms["gradient_penalty"] = value
    return terms


def generator_step(
    gen: Generator, disc: nn.Module, z: Tensor, losses: Losses, precision: Precision
) -> dict[str, Tensor]:
    """Backward pass of one generator update through the frozen discriminator; returns its terms."""
    with frozen(disc):
        with precision():
            scores = disc(gen.forward_given_samples(z))  # (B, 1)
        loss = losses.generator(scores.float())
        precision.scale(loss).backward()
    return {"generator_loss": loss.detach()}


class Trainer:
    """All that an iteration changes. `state_dict` is the whole of it, `iterate` the algorithm."""

    def __init__(
        self,
        gen: Generator,
        disc: nn.Module,
        losses: Losses,
        images: Tensor,
        settings: Settings,
        dtype: torch.dtype | None = None,
        make_optimizers: Callable[..., tuple] = get_optimizers_and_schedulers,
    ):
        """images: uint8 (N, 3, 32, 32). dtype: of the autocast; None is float32."""
        self.gen = gen.to(memory_format=torch.channels_last).train()
        self.disc = disc.to(memory_format=torch.channels_last).train()
        self.device, self.losses = next(gen.parameters()).device, losses
        self.precision = Precision(self.device, dtype)
        # (1 - decay) w + decay average after every generator step (Yazici et al. 2019, arXiv
        # 1806.04498, equation 2); it is scored and drawn, and nothing is trained by it.
        self.average = None if settings.ema is None else copy.deepcopy(gen).requires_grad_(False)
        self.settings = dataclasses.replace(
            settings,
            loss=loss_name(losses.discriminator),
            networks=(type(gen).__name__, type(disc).__name__),
            optimizers=name_of(make_optimizers),
            data=fingerprint(images),
            device=self.device.type,
            number_format=self.precision.name,
        )
        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        self.batches = Batches(images, settings.batch_size, self.rng)
        optimizers = make_optimizers(gen, disc)
        self.optim_disc, self.sched_disc, self.optim_gen, self.sched_gen = optimizers
        if settings.fast_penalty:
            self._check_fast_penalty()
        self.iteration = 0
        self.means = RunningMeans(TERMS, self.device)  # since the last log line

    def _check_fast_penalty(self) -> None:
        loss, lamb = self.losses.discriminator, self.settings.lamb
        if not self.losses.interpolates:
            raise InputError("--fast_penalty: this loss has no penalty; leave the option out")
        if not penalty.replaces(self.disc, loss, lamb):
            raise InputError(
                "--fast_penalty: its gradient is not that of this loss's own penalty (another "
                "penalty, another non-linearity than nn.ReLU, or a compiled discriminator); "
                "leave the option out"
            )

    def iterate(self) -> None:
        """One discriminator step and, every fifth time, one generator step on fresh fakes.

        Nothing here waits for the device: the terms are summed there and read at log lines.
        """
        gen, disc, losses, precision = self.gen, self.disc, self.losses, self.precision
        scaler, size = precision.scaler, self.settings.batch_size
        self.optim_disc.zero_grad()
        eps = torch.rand(size, 1, 1, 1, generator=self.rng, device=self.device)
        batch = self.batches.next(), self.latents(), eps
        terms = discriminator_step(gen, disc, batch, losses, self.settings, precision)
        scaler.step(self.optim_disc)
        self.sched_disc.step()
        if self.iteration % self.settings.generator_every == 0:
            self.optim_gen.zero_grad()
            terms |= generator_step(gen, disc, self.latents(), losses, precision)
            scaler.step(self.optim_gen)
            self.sched_gen.step()
            self.update_average()
        scaler.update()
        self.iteration += 1
        self.means.add(terms, self.iteration)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average a little towards the generator; without `ema` there is none."""
        if self.average is None or self.settings.ema is None:
            return
        weights: list[Tensor] = list(self.gen.parameters())
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - self.settings.ema)

    def latents(self) -> Tensor:
        """(B, 128) ~ N(0, I), float32 whatever the autocast type."""
        size = self.settings.batch_size
        return torch.randn(size, LATENT_DIM, generator=self.rng, device=self.device)

    def check_finite(self) -> None:
        """Raise NonFiniteError if any loss so far, or any weight now, is NaN or infinite."""
        self.means.check_finite()
        check_weights(*self.generators().values(), self.disc)

    def generators(self) -> dict[str, Generator]:
        """What is drawn, scored and saved at a log line, by the names of the files."""
        averages = {} if self.average is None else {"generator_ema": self.average}
        return {"generator": self.gen} | averages

    def _parts(self) -> dict:
        return {
            **self.generators(),
            "discriminator": self.disc,
            "optim_disc": self.optim_disc,
            "sched_disc": self.sched_disc,
            "optim_gen": self.optim_gen,
            "sched_gen": self.sched_gen,
            "scaler": self.precision.scaler,
            "batches": self.batches,
            "means": self.means,
        }

    def state_dict(self) -> dict:
        """Tensors and builtins only, so that it loads with `weights_only=True`."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"rng": self.rng.get_state(), "global_rng": rng_state(self.device)}
        return state | {"iteration": self.iteration}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.iteration = state["iteration"]
        self.rng.set_state(state["rng"])
        set_rng_state(state["global_rng"], self.device)


def train_model(
    gen: Generator,
    disc: nn.Module,
    num_iterations: int,
    batch_size: int,
    lamb: float = 10,
    prefix: str | Path | None = None,
    gen_loss_fn: Callable[[Tensor], Tensor] | None = None,
    disc_loss_fn: Callable[..., Tensor] | None = None,
    log_period: int = 10000,
    amp_enabled: bool = True,
    *,
    interpolates: bool = True,
    images: Tensor | None = None,
    resume: bool | str | Path | None = None,
    overwrite: bool = False,
    make_optimizers: Callable[..., tuple] = get_optimizers_and_schedulers,
    settings: Settings | None = None,
) -> list[dict]:
    """Train `gen` and `disc`, on the device they are on, for exactly `num_iterations` iterations.

    prefix: the run's folder (relative: beside this file). interpolates: whether disc_loss_fn needs
    x^ and D(x^). images: uint8 (N, 3, 32, 32); default those of the settings. resume: True for the
    folder's own state, or a path. make_optimizers: as get_optimizers_and_schedulers. settings: the
    rest of a run; before it go num_iterations, batch_size, and lamb and log_period where they are
    not at their defaults. Returns the rows of metrics.csv. Raises InputError before any work,
    NonFiniteError, Interrupted.
    """
    if gen_loss_fn is None or disc_loss_fn is None:
        raise InputError("train_model: gen_loss_fn and disc_loss_fn must be given; see q1_5.py")
    losses = Losses(disc_loss_fn, gen_loss_fn, interpolates)
    given: dict = {"num_iterations": num_iterations, "batch_size": batch_size}
    given |= {"lamb": lamb} if lamb != 10 or settings is None else {}
    given |= {"log_period": log_period} if log_period != 10000 or settings is None else {}
    given |= {} if images is None else {"dataset": UNNAMED}
    settings = dataclasses.replace(settings or Settings(), **given)
    with RunFolder(HERE / (prefix or "data_gan"), LAYOUT, resume, overwrite) as run:
        folders: tuple[Path, ...] = ()
        if images is None:
            images, folders = open_data(settings)
        dtype = autocast_dtype(next(gen.parameters()).device, amp_enabled)
        trainer = Trainer(gen, disc, losses, images, settings, dtype, make_optimizers)
        return fit(trainer, run, folders)


def fit(trainer: Trainer, run: RunFolder, stats_folders: Sequence[Path] = ()) -> list[dict]:
    """Train until the settings' num_iterations, from the start or from the run's state.

    stats_folders: where the statistics of the reference images may be kept. Returns the rows.
    """
    settings = trainer.settings
    run.check_settings(settings)
    run.restore(trainer)
    left = settings.num_iterations - trainer.iteration
    if left < 0:
        raise InputError(
            f"--num_iterations: got {settings.num_iterations}, "
            f"the run is at {trainer.iteration} already"
        )
    scorer = None
    if settings.fid != "off":
        features = Features(settings.fid, trainer.device, settings.inception_weights)
        folders = (*stats_folders, run.folder)
        images = trainer.batches.images
        scorer = Scorer(images, features, folders, settings.fid_mode, settings.seed)
    prepare(trainer.precision)
    features_key = scorer.features.key if scorer else None
    run.begin(settings, images=len(trainer.batches.images), features=features_key)
    try:
        with stoppable(run, trainer, lambda: f"at iteration {trainer.iteration}") as stop:
            training_loop(trainer, Logger(run, trainer, scorer), stop)
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; {last_good_state(run.folder)}") from None
    return run.rows


def training_loop(trainer: Trainer, logger: Logger, stop: StopSignal) -> None:
    """Iterate; log at every multiple of the log period and at the end; save then and in between."""
    settings, run = trainer.settings, logger.run
    logger.begin()
    left = settings.num_iterations - trainer.iteration
    forecast = Forecast("iteration", left, settings.generator_every, trainer.precision)
    with progress_bar(trainer.iteration, settings.num_iterations, "it") as bar:
        while True:
            at_end = trainer.iteration == settings.num_iterations
            if trainer.iteration > 0 and (at_end or trainer.iteration % settings.log_period == 0):
                logger.log_once("log", stop.check)
            if at_end:
                logger.log_once("final", stop.check)
                logger.animate()
                return
            trainer.iterate()
            forecast.step()
            logger.show(bar)
            run.save_if_due(trainer)
            stop.check()


def name_of(function: Callable) -> str:
    """Its file and its own name: a run is resumed with the same functions only."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return type(function).__qualname__
    return f"{Path(code.co_filename).stem}.{function.__qualname__}"


def loss_name(loss_fn: Callable) -> str:
    """Of a loss with the handout's name, the script that it comes from: q1_5, for one."""
    return name_of(loss_fn).removesuffix(".compute_discriminator_loss")


if __name__ == "__main__":
    refuse_to_run("train.py", "q1_3.py, q1_4.py or q1_5.py")
