"""The residual generator and discriminator of the assignment (question 1.1).

They are after the CIFAR-10 ResNets of WGAN-GP (Gulrajani et al. 2017, arXiv 1704.00028).
All three losses train the same pair; images are (B, 3, 32, 32) in [-1, 1].
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from double_backward import Conv2d, ReLU, avg_pool2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.measure import preserved

LATENT_DIM = 128
AnyGenerator = Any  # a module with forward_given_samples(z): one's own, too


class UpSampleConv2D(nn.Module):
    """Nearest-neighbour upsampling, then a convolution.

    (B, input_channels, H, W) -> (B, n_filters, H * upscale_factor, W * upscale_factor) when the
    padding keeps the size. The handout writes the upsampling as "repeat r^2 times, pixel shuffle";
    with torch's channel order a literal `repeat` mixes channels, so `F.interpolate` is used.
    """

    def __init__(
        self,
        input_channels: int,
        kernel_size: int = 3,
        n_filters: int = 128,
        upscale_factor: int = 2,
        padding: int = 0,
    ):
        super().__init__()
        self.conv = nn.Conv2d(input_channels, n_filters, kernel_size, padding=padding)
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_channels, H, W) -> (B, n_filters, r H, r W)."""
        # A 1x1 convolution commutes with copying pixels: at the small size it costs r^2 less.
        if self.conv.kernel_size == (1, 1) and self.conv.padding == (0, 0):
            return self._upsample(self.conv(x))
        return self.conv(self._upsample(x))

    def _upsample(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")


class DownSampleConv2D(nn.Module):
    """Spatial mean pooling, then a convolution.

    (B, input_channels, H, W) -> (B, n_filters, H / downscale_ratio, W / downscale_ratio) when the
    padding keeps the size. The handout's "pixel unshuffle, split, mean" is `F.avg_pool2d`; split
    along the wrong axis it averages different channels, or different images.
    """

    def __init__(
        self,
        input_channels: int,
        kernel_size: int = 3,
        n_filters: int = 128,
        downscale_ratio: int = 2,
        padding: int = 0,
    ):
        super().__init__()
        self.conv = Conv2d(input_channels, n_filters, kernel_size, padding=padding)
        self.downscale_ratio = downscale_ratio

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_channels, H, W) -> (B, n_filters, H / r, W / r)."""
        return self.conv(avg_pool2d(x, self.downscale_ratio))


class ResBlockUp(nn.Module):
    """(B, input_channels, H, W) -> (B, n_filters, 2H, 2W), with batch normalisation."""

    def __init__(self, input_channels: int, kernel_size: int = 3, n_filters: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(input_channels),
            nn.ReLU(),
            # The normalisation behind it takes any bias away again.
            nn.Conv2d(input_channels, n_filters, kernel_size, padding=1, bias=False),
            nn.BatchNorm2d(n_filters),
            nn.ReLU(),
            UpSampleConv2D(n_filters, kernel_size, n_filters, padding=1),
        )
        self.upsample_residual = UpSampleConv2D(input_channels, kernel_size=1, n_filters=n_filters)

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_channels, H, W) -> (B, n_filters, 2H, 2W)."""
        return self.layers(x) + self.upsample_residual(x)


class ResBlockDown(nn.Module):
    """(B, input_channels, H, W) -> (B, n_filters, H/2, W/2), without normalisation."""

    def __init__(self, input_channels: int, kernel_size: int = 3, n_filters: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            ReLU(),
            Conv2d(input_channels, n_filters, kernel_size, padding=1),
            ReLU(),
            DownSampleConv2D(n_filters, kernel_size, n_filters, padding=1),
        )
        self.downsample_residual = DownSampleConv2D(
            input_channels, kernel_size=1, n_filters=n_filters
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_channels, H, W) -> (B, n_filters, H/2, W/2)."""
        return self.layers(x) + self.downsample_residual(x)


class ResBlock(nn.Module):
    """(B, input_channels, H, W) -> (B, n_filters, H, W); the two must be equal."""

    def __init__(self, input_channels: int, kernel_size: int = 3, n_filters: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            ReLU(),
            Conv2d(input_channels, n_filters, kernel_size, padding=1),
            ReLU(),
            Conv2d(n_filters, n_filters, kernel_size, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_channels, H, W) -> (B, n_filters, H, W)."""
        return x + self.layers(x)


class Generator(nn.Module):
    """Latents (B, 128) from N(0, I) to images (B, 3, 32, 32) in [-1, 1]; 1,204,099 parameters.

    `starting_image_size` s is the side of the first feature map; images have side 8s.
    """

    def __init__(self, starting_image_size: int = 4):
        super().__init__()
        self.starting_image_size = starting_image_size
        self.dense = nn.Linear(LATENT_DIM, 128 * starting_image_size**2)
        self.layers = nn.Sequential(
            ResBlockUp(128),  # (B, 128, 8, 8)
            ResBlockUp(128),  # (B, 128, 16, 16)
            ResBlockUp(128),  # (B, 128, 32, 32)
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 3, kernel_size=3, padding=1),  # (B, 3, 32, 32)
            nn.Tanh(),
        )

    def forward_given_samples(self, z: Tensor) -> Tensor:
        """(B, 128) -> (B, 3, 32, 32) in [-1, 1]."""
        size = self.starting_image_size
        x = self.dense(z).view(-1, 128, size, size)  # (B, 128, 4, 4)
        # `view` gives NCHW whatever the weights' layout; every later block keeps what it is given.
        return self.layers(x.contiguous(memory_format=torch.channels_last))

    def forward(self, n_samples: int = 1024) -> Tensor:
        """n_samples images from fresh latents, drawn in float32 on the module's own device."""
        weight = self.dense.weight
        z = torch.randn(n_samples, LATENT_DIM, device=weight.device, dtype=torch.float32)
        return self.forward_given_samples(z.to(weight.dtype))


class Discriminator(nn.Module):
    """Images (B, 3, 32, 32) in [-1, 1] to raw scores (B, 1), no sigmoid; 1,053,825 parameters.

    There is no batch normalisation: an image's score depends on that image alone, as the
    per-image penalty of WGAN-GP requires.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResBlockDown(3), ResBlockDown(128), ResBlock(128), ResBlock(128), ReLU()
        )
        self.dense = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) in [-1, 1] -> (B, 1)."""
        features = self.layers(x)  # (B, 128, 8, 8)
        return self.dense(features.sum(dim=(2, 3)))  # a sum over places, as the handout says


@torch.no_grad()
def reestimate_statistics(gen: AnyGenerator, batches: int = 8, size: int = 128) -> None:
    """Make a generator's running statistics those of its weights as they are now.

    Those that training leaves lag behind: a third of them come from weights two updates old and
    older. Plain means over many latents, the same at every call; the mode is as before. From 64
    latents a score was off by 5 per cent; a picture needs 1,024, a score more (fid.py).
    """
    norms = [module for module in gen.modules() if isinstance(module, _BatchNorm)]
    was_training, momenta = gen.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    gen.train()  # the only mode in which the statistics move
    device = next(gen.parameters()).device
    rng = torch.Generator().manual_seed(0)  # on the CPU: the same latents on every device
    with preserved():  # whatever the generator draws itself
        for _ in range(batches if norms else 0):
            gen.forward_given_samples(torch.randn(size, LATENT_DIM, generator=rng).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    gen.train(was_training)


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for its parameters for a while; afterwards each asks for one as before."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(False)  # gradients pass through it, and none is kept for it
    try:
        yield
    finally:
        for parameter, asked in before:
            parameter.requires_grad_(asked)
