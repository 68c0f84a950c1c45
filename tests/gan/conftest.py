import pytest
import torch
from tiny import TinyFeatures
from torch import nn


@pytest.fixture(scope="session")
def tiny_features(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "tiny.pt"
    torch.jit.script(TinyFeatures()).save(str(path))
    return path


@pytest.fixture(scope="session")
def tiny_inception(tmp_path_factory):
    """A folder for --inception_weights; as in clean-fid's file `.layers` gives (B, 2048)."""
    torch.manual_seed(0)
    folder, network = tmp_path_factory.mktemp("inception"), nn.Module()
    network.layers = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten(), nn.Linear(768, 2048))
    torch.jit.script(network.eval()).save(str(folder / "inception-2015-12-05.pt"))
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


@pytest.fixture(autouse=True)
def plots(monkeypatch):
    """What was plotted last, {file name: (x, y, ylabel)}; drawing it takes a fifth of a second."""
    import logger

    drawn = {}

    def keep(x, y, xlabel, ylabel, title, filename):
        drawn[filename.stem] = x, y, ylabel
        filename.write_bytes(b"a plot")

    monkeypatch.setattr(logger, "save_plot", keep)
    return drawn
