"""A small U-Net that predicts the noise in an image: 0.15 GFLOP an image, for two CPU cores.

After Ho et al. 2020 (arXiv 2006.11239, appendix B), made lean: 2x2 pixels become channels first, so
that the widest level is 16x16, and skips are added instead of concatenated.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (64, 96, 128)  # channels at 16x16, 8x8 and 4x4
TIME_WIDTH = 128


class GroupNorm(nn.GroupNorm):
    """Eight groups, in float32 under autocast too: bfloat16 loses precision there, and is slow."""

    def __init__(self, channels: int):
        super().__init__(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and type."""
        return super().forward(x.float()).to(x.dtype)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that begins by giving 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """(B, C, H, W) and a time embedding (B, TIME_WIDTH) -> (B, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(channels), GroupNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        # The block begins as the identity.
        self.conv2 = zeroed(nn.Conv2d(channels, channels, kernel_size=3, padding=1))
        self.time = nn.Linear(TIME_WIDTH, 2 * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Adds to x."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return x + h


class Attention(nn.Module):
    """Self-attention over the H * W positions, four heads."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.out = zeroed(nn.Conv2d(channels, channels, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); adds to x."""
        batch, channels, height, width = x.shape
        width_of_head = channels // self.heads
        qkv = self.qkv(self.norm(x)).flatten(2)  # (B, 3C, HW)
        q, k, v = qkv.view(batch, 3, self.heads, width_of_head, height * width).unbind(1)
        # (B, heads, C / heads, HW) each
        # Written out: with 16 positions, CPU's fused attention takes twenty times as long.
        logits = q.transpose(2, 3) @ k / math.sqrt(width_of_head)  # (B, heads, HW, HW)
        weights = logits.softmax(dim=-1)
        mixed = v @ weights.transpose(2, 3)  # (B, heads, C / heads, HW)
        return x + self.out(mixed.reshape(batch, channels, height, width))


class UNet(nn.Module):
    """Noisy images (B, 3, 32, 32) and times (B,) in 1, ..., T -> their noise (B, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        wide, middle, deep = WIDTHS
        self.time = nn.Sequential(
            nn.Linear(TIME_WIDTH, TIME_WIDTH),
            nn.SiLU(),
            nn.Linear(TIME_WIDTH, TIME_WIDTH),
            nn.SiLU(),
        )
        self.stem = nn.Conv2d(12, wide, kernel_size=3, padding=1)
        self.down16 = ResBlock(wide)
        self.to8 = nn.Conv2d(wide, middle, kernel_size=3, stride=2, padding=1)
        self.down8 = ResBlock(middle)
        self.to4 = nn.Conv2d(middle, deep, kernel_size=3, stride=2, padding=1)
        self.block4, self.attention = ResBlock(deep), Attention(deep)
        self.from4 = nn.Conv2d(deep, middle, kernel_size=1)
        self.up8 = ResBlock(middle)
        self.from8 = nn.Conv2d(middle, wide, kernel_size=1)
        self.up16 = ResBlock(wide)
        self.norm = GroupNorm(wide)
        # It begins by predicting no noise.
        self.head = zeroed(nn.Conv2d(wide, 12, kernel_size=3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, 3, 32, 32) and t (B,) -> (B, 3, 32, 32)."""
        time = self.time(time_embedding(t))  # (B, TIME_WIDTH)
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)  # (B, 12, 16, 16)
        at16 = self.down16(self.stem(x), time)  # (B, 64, 16, 16)
        at8 = self.down8(self.to8(at16), time)  # (B, 96, 8, 8)
        h = self.attention(self.block4(self.to4(at8), time))  # (B, 128, 4, 4)
        h = self.up8(at8 + F.interpolate(self.from4(h), scale_factor=2, mode="nearest"), time)
        h = self.up16(at16 + F.interpolate(self.from8(h), scale_factor=2, mode="nearest"), time)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2)


def time_embedding(t: Tensor) -> Tensor:
    """Times (B,) as TIME_WIDTH sines and cosines of rising wavelength (B, TIME_WIDTH).

    Positions in a Transformer are embedded like this (arXiv 1706.03762).
    """
    half = TIME_WIDTH // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * rates  # (B, TIME_WIDTH / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
