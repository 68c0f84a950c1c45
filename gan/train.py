"""The training loop of questions 1.3, 1.4 and 1.5: one algorithm, the losses are passed in.

An iteration is one discriminator step; every fifth (the 0th included) also takes one generator
step, as in Algorithm 1 of WGAN-GP (arXiv 1704.00028) with n_critic = 5; there the generator
moves after the last of the five, here after the first.
"""

import copy
import inspect
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dataset import Batches, Dataset, pixels_of
from download import find_data
from logger import LAYOUT, Logger
from networks import LATENT_DIM, AnyGenerator, frozen
from torch import Tensor, nn
from torchvision import transforms
from utils import merged_options

from common import InputError, name_of, tried
from common.device import Precision, autocast_dtype, prepare
from common.files import fingerprint
from common.measure import RunningMeans, preserved, progress_bar
from common.run import Run, settings_of

HERE = Path(__file__).resolve().parent
SHOWN, FIRST_LOOK = 50, 100  # iterations between points in TensorBoard; of the first pictures


def build_transforms() -> transforms.Compose:
    """PIL image or array to a float tensor (3, H, W) in [-1, 1]."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])


def get_optimizers_and_schedulers(gen: AnyGenerator, disc: nn.Module) -> tuple:
    """Adam (2e-4, betas (0, 0.9)), its rate falling linearly to 0 and staying there.

    Over 500,000 discriminator steps and 100,000 generator steps. Returns (optim_discriminator,
    scheduler_discriminator, optim_generator, scheduler_generator).
    """

    def adam_and_decay(module: nn.Module, steps: int) -> tuple:
        optimizer = torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.0, 0.9), fused=True)
        # Below 0 a rate would climb the loss.
        return optimizer, torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / steps)
        )

    return *adam_and_decay(disc, 500_000), *adam_and_decay(gen, 100_000)


def discriminator_step(
    gen: AnyGenerator,
    disc: nn.Module,
    real: Tensor,
    z: Tensor,
    eps: Tensor | None,
    disc_loss_fn: Callable[..., Tensor],
    lamb: float,
    precision: Precision,
) -> dict[str, Tensor]:
    """Backward pass of one discriminator update; returns its terms as detached scalars.

    real: (B, 3, 32, 32) in [-1, 1]. z: (B, 128) ~ N(0, I). eps: (B, 1, 1, 1) ~ U(0, 1), one per
    image, the share of the fake in x^ = eps * fake + (1 - eps) * real; None for a loss that does
    not use x^. Networks compute in `precision`, losses in float32.
    """
    with torch.no_grad(), precision():  # this step does not train the generator
        fake = gen.forward_given_samples(z).float()  # (B, 3, 32, 32) in [-1, 1]
    with precision():
        # One pass for both: without batch normalisation no score depends on its neighbours.
        scores = disc(torch.cat([real, fake]))  # (2B, 1)
    discrim_real, discrim_fake = scores.float().chunk(2)  # (B, 1) each

    interp = discrim_interp = None
    slopes: list[Tensor] = []  # grad D(x^), where the loss takes it
    if eps is not None:
        interp = (eps * fake + (1 - eps) * real).requires_grad_()  # x^, (B, 3, 32, 32)
        hook = interp.register_hook(lambda slope: slopes.append(slope.detach()))
        with precision(wide=True):  # float16 has too small a range for the gradients of the penalty
            discrim_interp = disc(interp).float()  # (B, 1)
    loss = disc_loss_fn(discrim_real, discrim_fake, discrim_interp, interp, lamb)
    if eps is not None:
        hook.remove()  # the backward pass would call it again, with another gradient
    precision.scaler.scale(loss).backward()

    terms = {"discriminator_loss": loss.detach()}
    if slopes:
        norm = slopes[0].float().flatten(1).norm(dim=1)  # (B,)
        terms |= {"gradient_norm": norm.mean(), "gradient_penalty": (norm - 1).square().mean()}
    terms |= {"real_score": discrim_real.mean(), "fake_score": discrim_fake.mean()}
    return {name: term.detach() for name, term in terms.items()}


def generator_step(
    gen: AnyGenerator,
    disc: nn.Module,
    z: Tensor,
    gen_loss_fn: Callable[[Tensor], Tensor],
    precision: Precision,
) -> dict[str, Tensor]:
    """Backward pass of one generator update through the frozen discriminator; returns its terms."""
    with frozen(disc):
        with precision():
            scores = disc(gen.forward_given_samples(z))  # (B, 1)
        loss = gen_loss_fn(scores.float())
        precision.scaler.scale(loss).backward()
    return {"generator_loss": loss.detach()}


@torch.no_grad()
def update_average(average: nn.Module, gen: nn.Module, decay: float) -> None:
    """decay * average + (1 - decay) * w (Yazici et al. 2019, arXiv 1806.04498, equation 2)."""
    for mean, weight in zip(average.parameters(), gen.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)


def train_model(
    gen: AnyGenerator,
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
    options: Namespace | None = None,
    images: Tensor | None = None,
    make_optimizers: Callable[..., tuple] | None = None,
    generator_every: int = 5,
) -> list[dict]:
    """Train `gen` and `disc`, on the device they are on, for exactly `num_iterations` iterations.

    prefix: the run's folder (relative: beside this file). options: the rest of the command line,
    of `utils.get_args`; default what it parsed last. images: uint8 (N, 3, 32, 32) instead of the
    options' data. make_optimizers: as get_optimizers_and_schedulers. generator_every:
    discriminator steps to one of the generator. Returns the rows of metrics.csv. Raises InputError
    before anything is written, NonFiniteError, Interrupted.
    """
    if gen_loss_fn is None or disc_loss_fn is None:
        raise InputError("train_model: gen_loss_fn and disc_loss_fn must be given; see q1_5.py")
    asked: Any = {"num_iterations": num_iterations, "batch_size": batch_size, "lamb": lamb}
    asked |= {"prefix": prefix, "log_period": log_period, "disable_amp": not amp_enabled}
    options = merged_options(options, generator_every, **asked)
    make_optimizers = make_optimizers or get_optimizers_and_schedulers
    device = next(gen.parameters()).device
    precision = Precision(device, autocast_dtype(device, amp_enabled))
    gen, disc = (net.to(memory_format=torch.channels_last).train() for net in (gen, disc))

    how = options.resume, options.overwrite, options.again
    with Run(HERE / options.prefix, LAYOUT, *how) as run:
        script = name_of(disc_loss_fn).removesuffix(".compute_discriminator_loss")
        own: Any = {"loss": script, "networks": [type(gen).__name__, type(disc).__name__]}
        own |= {"optimizers": name_of(make_optimizers), "generator_every": generator_every}
        settings = settings_of(options, run.folder, precision, own)
        run.check(settings)  # before the images are read, which takes a while
        uses_interp = try_losses(gen, disc, disc_loss_fn, gen_loss_fn, options)

        root, stats_folders = (images, ()) if images is not None else find_data(options)
        dataset = Dataset(root, tried(build_transforms, what="expected a transform of images"))
        pixels = dataset.pixels if hasattr(dataset, "pixels") else pixels_of(root)
        transform = getattr(dataset, "transform", None)
        steps = map(name_of, getattr(transform, "transforms", [transform]))
        settings |= {"data": fingerprint(pixels), "transforms": list(steps)}
        settings["dataset"] = options.dataset if images is None else "unnamed"
        run.check(settings)
        rng = torch.Generator(device).manual_seed(options.seed)  # of batches, z and eps alone
        batches = Batches(dataset, batch_size, rng)
        optim_disc, sched_disc, optim_gen, sched_gen = made_optimizers(make_optimizers, gen, disc)
        # Scored and drawn beside the generator; nothing is trained by it.
        average = None if options.ema is None else copy.deepcopy(gen).requires_grad_(False)
        means = RunningMeans(device)  # of the loss terms since the last log line
        parts = {"generator": gen, "discriminator": disc, "optim_disc": optim_disc}
        parts |= {"sched_disc": sched_disc, "optim_gen": optim_gen, "sched_gen": sched_gen}
        parts |= {"scaler": precision.scaler, "batches": batches, "rng": rng, "means": means}
        parts |= {} if average is None else {"generator_ema": average}  # all that a step changes
        logger = Logger(run, parts, options, pixels, (*stats_folders, run.folder))
        prepare(precision)  # so far nothing was written
        run.begin(settings, parts, num_iterations, images=len(dataset), features=logger.features)
        logger.begin()

        with progress_bar(initial=run.step, total=num_iterations) as bar:
            while True:
                iters, at_end = run.step, run.step == num_iterations
                if iters > 0 and (at_end or iters % log_period == 0) and not logger.has(iters):
                    logger.log(iters, at_end or iters % (options.score_period or log_period) == 0)
                elif iters == FIRST_LOOK:
                    logger.save_pictures(iters)
                if at_end:
                    break

                eps = torch.rand(batch_size, 1, 1, 1, generator=rng, device=device)  # lines 4 to 9
                real = batches.next()  # (B, 3, 32, 32) in [-1, 1]
                z = torch.randn(batch_size, LATENT_DIM, generator=rng, device=device)  # (B, 128)
                optim_disc.zero_grad()
                terms = discriminator_step(
                    gen, disc, real, z, eps if uses_interp else None, disc_loss_fn, lamb, precision
                )
                precision.scaler.step(optim_disc)
                sched_disc.step()

                if iters % generator_every == 0:  # lines 11 and 12, on fresh latents
                    z = torch.randn(batch_size, LATENT_DIM, generator=rng, device=device)
                    optim_gen.zero_grad()
                    terms |= generator_step(gen, disc, z, gen_loss_fn, precision)
                    precision.scaler.step(optim_gen)
                    sched_gen.step()
                    if average is not None:
                        update_average(average, gen, options.ema)
                precision.scaler.update()

                run.step += 1
                means.add(terms)
                if iters % SHOWN == 0:  # a multiple of 5: the generator's loss is among them
                    logger.show_in_tensorboard(terms, run.step)
                logger.show(bar)
                run.end_step()  # here it is whole
        logger.finish(num_iterations)
    return run.rows


def made_optimizers(make_optimizers: Callable[..., tuple], gen: nn.Module, disc: nn.Module) -> Any:
    """What it returns; InputError unless that is the four of the handout, in their order."""
    what = "expected (optim_disc, sched_disc, optim_gen, sched_gen)"
    made = tried(make_optimizers, gen, disc, what=what)
    if not isinstance(made, tuple | list) or len(made) != 4:
        raise InputError(f"{name_of(make_optimizers)} returned {type(made).__name__}; {what}")
    for optimizer, net in ((made[0], disc), (made[2], gen)):
        groups = getattr(optimizer, "param_groups", [{"params": []}])
        own = {id(weight) for weight in net.parameters()}
        if not {id(weight) for group in groups for weight in group["params"]} & own:
            raise InputError(f"{name_of(make_optimizers)} returned another order; {what}")
    for part, needed in zip(made, ("zero_grad", "get_last_lr") * 2, strict=True):
        lost = [name for name in (needed, "step") if not hasattr(part, name)]
        parameters = () if lost else inspect.signature(part.step).parameters.values()
        asked = [one.name for one in parameters if one.default is one.empty and one.kind < 2]
        if lost or asked not in ([], ["self"]):  # a schedule wraps its optimizer's step
            raise InputError(
                f"{name_of(make_optimizers)} returned {type(part).__name__}, which has no "
                f"{lost[0] if lost else 'step'}() without arguments; a rate that stays is "
                "LambdaLR(optimizer, lambda step: 1.0)"
            )
    return made


def try_losses(
    gen: AnyGenerator,
    disc: nn.Module,
    disc_loss_fn: Callable[..., Tensor],
    gen_loss_fn: Callable[[Tensor], Tensor],
    options: Namespace,
) -> bool:
    """Networks and losses on three images, in float32 and without a trace.

    Returns whether the discriminator's loss makes use of x^ or D(x^). InputError names the
    function that does something else than it should.
    """

    def call(function: Callable, *given: Any, shape: tuple[int, ...], what: str) -> Tensor:
        got, name = tried(function, *given, what=f"expected {what}"), name_of(function)
        found = tuple(got.shape) if isinstance(got, Tensor) else repr(got)
        if found != shape:
            raise InputError(f"{name} returned {found}; expected a tensor of shape {shape}, {what}")
        if not torch.isfinite(got).all():
            raise InputError(f"{name} returned NaN or infinite values; expected {what}")
        return got

    scalar = "a mean over the batch as a scalar"
    of_images = "scores (B, 1) of images (B, 3, 32, 32)"
    with preserved(gen, disc):  # a trial that moved the global generator would change the run
        if not hasattr(gen, "forward_given_samples"):
            kind = type(gen).__name__
            raise InputError(f"{kind} has no forward_given_samples(z); expected a generator first")
        z = torch.randn(3, LATENT_DIM, device=next(gen.parameters()).device)
        of_latents = "images (B, 3, 32, 32) of latents (B, 128)"
        fake = call(gen.forward_given_samples, z, shape=(3, 3, 32, 32), what=of_latents)
        if fake.abs().max() > 1.001:
            got = f"values from {fake.min():.3g} to {fake.max():.3g}"
            name = name_of(gen.forward_given_samples)
            raise InputError(f"{name} returned {got}; expected images in [-1, 1]")
        scores = call(disc.forward, fake, shape=(3, 1), what=of_images)
        losses = [(gen_loss_fn, call(gen_loss_fn, scores, shape=(), what=scalar), gen)]
        interp, slopes = fake.detach().requires_grad_(), []  # type: tuple[Tensor, list]
        hook = interp.register_hook(lambda slope: slopes.append(True))
        discrim_interp, scores = disc(interp), disc(fake.detach())
        given = (scores, scores, discrim_interp, interp, options.lamb)
        losses += [(disc_loss_fn, call(disc_loss_fn, *given, shape=(), what=scalar), disc)]
        hook.remove()  # the gradients below are not the loss's own
        for function, loss, net in losses:
            wanted: list = [weight for weight in net.parameters() if weight.requires_grad]
            # Of D(x^) and x^ too, for a loss that uses them in another way.
            wanted += [discrim_interp, interp]
            slopes_of: Any = [None] * len(wanted)
            if loss.requires_grad:
                slopes_of = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
            if all(slope is None for slope in slopes_of[:-2]):
                raise InputError(
                    f"{name_of(function)} returned a loss without a gradient for "
                    f"{type(net).__name__}; do not detach it, nor compute it from numbers, nor "
                    "freeze the network"
                )
        uses_interp = bool(slopes) or any(slope is not None for slope in slopes_of[-2:])
    if "lamb" in options.given and not uses_interp:
        raise InputError("--lamb: this loss has no gradient penalty; leave the option out")
    return uses_interp
