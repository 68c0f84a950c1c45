"""Networks for runs whose networks are not the subject: a step takes a millisecond."""

import inspect
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


class TinyGenerator(nn.Module):
    """(B, 128) -> (B, 3, 32, 32) in [-1, 1], with a batch normalisation."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Linear(128, 16), nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, 3, 1)

    def forward_given_samples(self, z):
        x = self.norm(self.dense(z).view(-1, 1, 4, 4))
        return self.conv(F.interpolate(x, scale_factor=8.0)).tanh()


class TinyDiscriminator(nn.Module):
    """(B, 3, 32, 32) -> (B, 1)."""

    def __init__(self):
        super().__init__()
        self.conv, self.dense = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 1)

    def forward(self, x):
        return self.dense(self.conv(x).relu().sum((2, 3)))


class TinyFeatures(nn.Module):
    """(B, 3, 32, 32) in [0, 255] -> (B, 12): colour means of the four quarters."""

    def forward(self, x):
        return F.avg_pool2d(x, 16).flatten(1) / 16


# To stand at the end of a copy of gan/networks.py, in place of the real ones.
SOURCE = "\n\n".join(
    inspect.getsource(network).replace("Tiny", "") for network in (TinyGenerator, TinyDiscriminator)
)

SMALLER = [
    ("gan/download.py", "SYNTHETIC_IMAGES = 6_000", "SYNTHETIC_IMAGES = 8"),
    ("gan/networks.py", "batches: int = 8, size: int = 128", "batches: int = 1, size: int = 4"),
    ("gan/fid.py", "GENERATOR_BATCH = 256", "GENERATOR_BATCH = 8"),
    ("vae/ddpm.py", "diffusion, 49, 50,", "diffusion, 4, 2,"),
    ("vae/dataset.py", "SYNTHETIC_IMAGES = (5_000, 1_000)", "SYNTHETIC_IMAGES = (10, 5)"),
]


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


def plant(folder):
    """A copy of both halves: few drawn images, short estimates, tiny GANs; and features, f.pt."""
    root = Path(__file__).resolve().parents[1]
    ignored = shutil.ignore_patterns("__pycache__", "data", "data_*", "datasets")
    for half in ("gan", "vae"):
        shutil.copytree(root / half, folder / half, ignore=ignored)
    for place, old, new in SMALLER:
        edit(folder / place, old, new)
    with open(folder / "gan/networks.py", "a") as file:
        file.write(f"\n\n{SOURCE}")
    torch.jit.script(TinyFeatures()).save(str(folder / "f.pt"))
    return folder
