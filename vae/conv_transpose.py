"""`nn.ConvTranspose2d` with the same outputs and gradients, and a faster backward pass on CPUs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution y = W^T x is the transpose of the convolution y -> x with weight W.

    Its gradients are therefore that convolution and that convolution's weight gradient, which
    oneDNN has fast kernels for; its own kernels for the transposed one take twice as long here.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As torch's."""
        if (
            x.device.type != "cpu"
            or not torch.is_grad_enabled()
            or output_size
            or self.bias is None
        ):
            return super().forward(x, output_size)
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
        x, weight, bias = (tensor.to(dtype) for tensor in (x, self.weight, self.bias))
        return _ThroughConvolutions.apply(x, weight, bias, self.stride, self.padding)


class _ThroughConvolutions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = dict(zip(("stride", "padding"), geometry, strict=True))
        return F.conv_transpose2d(x, weight, bias, **ctx.geometry)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_x = F.conv2d(grad_output, weight, **ctx.geometry)
        grad_weight = conv2d_weight(grad_output, weight.shape, x, **ctx.geometry)
        return grad_x, grad_weight, grad_output.sum(dim=(0, 2, 3)), None, None
