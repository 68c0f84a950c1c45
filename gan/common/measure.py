"""Measuring without a trace: means of loss terms, modules in another mode, progress."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm


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

    They are summed on the device and read once in a while: no wait inside a step. A sum stays NaN
    or infinite once a term was.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.sums: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}

    def add(self, terms: dict[str, Tensor], weight: float = 1) -> None:
        """terms: name -> detached scalar tensor."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + weight * term.double()
            self.weights[name] = self.weights.get(name, 0) + weight

    def means(self) -> dict[str, float]:
        """By name."""
        sums = zip(self.sums, self._totals().tolist(), strict=True)  # one wait for all
        return {name: total / self.weights[name] for name, total in sums if self.weights[name]}

    def _totals(self) -> Tensor:
        return torch.stack([*self.sums.values()]) if self.sums else torch.zeros(0)

    def state_dict(self) -> dict:
        """Sums and weights."""
        return {"sums": self._totals().cpu(), "weights": self.weights.copy()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict`."""
        self.weights = dict(state["weights"])
        self.sums = dict(zip(self.weights, state["sums"].to(self.device), strict=True))


def progress_bar(steps: Iterable | None = None, **how: Any) -> tqdm:
    """tqdm; in a log file it moves every half minute."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    how |= {"mininterval": seconds, "maxinterval": seconds, "smoothing": 0.05}
    return tqdm(steps, dynamic_ncols=True, **how)
