"""--fast_penalty: the gradient penalty of WGAN-GP without differentiating twice.

q1_5.py does not need this file. The penalty that one reads there is differentiated twice; this one
gives the same gradient for the same penalty, to rounding, from one ordinary backward pass.
"""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from networks import frozen
from torch import Tensor, nn


def penalty_backward(
    disc: nn.Module,
    interp: Tensor,
    lamb: float,
    precision: Callable[[], AbstractContextManager] = nullcontext,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> Tensor:
    """Add the gradient of lamb * E[(||grad_x D(x^)||_2 - 1)^2] to `.grad` of disc's parameters.

    interp: x^ (B, 3, H, W). Returns the penalty E[...] without lamb, detached. `precision()` is an
    autocast context; `scale` is a gradient scaler's. `disc` must be piecewise linear, with
    `nn.ReLU` as its only non-linearity, and must score each image alone.

    With g = grad_x D(x^) and v = 2 (||g|| - 1) / ||g|| * g / B held fixed, the penalty changes with
    the parameters exactly as v . grad_x D(x^) does: that is the chain rule through the norm. This
    directional derivative is what D gives for the input v with every ReLU switched as x^ switched
    it and all biases zero; it needs one ordinary backward pass. v = 0 where ||g|| = 0.
    """
    relus = [module for module in disc.modules() if isinstance(module, nn.ReLU)]
    masks = []

    def record_mask(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        masks.append((output > 0).to(output.dtype))

    x = interp.detach().requires_grad_()
    with frozen(disc):  # the gradient with respect to the images alone
        with _hooks(relus, record_mask), precision():
            scores = disc(x)  # (B, 1)
        (gradient,) = torch.autograd.grad(scores.float().sum(), x)

    norm = gradient.float().flatten(1).norm(dim=1)  # (B,)
    weight = torch.where(norm > 0, 2 * (norm - 1) / (norm * len(norm)), 0)
    v = gradient.float() * weight.view(-1, 1, 1, 1)

    switches = iter(masks)
    named = disc.named_parameters()
    no_bias = {name: torch.zeros_like(p) for name, p in named if name.endswith("bias")}
    with _hooks(relus, lambda module, inputs, output: inputs[0] * next(switches)), precision():
        slope = torch.func.functional_call(disc, no_bias, (v,)).float().sum()
    scale(lamb * slope).backward()
    return (norm - 1).square().mean()


@contextlib.contextmanager
def _hooks(modules: Iterable[nn.Module], hook: Callable) -> Iterator[None]:
    """Forward hook on each module for the length of a `with` block."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Times(nn.Module):
    """factor * disc(x)."""

    def __init__(self, factor: Tensor, disc: nn.Module):
        super().__init__()
        self.factor, self.disc = factor, disc

    def forward(self, x: Tensor) -> Tensor:
        """As `disc`."""
        return self.factor * self.disc(x)


def replaces(disc: nn.Module, loss_fn: Callable[..., Tensor], lamb: float) -> bool:
    """Whether `penalty_backward` gives the gradient of loss_fn's own penalty.

    It does not for another non-linearity than `nn.ReLU`, nor for another penalty, nor for a
    compiled network, which skips the hooks. Tried in float32 on two images, with critics of slopes
    below and above 1: a one-sided penalty differs below alone.
    """
    if any(_is_compiled(module) for module in disc.modules()):
        return False
    no_score = next(disc.parameters()).new_zeros(2, 1)
    try:
        loss_fn(no_score, no_score, None, None, lamb)  # the loss apart from its penalty
    except (AttributeError, RuntimeError, TypeError):
        return False
    disc = copy.deepcopy(disc).float()
    device = next(disc.parameters()).device
    rng = torch.Generator(device).manual_seed(0)
    x = torch.rand(2, 3, 32, 32, generator=rng, device=device) * 2 - 1
    x.requires_grad_()
    (slope,) = torch.autograd.grad(disc(x).sum(), x)
    norm, no_score = slope.flatten(1).norm(dim=1), x.new_zeros(2, 1)
    for factor in (0.5 / norm.max(), 2 / norm.min()):
        critic = Times(factor, disc)
        loss = loss_fn(no_score, no_score, critic(x), x, lamb)
        if not loss.requires_grad:  # a loss without a penalty
            return False
        loss.backward()
        plain = _take_gradients(disc)
        penalty_backward(critic, x, lamb)
        if not (_take_gradients(disc) - plain).norm() <= 1e-2 * plain.norm():
            return False
    return True


def _is_compiled(module: nn.Module) -> bool:
    """By `module.compile()` or `torch.compile(module)`."""
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def _take_gradients(module: nn.Module) -> Tensor:
    """All of them in one vector; they are cleared."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
    module.zero_grad()
    return torch.cat([gradient.flatten() for gradient in gradients])
