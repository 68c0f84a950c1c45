"""The convolutional encoder and decoder of questions 2.1 and 2.2.

Images are (B, 3, 32, 32) in [-1, 1]; latents are (B, latent_dim). Nothing here normalises across
a batch, so an image's latent and reconstruction depend on that image alone.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Images to latents (B, latent_dim): the deterministic encoder of an autoencoder.

    input_shape: (channels, height, width), the sides multiples of 8.
    """

    outputs_per_latent = 1

    def __init__(self, input_shape: tuple[int, ...], latent_dim: int):
        super().__init__()
        channels, height, width = input_shape
        self.convs = nn.Sequential(
            nn.Conv2d(channels, 32, kernel_size=3, stride=1, padding=1),  # (B, 32, 32, 32)
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),  # (B, 64, 16, 16)
            nn.ReLU(),
            nn.Conv2d(64, 128, kernel_size=3, stride=2, padding=1),  # (B, 128, 8, 8)
            nn.ReLU(),
            nn.Conv2d(128, 256, kernel_size=3, stride=2, padding=1),  # (B, 256, 4, 4)
        )
        features = 256 * (height // 8) * (width // 8)
        self.fc = nn.Linear(features, self.outputs_per_latent * latent_dim)

    def forward(self, x: Tensor) -> Any:
        """(B, 3, 32, 32) in [-1, 1] -> (B, latent_dim)."""
        return self.fc(self.convs(x).flatten(1))


class VAEEncoder(Encoder):
    """Images to (mu, log_std) of the diagonal Gaussian q(z | x), each (B, latent_dim)."""

    outputs_per_latent = 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 32, 32) in [-1, 1] -> mu, log_std, (B, latent_dim) each."""
        mu, log_std = super().forward(x).chunk(2, dim=1)
        return mu, log_std


class Decoder(nn.Module):
    """Latents (B, latent_dim) to images (B, *output_shape); linear at the end, so not bounded.

    base_channels: width of the first feature map, 128 as in the 2022 edition of the assignment,
    to which the reference numbers belong; editions since 2023 have 256.
    """

    def __init__(self, latent_dim: int, output_shape: tuple[int, ...], base_channels: int = 128):
        super().__init__()
        channels, height, width = output_shape
        self.base_size = (base_channels, height // 8, width // 8)
        self.fc = nn.Linear(latent_dim, math.prod(self.base_size))
        self.deconvs = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(base_channels, 128, 4, stride=2, padding=1),  # (B, 128, 8, 8)
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1),  # (B, 64, 16, 16)
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, padding=1),  # (B, 32, 32, 32)
            nn.ReLU(),
            nn.Conv2d(32, channels, kernel_size=3, padding=1),  # (B, 3, 32, 32)
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, 3, 32, 32)."""
        x = self.fc(z).view(-1, *self.base_size)  # (B, 128, 4, 4)
        # `view` gives NCHW whatever the weights' layout; every later layer keeps what it is given.
        return self.deconvs(x.contiguous(memory_format=torch.channels_last))


class AEModel(nn.Module):
    """Encoder and decoder; `variational` chooses VAEEncoder."""

    def __init__(
        self,
        variational: bool,
        latent_size: int,
        input_shape: tuple[int, ...] = (3, 32, 32),
        base_channels: int = 128,
    ):
        super().__init__()
        self.variational = variational
        self.latent_size = latent_size
        self.encoder = (VAEEncoder if variational else Encoder)(input_shape, latent_size)
        self.decoder = Decoder(latent_size, input_shape, base_channels)
