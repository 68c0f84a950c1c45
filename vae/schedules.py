"""Schedules of beta, the weight of the KL term.

The assignment's are functions of the epoch, the others of the step; both count from 0.
"""

import math
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from common import InputError, name_of, tried


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
    return lambda step: target_val * min(1.0, step / anneal_steps)


def cyclical_beta_scheduler(
    total_steps: int, cycles: int = 4, ratio: float = 0.5, target_val: float = 1
) -> Callable[[int], float]:
    """`cycles` times from 0 to target_val, in the first `ratio` of each cycle; then it stays there.

    Fu et al. 2019, arXiv 1903.10145, equations (6) and (7), with f(tau) = tau / R; step is their
    t - 1.
    """
    period = math.ceil(total_steps / cycles)  # whole steps; the rise is by the fraction
    return lambda step: target_val * min(1.0, (step % period) / (total_steps / cycles) / ratio)


def beta_schedule(
    beta_mode: Any, num_epochs: int, target_val: float, steps_per_epoch: int, options: Namespace
) -> Callable[[int], Any]:
    """A function of the epoch, whose value is beta or a function of the run's step.

    beta_mode: constant, linear, anneal, cyclical, or such a function. Raises InputError.
    """
    steps, cycles = num_epochs * steps_per_epoch, options.cycles
    if beta_mode == "cyclical" and 2 * cycles > steps:
        raise InputError(
            f"--cycles: got {cycles}, expected at most half of the run's {steps} steps"
        )
    by_name: dict[Any, Callable[[int], Any]] = {
        "constant": constant_beta_scheduler(target_val),
        "linear": linear_beta_scheduler(num_epochs, target_val),
        # By the step: the same function in each epoch, for it counts those of the whole run.
        "anneal": lambda epoch: anneal_beta_scheduler(options.anneal_steps, target_val),
        "cyclical": lambda epoch: cyclical_beta_scheduler(steps, cycles, options.ratio, target_val),
    }
    if beta_mode in by_name:
        return by_name[beta_mode]
    what = "expected beta, or a function of the step, for an epoch"
    # A student's own is asked for every epoch now, not in the night of the tenth one.
    for epoch in range(min(num_epochs, 10_000)):
        given = tried(beta_mode, epoch, what=what)
        ends = (epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1)
        of_step = "expected beta for the run's step"
        values = [tried(given, step, what=of_step) for step in ends] if callable(given) else [given]
        for beta in values:
            number = isinstance(beta, int | float) and not isinstance(beta, bool)
            if not number or not 0 <= beta < math.inf:
                raise InputError(
                    f"{name_of(beta_mode)} returned {beta!r} for epoch {epoch}, expected a number "
                    ">= 0, or a function of the step that gives one"
                )
    return beta_mode
