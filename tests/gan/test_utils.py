"""The handout's helpers: the latent grid, pictures in [0, 1], the score, plots."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import utils
from networks import Generator
from PIL import Image
from settings import Settings
from torch import nn

from common import InputError


def test_latent_grid():
    z = utils.latent_grid()
    assert z.shape == (100, 128) and not z[:, 2:].any()
    steps = torch.linspace(-1, 1, 10)
    torch.testing.assert_close(z[:, 0], steps.repeat_interleave(10))  # down the rows
    torch.testing.assert_close(z[:, 1], steps.repeat(10))  # along the columns


class Painter(nn.Module):
    """Paints its first two latents as red and green; blue is 1 in train mode, -1 in eval mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward_given_samples(self, z):
        blue = torch.full_like(z[:, :1], 1.0 if self.training else -1.0)
        return torch.cat([z[:, :2], blue], dim=1)[:, :, None, None].expand(-1, -1, 32, 32)


def test_latent_grid_around_a_sample():
    rest = torch.randn(128)
    z = utils.latent_grid(rest=rest)
    assert torch.equal(z[:, :2], utils.latent_grid()[:, :2])
    assert torch.equal(z[:, 2:], rest[2:].expand(100, 126))


def test_interpolation_picture(tmp_path):
    painter = Painter()
    utils.interpolate_latent_space(painter, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png")).astype(float)
    assert picture.shape == (342, 342, 3)  # ten cells of 32 and eleven lines of 2
    cells = picture[18::34, 18::34]
    expected = np.linspace(0, 255, 10)  # -1 is black, 1 is full
    np.testing.assert_allclose(cells[:, 0, 0], expected, atol=1)
    np.testing.assert_allclose(cells[0, :, 1], expected, atol=1)
    assert (
        cells[:, :, 2] == 0
    ).all() and painter.training  # eval mode inside, train mode again after


def test_interpolation_uses_running_statistics_and_keeps_them(tmp_path):
    torch.manual_seed(0)
    gen = Generator()
    before = {name: value.clone() for name, value in gen.state_dict().items()}
    utils.interpolate_latent_space(gen, tmp_path / "grid.png")
    assert all(torch.equal(value, before[name]) for name, value in gen.state_dict().items())


def test_get_fid_scores_a_folder(bird_folder, tiny_inception, monkeypatch):
    import fid
    from dataset import load_images

    monkeypatch.setattr(fid, "WEIGHTS_FOLDER", tiny_inception)
    monkeypatch.setattr(fid, "INCEPTION_SHA256", "")
    utils._inception_scorer.cache_clear()
    torch.manual_seed(0)
    gen = Generator()
    got = utils.get_fid(gen, str(bird_folder), 32, 128, 256, 30)
    scorer = fid.Scorer(load_images(bird_folder), fid.Features("inception", "cpu", tiny_inception))
    assert got == pytest.approx(scorer.score(gen, 30), rel=1e-9)
    utils._inception_scorer.cache_clear()


def test_save_plot_draws_one_or_several_curves_and_closes(tmp_path):
    plt.close("all")
    utils.save_plot([0, 1, 2], [3, 2, 1], "iterations", "FID", "one", tmp_path / "one.png")
    utils.save_plot(
        [0, 1], {"a": [1, 2], "b": [2, 1]}, "iterations", "loss", "two", tmp_path / "two.png"
    )
    for name in ("one", "two"):
        assert Image.open(tmp_path / f"{name}.png").size == (900, 600)
    # The handout's own call leaves the suffix to the function.
    utils.save_plot(
        [0, 1], [1, 2], "iterations", "FID", "three", str(tmp_path / "fid_vs_iterations")
    )
    assert (tmp_path / "fid_vs_iterations.png").exists()
    assert not plt.get_fignums()


def test_defaults_are_the_assignments():
    settings = Settings()
    assert (settings.num_iterations, settings.batch_size, settings.log_period) == (
        30_000,
        256,
        1000,
    )
    assert settings.num_gen == (10_000, 50_000) and settings.fid == "inception"
    assert (settings.lamb, settings.generator_every, settings.fid_mode) == (10, 5, "train")
    assert not settings.fast_penalty
    args = utils.get_args(argv=[])
    assert args.settings == {} and not args.disable_amp and args.out_dir.name == "data_gan"
    synthetic = utils.get_args(out_dir="data_wgan_gp", argv=["--dataset", "synthetic"])
    assert synthetic.out_dir.name == "data_wgan_gp_synthetic"
    assert Settings(**synthetic.settings).fid == "off"


@pytest.mark.parametrize("option", ["num_iterations", "batch_size", "log_period", "save_minutes"])
def test_what_the_command_line_refuses_the_settings_refuse(option, capsys):
    for value in (0, -3, float("nan")):
        with pytest.raises(InputError, match=f"--{option}: got .*expected (int >= 1|float > 0)"):
            Settings(**{option: value})
        with pytest.raises(SystemExit):
            utils.get_args(argv=[f"--{option}", str(value)])
        assert "expected" in capsys.readouterr().err
    for choice in ({"fid_mode": "running"}, {"dataset": "mnist"}, {"num_gen": (10,)}):
        with pytest.raises(InputError, match="got .*expected"):
            Settings(**choice)
