import pytest
import torch


@pytest.fixture(scope="session")
def tiny_features(tmp_path_factory):
    from helpers import TinyFeatures, save_script

    return save_script(TinyFeatures(), tmp_path_factory.mktemp("features") / "tiny.pt")


@pytest.fixture(scope="session")
def tiny_inception(tmp_path_factory):
    """A folder for --inception_weights."""
    from helpers import TinyInception, save_script

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
def plots(monkeypatch):
    """What was plotted last under each file name: {name: (x, y, ylabel)}."""
    import logger

    drawn = {}

    def keep(x, y, xlabel, ylabel, title, filename):
        curves = y if isinstance(y, dict) else {None: y}
        drawn[filename.stem] = list(x), {k: list(v) for k, v in curves.items()}, ylabel
        filename.write_bytes(b"a plot")

    monkeypatch.setattr(logger, "save_plot", keep)
    return drawn


@pytest.fixture(autouse=True)
def quick_plots(request):
    """A plot takes a fifth of a second: runs keep what would be drawn, unless a test looks."""
    if "real_plots" not in request.fixturenames:
        request.getfixturevalue("plots")


@pytest.fixture
def real_plots():
    """For tests that look at the pictures of the curves."""
