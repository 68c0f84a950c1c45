"""Schedules of beta, the weight of the KL term.

The assignment's are functions of the epoch, the others of the step; both count from 0.
"""

import math
from collections.abc import Callable

from settings import Settings


def constant_beta_scheduler(target_val: float = 1) -> Callable[[int], float]:
    """target_val at every epoch."""
    return lambda epoch: target_val


def linear_beta_scheduler(
    max_epochs: int | None = None, target_val: float = 1
) -> Callable[[int], float]:
    """0 at epoch 0, target_val at epoch max_epochs and after."""
    if max_epochs is None or max_epochs <= 0:
        raise ValueError(
            f"linear_beta_scheduler: max_epochs is {max_epochs}, expected a number of epochs > 0"
        )
    return lambda epoch: target_val * min(1.0, epoch / max_epochs)


def anneal_beta_scheduler(
    anneal_steps: int = 10_000, target_val: float = 1
) -> Callable[[int], float]:
    """0 at step 0, target_val at step anneal_steps and after (KL annealing, arXiv 1511.06349)."""
    if anneal_steps <= 0:
        raise ValueError(
            f"anneal_beta_scheduler: anneal_steps is {anneal_steps}, expected a number > 0"
        )
    return lambda step: target_val * min(1.0, step / anneal_steps)


def cyclical_beta_scheduler(
    total_steps: int, cycles: int = 4, ratio: float = 0.5, target_val: float = 1
) -> Callable[[int], float]:
    """`cycles` times from 0 to target_val, in the first `ratio` of each cycle; then it stays there.

    Fu et al. 2019, arXiv 1903.10145, equations (6) and (7), with f(tau) = tau / R; step is their
    t - 1.
    """
    if total_steps <= 0 or cycles < 1 or not 0 < ratio <= 1:
        raise ValueError(
            f"cyclical_beta_scheduler: got {total_steps} steps, {cycles} cycles, ratio {ratio}; "
            "expected > 0, >= 1, in (0, 1]"
        )
    period = math.ceil(total_steps / cycles)
    return lambda step: target_val * min(1.0, (step % period) / (total_steps / cycles) / ratio)


def beta_schedule(settings: Settings, steps_per_epoch: int) -> Callable[[int, int], float]:
    """The settings' schedule as a function of (epoch, step), step counting over the whole run."""
    target, epochs = settings.target_beta_val, settings.num_epochs
    if settings.beta_mode == "anneal":
        by_step = anneal_beta_scheduler(settings.anneal_steps, target)
        return lambda epoch, step: by_step(step)
    if settings.beta_mode == "cyclical":
        total = epochs * steps_per_epoch
        by_step = cyclical_beta_scheduler(total, settings.cycles, settings.ratio, target)
        return lambda epoch, step: by_step(step)
    if settings.beta_mode == "linear":
        by_epoch = linear_beta_scheduler(epochs, target)
    else:
        by_epoch = constant_beta_scheduler(target)
    return lambda epoch, step: by_epoch(epoch)
