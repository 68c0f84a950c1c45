import pytest
import torch


@pytest.fixture(scope="session")
def images():
    """uint8 (32, 3, 32, 32) for training, 8 for validation."""
    from dataset import draw_shapes

    return draw_shapes(40, torch.Generator().manual_seed(0)).split((32, 8))


@pytest.fixture(autouse=True)
def plots(monkeypatch):
    """What was plotted last, {name: (x, curves)}: drawing and zooming take most of a run's time."""
    import logger
    import utils

    drawn = {}

    def keep(x, y, xlabel, ylabel, title, filename):
        drawn[filename.stem] = list(x), {label: list(values) for label, values in y.items()}
        filename.write_bytes(b"a plot")

    monkeypatch.setattr(logger, "save_plot", keep)
    monkeypatch.setattr(utils, "ZOOM", 1)
    return drawn


@pytest.fixture
def real_pictures(monkeypatch):
    """For tests that look at plots and pictures as they are."""
    monkeypatch.undo()


@pytest.fixture
def small(monkeypatch):
    """Forty drawn images for --dataset synthetic."""
    import dataset

    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (30, 10))
