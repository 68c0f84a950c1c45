"""The discriminator's layers: torch's, without the zeros in their second derivatives.

With a gradient penalty torch's ReLU, pooling and convolution each hand zeros to the activations
they were taken at, and any one of them costs a backward pass of zeros: a fifth of a step.
"""

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, transpose: Any) -> Tensor:
        ctx.functions = transpose, function
        return function(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _Linear.apply(grad, *ctx.functions), None, None


class _Convolution(torch.autograd.Function):  # or, transposed, its gradient: the same linear map
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Any, *how: Any) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.padding, ctx.transposed, ctx.leaf = how
        return (F.conv_transpose2d if ctx.transposed else F.conv2d)(x, w, b, padding=ctx.padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, w), (of_x, of_w, of_b, *_) = ctx.saved_tensors, ctx.needs_input_grad
        # Towards images alone, as the penalty asks first, weights need no gradient.
        with contextlib.suppress(AttributeError, RuntimeError):  # another torch; w itself was named
            of_w = of_w and (not ctx.leaf or torch._C._will_engine_execute_node(ctx.leaf))
        how = ctx.padding, not ctx.transposed, None
        grad_x = _Convolution.apply(grad, w, None, *how) if of_x else None
        given, slope = (grad, x) if ctx.transposed else (x, grad)
        grad_w = conv2d_weight(given, w.shape, slope, padding=ctx.padding) if of_w else None
        return grad_x, grad_w, grad.sum((0, 2, 3)) if of_b else None, *[None] * 3


class ReLU(nn.ReLU):
    """As torch's: x times the constant of its sign."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        given = x.detach()
        keep = lambda t: torch.ops.aten.threshold_backward(t, given, 0)  # noqa: E731
        return _Linear.apply(x, keep, keep)


class Conv2d(nn.Conv2d):
    """As torch's."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        usual = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if not usual or self.stride + self.dilation + (self.groups,) != (1,) * 5:
            return super().forward(x)
        w, b, kind = self.weight, self.bias, x.device.type
        leaf = torch.autograd.graph.get_gradient_edge(w).node if w.requires_grad else None
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            x, w, b = x.to(dtype), w.to(dtype), b if b is None else b.to(dtype)
        return _Convolution.apply(x, w, b, self.padding, False, leaf)


def avg_pool2d(x: Tensor, ratio: int) -> Tensor:
    """As torch's; its transpose copies pixels."""
    up = lambda t: F.interpolate(t, scale_factor=float(ratio)) / ratio**2  # noqa: E731
    return _Linear.apply(x, lambda t: F.avg_pool2d(t, ratio), up)
