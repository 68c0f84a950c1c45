"""`nn.ConvTranspose2d` with the same outputs and gradients, and a faster backward pass on CPUs."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution y = W^T x is the transpose of the convolution y -> x with weight W.

    Its gradients are therefore that convolution and that convolution's weight gradient, which
    oneDNN has fast kernels for; its own kernels for the transposed one take twice as long here.
    """

    def forward(self, x):
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        x, weight, bias = (tensor.to(dtype) for tensor in (x, self.weight, self.bias))
        return _ThroughConvolutions.apply(x, weight, bias, self.stride, self.padding)


class _ThroughConvolutions(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.geometry = {"stride": stride, "padding": padding}
        return F.conv_transpose2d(x, weight, bias, **ctx.geometry)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        grad_x = F.conv2d(grad_output, weight, **ctx.geometry)
        grad_weight = nn.grad.conv2d_weight(grad_output, weight.shape, x, **ctx.geometry)
        return grad_x, grad_weight, grad_output.sum(dim=(0, 2, 3)), None, None
