import pytest
import torch


@pytest.fixture(scope="session")
def images():
    """uint8 (32, 3, 32, 32) for training, 8 for validation."""
    from dataset import draw_shapes

    return draw_shapes(40, torch.Generator().manual_seed(0)).split((32, 8))


@pytest.fixture
def plots(monkeypatch):
    """What was plotted last under each file name: {name: (x, curves)}."""
    import logger

    drawn = {}

    def keep(x, y, xlabel, ylabel, title, filename):
        drawn[filename.stem] = list(x), {label: list(values) for label, values in y.items()}
        filename.write_bytes(b"a plot")

    monkeypatch.setattr(logger, "save_plot", keep)
    return drawn


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
    """Plots and pictures zoomed by 4 take most of a short run's time, unless a test looks."""
    if "real_pictures" not in request.fixturenames:
        import utils

        request.getfixturevalue("plots")
        monkeypatch.setattr(utils, "ZOOM", 1)


@pytest.fixture
def real_pictures():
    """For tests that look at plots and pictures as they are."""


@pytest.fixture
def small(monkeypatch):
    """Forty drawn images for --dataset synthetic."""
    import dataset

    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (30, 10))
