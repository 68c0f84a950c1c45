import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_networks import TinyFeatures, TinyInception, save_script


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


@pytest.fixture
def all_pictures():
    """For tests that look at the grids of a run: they are drawn whole."""


@pytest.fixture(autouse=True)
def few_pictures(request, monkeypatch):
    """A log line draws 400 images: here two of each kind, unless a test looks at them."""
    import logger

    if "all_pictures" in request.fixturenames:
        return
    latents, walk = logger.picture_latents, logger.walk

    def few(seed, device="cpu"):
        return {
            name: z[:8] if name == "samples" else z[:2] for name, z in latents(seed, device).items()
        }

    monkeypatch.setattr(logger, "picture_latents", few)
    monkeypatch.setattr(logger, "walk", lambda samples, frames: walk(samples[:2], 1))
