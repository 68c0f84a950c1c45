"""The handout's helpers: grids of latents, pictures in [0, 1], the score, plots, options."""

import sys

import fid
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import utils
from dataset import load_images
from helpers import TinyGenerator, refused
from PIL import Image, ImageSequence
from torch import nn

from common.files import save_film


def test_latent_grids():
    z, steps = utils.latent_grid(), torch.linspace(-1, 1, 10)
    assert z.shape == (100, 128) and not z[:, 2:].any()
    torch.testing.assert_close(z[:, 0], steps.repeat_interleave(10))  # down the rows
    torch.testing.assert_close(z[:, 1], steps.repeat(10))  # along the columns
    drawn = utils.picture_latents(0)
    around = drawn["around_a_sample"]
    assert torch.equal(around[:, :2], z[:, :2])
    assert torch.equal(around[:, 2:], drawn["samples"][0, 2:].expand(100, -1))
    between = drawn["between_samples"].view(10, 10, 128)
    corners = [between[0, 0], between[0, 9], between[9, 0], between[9, 9]]
    for corner, sample in zip(corners, drawn["samples"]):
        torch.testing.assert_close(corner, sample, atol=1e-4, rtol=1e-4)
    # On the way lengths stay those of N(0, I); a straight line would cut through 0.7 of them.
    lengths = between.norm(dim=2)
    assert lengths.min() > 0.8 * 128**0.5 and lengths.max() < 1.2 * 128**0.5
    half = utils.spherical(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor(0.5))
    torch.testing.assert_close(half, torch.tensor([0.5**0.5, 0.5**0.5]))


class Painter(nn.Linear):
    """Paints its first two latents as red and green; blue is 1 in train mode, -1 in eval mode."""

    def forward_given_samples(self, z):
        blue = torch.full_like(z[:, :1], 1.0 if self.training else -1.0)
        return torch.cat([z[:, :2], blue], dim=1)[:, :, None, None].expand(-1, -1, 32, 32)


def test_interpolation_picture(tmp_path):
    painter = Painter(1, 1)
    utils.interpolate_latent_space(painter, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png")).astype(float)
    assert picture.shape == (342, 342, 3)  # ten cells of 32 and eleven lines of 2
    cells, expected = picture[18::34, 18::34], np.linspace(0, 255, 10)  # -1 is black, 1 is full
    np.testing.assert_allclose(cells[:, 0, 0], expected, atol=1)
    np.testing.assert_allclose(cells[0, :, 1], expected, atol=1)
    assert (cells[:, :, 2] == 0).all() and painter.training  # eval mode inside, train mode after


def test_get_fid_scores_a_folder(bird_folder, tiny_inception, tiny_features, monkeypatch):
    """By the six arguments of the handout, and by keywords."""
    monkeypatch.setattr(fid, "WEIGHTS_FOLDER", tiny_inception)
    monkeypatch.setattr(fid, "INCEPTION_SHA256", "")
    monkeypatch.setattr(fid, "GENERATOR_BATCH", 16)
    torch.manual_seed(0)
    gen, images = TinyGenerator(), load_images(bird_folder)
    utils._reference.cache_clear()
    got = utils.get_fid(gen, str(bird_folder), 32, 128, 256, 20)
    utils._reference.cache_clear()
    reference = fid.Reference(images, fid.Features("inception", "cpu", tiny_inception))
    assert isinstance(got, float)
    assert got == pytest.approx(fid.score(gen, reference, 20)["score"], rel=1e-9)
    other = {"features": str(tiny_features), "mode": "eval", "seed": 3, "images": images}
    changes = {}, {"seed": 4}, {"mode": "train"}
    assert len({utils.get_fid(gen, "", 32, 128, 256, 30, **other | new) for new in changes}) == 3
    refused("z_dimension is 64", utils.get_fid, gen, "cub", 32, 64, 256, 30)


def test_save_plot_draws_one_or_several_curves_and_closes(tmp_path):
    plt.close("all")
    curves = {"one.png": [3, 2], "two.png": {"a": [1, 2], "b": [2, 1]}, "no_suffix": [1, 2]}
    for name, y in curves.items():  # the handout's own call leaves the suffix to the function
        utils.save_plot([0, 1], y, "iterations", "FID", "one", str(tmp_path / name))
    for name in ("one", "two", "no_suffix"):
        assert Image.open(tmp_path / f"{name}.png").size == (900, 600)
    assert not plt.get_fignums()


def shades(path):
    with Image.open(path) as gif:
        of_frame = lambda f: (f.convert("RGB").getpixel((0, 0))[0], f.info["duration"])
        return [of_frame(frame) for frame in ImageSequence.Iterator(gif)], gif.info["loop"]


def test_a_film_is_in_the_order_of_the_numbers_and_thinned(tmp_path):
    pictures = {"samples_9": 30, "samples_10": 200, "samples_100": 90, "samples_ema_9": 0}
    for name, shade in (pictures | {f"epochs_{n}": 2 * n for n in range(1, 126)}).items():
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"{name}.png")
    for name in ("samples", "epochs", "gone"):
        save_film(tmp_path, f"{name}_[0-9]*.png", tmp_path / f"{name}.gif", seconds=0.1)
    assert shades(tmp_path / "samples.gif") == ([(30, 100), (200, 100), (90, 3000)], 0)
    found, _ = shades(tmp_path / "epochs.gif")
    assert len(found) == 42 and found[-1][0] == 250  # every third, the last one among them
    assert not (tmp_path / "gone.gif").exists()


