"""Means of loss terms, summed on the device and read once in a while: no wait inside a step."""

import torch

from errors import NonFiniteError

ANOTHER_RUN = "resumed, it would again; start anew with --disable_amp or another --seed"


class RunningMeans:
    """Weighted means of the scalar terms called `names`; not every step has every term.

    It also remembers, on the device, the first step at which a term was not finite.
    """

    def __init__(self, names, device):
        self.names, self.device = tuple(names), device
        self.first_bad = torch.zeros(1 + len(self.names), dtype=torch.float64, device=device)
        self.clear()

    def clear(self):
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=self.device)
        self.weights = dict.fromkeys(self.names, 0)

    def add(self, terms, step, weight=1):
        """terms: name -> detached scalar tensor; step counts from 1."""
        absent = torch.zeros((), device=self.device)
        values = torch.stack([terms.get(name, absent) for name in self.names]).double()
        self.sums += weight * values
        for name in terms:
            self.weights[name] += weight
        first = ~torch.isfinite(values).all() & (self.first_bad[0] == 0)
        self.first_bad = torch.where(first, torch.cat([values.new_full((1,), step), values]), self.first_bad)

    def means(self):
        """name -> float, without the terms that never occurred."""
        sums = zip(self.names, self.sums.tolist())
        return {name: total / self.weights[name] for name, total in sums if self.weights[name]}

    def check_finite(self):
        step, *values = self.first_bad.tolist()
        if step:  # a term that the step did not have stands there as 0
            terms = ", ".join(f"{n.replace('_', ' ')} {v:.4g}" for n, v in zip(self.names, values) if v != 0)
            raise NonFiniteError(f"a loss became non-finite at step {int(step)} ({terms}); {ANOTHER_RUN}")

    def state_dict(self):
        return {"sums": self.sums.cpu(), "weights": dict(self.weights)}

    def load_state_dict(self, state):
        self.sums, self.weights = state["sums"].to(self.device), dict(state["weights"])
        self.first_bad.zero_()


def check_weights(*modules):
    """Raise NonFiniteError if any weight or buffer is NaN or infinite."""
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    if not torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all():
        raise NonFiniteError(f"a weight became non-finite; {ANOTHER_RUN}")
