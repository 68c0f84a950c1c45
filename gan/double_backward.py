"""The discriminator's layers: torch's, without the zeros in their second derivatives."""

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


# With a gradient penalty any one of torch's own costs a backward pass of zeros: a fifth of a step.
class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, transpose: Any) -> Tensor:
        ctx.functions = transpose, function
        return function(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _Linear.apply(grad, *ctx.functions), None, None


class _Conv2d(torch.autograd.Function):  # or, transposed, its gradient: the same linear map
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Any, padding: Any, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.padding, ctx.transposed = padding, transposed
        return (torch.conv_transpose2d if transposed else torch.conv2d)(x, w, b, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, w), (of_x, of_w, of_b, *_) = ctx.saved_tensors, ctx.needs_input_grad
        # Towards images alone, as the penalty asks first, weights need no gradient.
        with contextlib.suppress(AttributeError, RuntimeError):  # another torch; w itself was named
            node = of_w and torch.autograd.graph.get_gradient_edge(w).node
            of_w = node and torch._C._will_engine_execute_node(node)
        grad_x = _Conv2d.apply(grad, w, None, ctx.padding, not ctx.transposed) if of_x else None
        given, slope = (grad, x) if ctx.transposed else (x, grad)
        grad_w = conv2d_weight(given, w.shape, slope, padding=ctx.padding) if of_w else None
        return grad_x, grad_w, grad.sum((0, 2, 3)) if of_b else None, None, None


class ReLU(nn.ReLU):
    """As torch's: x times the constant of its sign."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        keep = lambda t: torch.ops.aten.threshold_backward(t, x.detach(), 0)  # noqa: E731
        return _Linear.apply(x, keep, keep)


class Conv2d(nn.Conv2d):
    """As torch's."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        usual = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if not usual or self.stride + self.dilation + (self.groups,) != (1,) * 5:
            return super().forward(x)
        w, b, kind = self.weight, self.bias, x.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            x, w, b = x.to(dtype), w.to(dtype), b if b is None else b.to(dtype)
        return _Conv2d.apply(x, w, b, self.padding, False)


def avg_pool2d(x: Tensor, ratio: int) -> Tensor:
    """As torch's; its transpose copies pixels."""
    up = lambda t: nn.functional.interpolate(t, None, float(ratio)) / ratio**2  # noqa: E731
    return _Linear.apply(x, lambda t: nn.functional.avg_pool2d(t, ratio), up)