def test_defaults_are_the_assignments(monkeypatch):
    """And a script's own name gives its folder."""
    args = utils.get_args(argv=[])
    assert (args.num_iterations, args.batch_size, args.log_period) == (30_000, 256, 1000)
    assert args.num_gen == [10_000, 50_000] and args.fid == "inception"
    assert (args.lamb, args.fid_mode, args.score_period) == (10, "train", None)
    assert not args.disable_amp and args.ema is None and args.given == {}
    synthetic = utils.get_args(argv=["--dataset", "synthetic"])
    assert synthetic.fid == "off" and str(synthetic.prefix).endswith("_synthetic")
    folders = {"q1_3": "data_gan", "q1_4": "data_ls_gan", "q1_5": "data_wgan_gp", "my": "data_my"}
    for script, folder in folders.items():
        monkeypatch.setattr(sys.modules["__main__"], "__file__", f"elsewhere/{script}.py")
        assert utils.get_args(argv=[]).prefix == utils.HERE / folder


def test_what_was_recorded_is_gone_on_with(tmp_path, monkeypatch):
    """With --resume alone, from any folder; what is given instead wins."""
    (tmp_path / "run").mkdir()
    config = {"batch_size": 8, "seed": 3, "number_format": "float32", "device": "cpu"}
    config |= {"num_gen": [4, 5], "dataset": "cub", "data_dir": "../data", "score_period": 20}
    config |= {"num_iterations": 40, "log_period": 10}
    torch.save({"settings": config}, tmp_path / "run/state.pt")
    where = ["--out_dir", str(tmp_path / "run"), "--resume"]
    (tmp_path / "data").mkdir()
    for place in (tmp_path, tmp_path / "run"):
        monkeypatch.chdir(place)
        args = utils.get_args(argv=[*where, "--num_iterations", "50"])
        assert (args.batch_size, args.seed, args.num_gen, args.disable_amp) == (8, 3, [4, 5], True)
        assert (tmp_path / "data").samefile(args.data_dir) and args.score_period == 20
        assert args.num_iterations == 50 and args.given["num_iterations"] == 50
        assert args.again.endswith(f"--out_dir {tmp_path / 'run'} --resume")
    monkeypatch.delattr(sys.modules["__main__"], "__file__")  # a notebook has none
    assert utils.get_args(argv=[]).prefix.name == "data_run"
    assert utils.get_args(argv=where).again.endswith(f"'{tmp_path / 'run'}', '--resume'])")


CALL = {"num_iterations": 9, "prefix": None, "log_period": 3, "disable_amp": False}
CALL |= {"batch_size": 256, "lamb": 5}


def test_a_calls_own_values_are_checked():
    """Like typed ones; what comes of them is Python's."""
    merged = utils.merged_options(utils.get_args(argv=[]), **CALL | {"lamb": np.float32(5)})
    assert (merged.num_iterations, merged.batch_size, merged.score_period) == (9, 256, None)
    assert type(merged.lamb) is float
    args, merge = utils.get_args(argv=["--score_period", "6"]), utils.merged_options
    for value in (2.5, 16.0, None, True, "x", float("nan"), 2**70, 0):
        wrong = CALL | {"batch_size": value}
        refused(f"--batch_size: got {value!r}, expected", merge, args, **wrong)
    refused("a multiple of --log_period, 4", merge, args, **CALL | {"log_period": 4})
