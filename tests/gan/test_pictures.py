"""The average of the generator, the latent grids and the film."""

import pytest
import torch
import train
import utils
from helpers import TINY, files, load, rows, same, signal_at, start
from networks import LATENT_DIM
from PIL import Image

from common import Interrupted
from common.files import save_film


def test_the_average_follows_its_formula_and_changes_nothing(birds, tmp_path, monkeypatch):
    plain = start(tmp_path / "plain", birds, "--log_period", 100)
    weights, step = [], train.generator_step

    def keep(gen, *rest):
        weights.append(gen.dense.weight.detach().clone())
        return step(gen, *rest)

    monkeypatch.setattr(train, "generator_step", keep)
    averaged = start(tmp_path / "run", birds, "--log_period", 100, "--ema", 0.75)
    assert same(plain, averaged) and "generator_ema.pt" not in files(tmp_path / "plain")
    last = dict(load(tmp_path / "run", "generator"))["dense.weight"]
    expected = weights[0]  # it begins there; after each of the two steps of the generator
    for now in (weights[1], last):
        expected = 0.75 * expected + 0.25 * now
    got = dict(load(tmp_path / "run", "generator_ema"))["dense.weight"]
    torch.testing.assert_close(got, expected)
    assert not torch.equal(got, last)


def test_a_run_with_an_average_is_resumed_bit_identical(birds, tmp_path, monkeypatch):
    start(tmp_path / "whole", birds, "--ema", 0.5)
    with monkeypatch.context() as patch:
        signal_at(patch, 4)
        with pytest.raises(Interrupted):
            start(tmp_path / "cut", birds, "--ema", 0.5)
    start(tmp_path / "cut", birds, "--resume")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    for name in files(tmp_path / "whole"):
        if name.endswith((".png", ".gif", "ema.pt")):
            both = [(tmp_path / run / name).read_bytes() for run in ("whole", "cut")]
            assert both[0] == both[1], name
    kinds = ("samples", "interpolations", "around_a_sample", "between_samples")
    expected = {f"{kind}{of}_{n}.png" for kind in kinds for of in ("", "_ema") for n in (3, 6, 7)}
    assert expected | {"generator_ema.pt", "samples.gif"} <= files(tmp_path / "cut")


def test_the_average_is_scored_beside_the_generator(birds, tmp_path, tiny_features):
    options = ["--fid", tiny_features, "--num_gen", 8, 8, "--ema", 0.5]
    start(tmp_path / "run", birds, *options)
    for row in rows(tmp_path / "run"):
        assert float(row["score"]) > 0 and float(row["score_ema"]) > 0
        assert row["score"] != row["score_ema"]


def test_a_saved_average_has_statistics_of_its_own(birds, tmp_path):
    """Loaded elsewhere in eval mode it must not meet those of untrained weights."""
    start(tmp_path / "run", birds, "--ema", 0.9)
    saved = dict(load(tmp_path / "run", "generator_ema"))
    assert saved["norm.running_mean"].abs().sum() > 0
    gen = TINY[0]()
    gen.load_state_dict(saved)
    z = torch.randn(4, LATENT_DIM)
    with torch.no_grad():
        loaded = gen.eval().forward_given_samples(z)
    torch.testing.assert_close(loaded, utils.draw(gen, {"z": z})["z"], atol=1e-4, rtol=1e-4)


def test_latents_of_the_grids():
    z = utils.picture_latents(0)
    assert {len(value) for value in z.values()} == {100}
    around = z["around_a_sample"]
    assert torch.equal(around[:, 2:], z["samples"][0, 2:].expand(100, -1))
    between = z["between_samples"].view(10, 10, LATENT_DIM)
    corners = [between[0, 0], between[0, 9], between[9, 0], between[9, 9]]
    for corner, sample in zip(corners, z["samples"]):
        torch.testing.assert_close(corner, sample, atol=1e-4, rtol=1e-4)
    # On the way lengths stay those of N(0, I); a straight line would cut through 0.7 of them.
    lengths = between.norm(dim=2)
    assert lengths.min() > 0.8 * LATENT_DIM**0.5 and lengths.max() < 1.2 * LATENT_DIM**0.5
    half = utils.spherical(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor(0.5))
    torch.testing.assert_close(half, torch.tensor([0.5**0.5, 0.5**0.5]))


def shades(path):
    with Image.open(path) as gif:
        found = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            found.append((gif.convert("RGB").getpixel((0, 0))[0], gif.info["duration"]))
        return found, gif.info["loop"]


def test_a_film_is_in_the_order_of_the_numbers_and_thinned(tmp_path):
    for number, shade in ((9, 30), (10, 200), (100, 90)):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"samples_{number}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "samples_ema_9.png")
    save_film(tmp_path, "samples_*.png", tmp_path / "a.gif", seconds=0.1)
    assert shades(tmp_path / "a.gif") == ([(30, 100), (200, 100), (90, 3000)], 0)
    for number in range(1, 126):
        Image.new("RGB", (8, 8), (2 * number, 0, 0)).save(tmp_path / f"epochs_{number}.png")
    save_film(tmp_path, "epochs_*.png", tmp_path / "b.gif", seconds=0.1)
    found, _ = shades(tmp_path / "b.gif")
    assert len(found) == 42 and found[-1][0] == 250  # every third, the last one among them
    save_film(tmp_path, "gone_*.png", tmp_path / "none.gif", seconds=0.1)
    assert not (tmp_path / "none.gif").exists()
