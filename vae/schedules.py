"""Schedules of beta: the assignment's are functions of the epoch, the others of the step; both count from 0."""

import math


def constant_beta_scheduler(target_val=1):
    return lambda epoch: target_val


def linear_beta_scheduler(max_epochs=None, target_val=1):
    """0 at epoch 0, target_val at epoch max_epochs and after."""
    if max_epochs is None or max_epochs <= 0:
        raise ValueError(
            f"linear_beta_scheduler: max_epochs is {max_epochs}, expected a number of epochs > 0"
        )
    return lambda epoch: target_val * min(1.0, epoch / max_epochs)


def anneal_beta_scheduler(anneal_steps=10_000, target_val=1):
    """0 at step 0, target_val at step anneal_steps and after (KL annealing, arXiv 1511.06349)."""
    if anneal_steps <= 0:
        raise ValueError(f"anneal_beta_scheduler: anneal_steps is {anneal_steps}, expected a number > 0")
    return lambda step: target_val * min(1.0, step / anneal_steps)


def cyclical_beta_scheduler(total_steps, cycles=4, ratio=0.5, target_val=1):
    """`cycles` times from 0 to target_val, in the first `ratio` of each cycle; then it stays there.

    Fu et al. 2019, arXiv 1903.10145, equations (6) and (7), with f(tau) = tau / R; step is their t - 1.
    """
    if total_steps <= 0 or cycles < 1 or not 0 < ratio <= 1:
        raise ValueError(
            f"cyclical_beta_scheduler: got {total_steps} steps, {cycles} cycles, ratio {ratio}; expected > 0, >= 1, in (0, 1]"
        )
    period = math.ceil(total_steps / cycles)
    return lambda step: target_val * min(1.0, (step % period) / (total_steps / cycles) / ratio)


def beta_schedule(
    beta_mode, target_val, num_epochs, steps_per_epoch, anneal_steps=10_000, cycles=4, ratio=0.5
):
    """A function of (epoch, step), step counting over the whole run."""
    if beta_mode == "anneal":
        beta = anneal_beta_scheduler(anneal_steps, target_val)
        return lambda epoch, step: beta(step)
    if beta_mode == "cyclical":
        beta = cyclical_beta_scheduler(num_epochs * steps_per_epoch, cycles, ratio, target_val)
        return lambda epoch, step: beta(step)
    if beta_mode == "linear":
        beta = linear_beta_scheduler(num_epochs, target_val)
    else:
        beta = constant_beta_scheduler(target_val)
    return lambda epoch, step: beta(epoch)
