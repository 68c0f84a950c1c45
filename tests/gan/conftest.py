import warnings

import pytest
import torch
from torch import nn


class TinyFeatures(nn.Module):
    """(B, 3, 32, 32) in [0, 255] -> (B, 12): colour means of the four quarters."""

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 16).flatten(1) / 16


class TinyInception(nn.Module):
    """The interface of clean-fid's file: `.layers` maps (B, 3, 299, 299) to (B, 2048)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten(), nn.Linear(768, 2048))

    def forward(self, x):
        return self.layers(x)


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(path))
    return path


@pytest.fixture(scope="session")
def tiny_features(tmp_path_factory):
    return save_script(TinyFeatures(), tmp_path_factory.mktemp("features") / "tiny.pt")


@pytest.fixture(scope="session")
def tiny_inception(tmp_path_factory):
    """A folder for --inception_weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("inception")
    save_script(TinyInception(), folder / "inception-2015-12-05.pt")
    return folder


@pytest.fixture(scope="session")
def birds():
    """48 drawn birds, uint8 (48, 3, 32, 32)."""
    from dataset import draw_birds

    return draw_birds(48, torch.Generator().manual_seed(0))


@pytest.fixture
def bird_folder(tmp_path, birds):
    """The first 20 of them as JPEGs."""
    from torchvision.transforms.functional import to_pil_image

    folder = tmp_path / "birds"
    folder.mkdir()
    for index, image in enumerate(birds[:20]):
        to_pil_image(image).save(folder / f"bird_{index:02d}.jpg", quality=95)
    return folder
