"""Measuring without a trace: means of loss terms, modules in another mode, progress."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from common import NonFiniteError

ANOTHER_RUN = (
    "resumed, it would again; start anew with --disable_amp, another --seed or, where the script "
    "has it, a lower --lr"
)


@contextlib.contextmanager
def preserved(*modules: nn.Module) -> Iterator[None]:
    """Modes, buffers (the running statistics) and torch's random numbers are as before after it."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    buffers = [(b, b.clone()) for module in modules for b in module.buffers()]
    devices = {p.device for module in modules for p in module.parameters()}
    cuda = [d for d in devices if d.type == "cuda" and torch.cuda.is_available()]
    with torch.random.fork_rng(cuda):  # the CPU's as well
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode
            for buffer, before in buffers:
                buffer.copy_(before)


@contextlib.contextmanager
def measuring(
    module: nn.Module, train: bool = False, seed: int | None = None
) -> Iterator[torch.device]:
    """The module in train or eval mode, without gradients; yields the device that it is on.

    Afterwards modes, buffers and random numbers are as before. seed: of what is drawn inside.
    """
    with preserved(module), torch.no_grad():
        if seed is not None:
            torch.manual_seed(seed)
        module.train(train)
        yield next(module.parameters()).device


class RunningMeans:
    """Weighted means of scalar terms by name, which need not occur in every step.

    They are summed on the device and read once in a while: no wait inside a step. The first step
    at which a term was not finite is remembered there too.
    """

    def __init__(self, device: torch.device):
        self.device, self.names = device, []  # type: tuple[torch.device, list[str]]
        self.first_bad = torch.zeros(1, dtype=torch.float64, device=device)  # step, then its terms
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=self.device)
        self.weights: dict[str, float] = dict.fromkeys(self.names, 0)

    def add(self, terms: dict[str, Tensor], step: int, weight: float = 1) -> None:
        """terms: name -> detached scalar tensor; step counts from 1."""
        if new := [name for name in terms if name not in self.weights]:
            self.names += new
            more = self.sums.new_zeros(len(new))
            self.sums, self.first_bad = (torch.cat([t, more]) for t in (self.sums, self.first_bad))
            self.weights |= dict.fromkeys(new, 0)
        absent = torch.zeros((), device=self.device)
        # One tensor for all terms: a few kernels a step, whatever their number.
        values = torch.stack([terms.get(name, absent) for name in self.names]).double()
        self.sums += weight * values  # on the device: nothing waits
        for name in terms:
            self.weights[name] += weight
        first = ~torch.isfinite(values).all() & (self.first_bad[0] == 0)
        now = torch.cat([values.new_full((1,), step), values])
        self.first_bad = torch.where(first, now, self.first_bad)

    def means(self) -> dict[str, float]:
        """Without the terms that never occurred."""
        sums = zip(self.names, self.sums.tolist(), strict=True)
        return {name: total / self.weights[name] for name, total in sums if self.weights[name]}

    def check_finite(self) -> None:
        """Raise NonFiniteError if any term so far was NaN or infinite."""
        step, *values = self.first_bad.tolist()
        if step:  # a term that the step did not have stands there as 0
            named = zip(self.names, values, strict=True)
            terms = ", ".join(f"{name.replace('_', ' ')} {v:.4g}" for name, v in named if v != 0)
            raise NonFiniteError(
                f"a loss became non-finite at step {int(step)} ({terms}); {ANOTHER_RUN}"
            )

    def state_dict(self) -> dict:
        """Sums and weights."""
        return {"sums": self.sums.cpu(), "weights": self.weights.copy()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.sums, self.weights = state["sums"].to(self.device), dict(state["weights"])
        self.names, self.first_bad = list(self.weights), self.sums.new_zeros(1 + len(self.weights))


def check_weights(*modules: nn.Module) -> None:
    """Raise NonFiniteError if any weight or buffer is NaN or infinite."""
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    # One answer for all of them, so that the device is waited for once.
    if not torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all():
        raise NonFiniteError(f"a weight became non-finite; {ANOTHER_RUN}")


def progress_bar(steps: Iterable | None = None, **how: Any) -> tqdm:
    """tqdm; in a log file it moves every half minute."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    how |= {"mininterval": seconds, "maxinterval": seconds, "smoothing": 0.05}
    return tqdm(steps, dynamic_ncols=True, **how)
