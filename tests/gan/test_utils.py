"""The handout's helpers: the latent grid, pictures in [0, 1], the score, plots."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import utils
from helpers import TinyGenerator
from PIL import Image
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
    gen = TinyGenerator()
    before = {name: value.clone() for name, value in gen.state_dict().items()}
    utils.interpolate_latent_space(gen, tmp_path / "grid.png")
    assert all(torch.equal(value, before[name]) for name, value in gen.state_dict().items())


def test_get_fid_scores_a_folder(bird_folder, tiny_inception, tiny_features, monkeypatch):
    """By the six arguments of the handout, and by keywords."""
    import fid
    from dataset import load_images

    monkeypatch.setattr(fid, "WEIGHTS_FOLDER", tiny_inception)
    monkeypatch.setattr(fid, "INCEPTION_SHA256", "")
    utils._reference.cache_clear()
    torch.manual_seed(0)
    gen = TinyGenerator()
    got = utils.get_fid(gen, str(bird_folder), 32, 128, 256, 30)
    images = load_images(bird_folder)
    reference = fid.Reference(images, fid.Features("inception", "cpu", tiny_inception))
    assert isinstance(got, float)
    assert got == pytest.approx(fid.score(gen, reference, 30)["score"], rel=1e-9)
    utils._reference.cache_clear()
    other = {"features": str(tiny_features), "mode": "eval", "seed": 3}
    found = [
        utils.get_fid(gen, "", 32, 128, 256, 30, images=images, **other | change)
        for change in ({}, {"seed": 4}, {"mode": "train"})
    ]
    assert len(set(found)) == 3
    with pytest.raises(InputError, match="z_dimension is 64"):
        utils.get_fid(gen, "cub", 32, 64, 256, 30)


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
    args = utils.get_args(argv=[])
    assert (args.num_iterations, args.batch_size, args.log_period) == (30_000, 256, 1000)
    assert args.num_gen == (10_000, 50_000) and args.fid == "inception"
    assert (args.lamb, args.fid_mode, args.score_period) == (10, "train", None)
    assert not args.disable_amp and args.ema is None and args.given == {}
    synthetic = utils.get_args(argv=["--dataset", "synthetic"])
    assert synthetic.fid == "off" and str(synthetic.prefix).endswith("_synthetic")


@pytest.mark.parametrize(
    "script, prefix",
    [("q1_3", "data_gan"), ("q1_4", "data_ls_gan"), ("q1_5", "data_wgan_gp"), ("my", "data_my")],
)
def test_a_scripts_own_name_gives_its_folder(script, prefix, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", f"elsewhere/{script}.py")
    assert utils.get_args(argv=[]).prefix == utils.HERE / prefix


def test_what_was_recorded_is_gone_on_with(tmp_path, tiny_features, monkeypatch):
    """With --resume alone, from any folder; what is given instead wins."""
    import json

    (tmp_path / "run").mkdir()
    (tmp_path / "run/state.pt").touch()
    config = {"batch_size": 8, "seed": 3, "number_format": "float32", "device": "cpu"}
    config |= {"num_gen": [4, 5], "dataset": "cub", "data_dir": "../data", "score_period": 20}
    config |= {"num_iterations": 40, "log_period": 10}
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    where = ["--out_dir", str(tmp_path / "run"), "--resume"]
    with pytest.raises(InputError, match="names ../data, which is not there from here"):
        utils.get_args(argv=where)
    (tmp_path / "data").mkdir()
    for place in (tmp_path, tmp_path / "run"):
        monkeypatch.chdir(place)
        args = utils.get_args(argv=[*where, "--num_iterations", "50"])
        assert (args.batch_size, args.seed, args.num_gen, args.disable_amp) == (8, 3, (4, 5), True)
        assert (tmp_path / "data").samefile(args.data_dir) and args.score_period == 20
        assert args.num_iterations == 50 and args.given["num_iterations"] == 50
        assert args.again.endswith(f"--out_dir {tmp_path / 'run'} --resume")


def test_values_given_twice_and_different_are_an_error():
    """Also where one of the two is a default."""
    typed = utils.get_args(argv=["--batch_size", "256", "--lamb", "5"])
    call = {"num_iterations": 9, "prefix": None, "log_period": 3, "disable_amp": False}
    for batch_size, lamb, wrong in ((64, 5, "batch_size"), (256, 10, "lamb")):
        with pytest.raises(InputError, match=f"--{wrong}: the command line says .*args.{wrong}"):
            utils.merged_options(typed, batch_size=batch_size, lamb=lamb, **call)
    merged = utils.merged_options(typed, batch_size=256, lamb=5, **call)
    assert (merged.num_iterations, merged.batch_size, merged.score_period) == (9, 256, None)
    with pytest.raises(InputError, match="--batch_size: got 2.5, expected int"):
        utils.merged_options(utils.get_args(argv=[]), batch_size=2.5, lamb=1, **call)
    with pytest.raises(InputError, match="--seed: this script does not use it"):
        torch.manual_seed(0)
        utils.merged_options(utils.get_args(argv=["--seed", "3"]), batch_size=1, lamb=1, **call)
    elsewhere = call | {"prefix": "data_elsewhere"}
    typed = utils.get_args(argv=["--out_dir", "here"])
    with pytest.raises(InputError, match="--out_dir: .*prefix=args.prefix"):
        utils.merged_options(typed, batch_size=1, lamb=1, **elsewhere)
