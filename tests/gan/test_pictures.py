"""The average of the generator, the latent grids and the animations."""

import logger
import main
import pytest
import torch
import train
import utils
from networks import LATENT_DIM, Discriminator, Generator
from PIL import Image
from settings import Settings, get_args
from train import Losses, Trainer

from common import Interrupted
from common.files import numbered, save_film, save_gif
from common.run import RunFolder


class TinyGenerator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(LATENT_DIM, 3 * 32 * 32)

    def forward_given_samples(self, z):
        return torch.tanh(self.dense(z)).view(-1, 3, 32, 32)


class TinyDiscriminator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.dense(x.mean((2, 3)))


LOSSES = Losses(
    lambda real, fake, *rest: fake.mean() - real.mean(), lambda fake: -fake.mean(), False
)


def trainer(birds, **settings):
    torch.manual_seed(0)
    options = {"batch_size": 4, "fid": "off", "log_period": 2, "num_iterations": 6} | settings
    return Trainer(TinyGenerator(), TinyDiscriminator(), LOSSES, birds, Settings(**options))


def test_the_average_follows_its_formula_and_changes_nothing(birds):
    plain, averaged = trainer(birds), trainer(birds, ema=0.75, generator_every=2)
    plain.settings = averaged.settings
    expected = averaged.gen.dense.weight.detach().clone()
    for step in range(6):
        plain.iterate()
        averaged.iterate()
        if step % 2 == 0:  # after a step of the generator
            expected = 0.75 * expected + 0.25 * averaged.gen.dense.weight.detach()
    torch.testing.assert_close(averaged.average.dense.weight, expected)
    assert torch.equal(plain.gen.dense.weight, averaged.gen.dense.weight)
    assert not torch.equal(expected, averaged.gen.dense.weight)
    assert plain.average is None and "generator_ema" not in plain.state_dict()


def run(folder, birds, stop_at=None, resume=False, **settings):
    one = trainer(birds, ema=0.5, **settings)
    iterate = one.iterate

    def iterate_and_stop():
        iterate()
        if one.iteration == stop_at:
            raise Interrupted(2, "stopped")

    one.iterate = iterate_and_stop
    with RunFolder(folder, logger.LAYOUT, resume) as place:
        train.fit(one, place)
    return one


def test_a_run_with_an_average_is_resumed_bit_identical(birds, tmp_path):
    whole = run(tmp_path / "whole", birds)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", birds, stop_at=3)
    again = run(tmp_path / "cut", birds, resume=True)
    assert torch.equal(whole.average.dense.weight, again.average.dense.weight)
    names = {path.name for path in (tmp_path / "cut").iterdir() if "tfevents" not in path.name}
    assert names == {p.name for p in (tmp_path / "whole").iterdir() if "tfevents" not in p.name}
    for name in names:
        if name.endswith((".png", ".gif")) and "losses" not in name:
            both = [(tmp_path / run / name).read_bytes() for run in ("whole", "cut")]
            assert both[0] == both[1], name
    kinds = ("samples", "interpolations", "around_a_sample", "between_samples")
    expected = {f"{kind}{of}_{n}.png" for kind in kinds for of in ("", "_ema") for n in (2, 4, 6)}
    assert expected <= names and {"generator_ema.pt", "samples.gif"} <= names


def test_the_average_is_scored_beside_the_generator(birds, tmp_path, tiny_features):
    run(tmp_path / "run", birds, fid=str(tiny_features), num_gen=(8, 8), num_iterations=2)
    text = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    names, log, final = (line.split(",") for line in text)
    for row in (log, final):
        row = dict(zip(names, row))
        assert float(row["score"]) > 0 and float(row["score_ema"]) > 0
        assert row["score"] != row["score_ema"]
    assert dict(zip(names, final))["kid"] and not dict(zip(names, log))["kid"]


def test_a_saved_average_has_statistics_of_its_own(birds, tmp_path):
    """Loaded elsewhere in eval mode it must not meet those of untrained weights."""
    torch.manual_seed(0)
    settings = Settings(batch_size=2, fid="off", num_iterations=1, ema=0.9)
    one = Trainer(Generator(), Discriminator(), LOSSES, birds, settings)
    with RunFolder(tmp_path / "run", logger.LAYOUT) as place:
        train.fit(one, place)
    saved = torch.load(tmp_path / "run" / "generator_ema.pt", weights_only=True)
    means = saved["layers.3.running_mean"]
    assert means.abs().sum() > 0
    gen = Generator()
    gen.load_state_dict(saved)
    z = torch.randn(4, LATENT_DIM)
    with torch.no_grad():
        loaded = gen.eval().forward_given_samples(z)
    drawn = utils.draw(one.average, {"z": z})["z"]
    torch.testing.assert_close(loaded, drawn, atol=1e-4, rtol=1e-4)


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


def test_a_walk_visits_each_sample_and_comes_back():
    samples = torch.randn(3, LATENT_DIM)
    way = utils.walk(samples, frames=4)
    assert way.shape == (12, 3, LATENT_DIM)
    for leg in range(3):
        torch.testing.assert_close(way[4 * leg], samples.roll(-leg, 0), atol=1e-4, rtol=1e-4)
    steps = (torch.cat([way[1:], way[:1]]) - way).norm(dim=2)
    assert steps.max() < 3 * steps.min()  # no jump, at the seam neither


def test_animations(tmp_path):
    for number, shade in ((9, 30), (10, 200), (100, 90)):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"samples_{number}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "samples_ema_9.png")
    paths = numbered(tmp_path, "samples_*.png")
    assert [path.name for path in paths] == ["samples_9.png", "samples_10.png", "samples_100.png"]
    save_gif([Image.open(path) for path in paths], tmp_path / "a.gif", seconds=0.1, end=2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
        shades, durations = [], []
        for frame in range(3):
            gif.seek(frame)
            shades.append(gif.convert("RGB").getpixel((0, 0))[0])
            durations.append(gif.info["duration"])
    assert shades == [30, 200, 90] and durations == [100, 100, 2000]


def test_a_film_of_a_long_run_is_thinned(tmp_path):
    for number in range(1, 126):
        Image.new("RGB", (8, 8), (2 * number, 0, 0)).save(tmp_path / f"samples_{number}.png")
    save_film(tmp_path, "samples_*.png", tmp_path / "film.gif", seconds=0.1)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 42  # every third, the last one among them
        gif.seek(41)
        assert gif.convert("RGB").getpixel((0, 0))[0] == 250
    save_film(tmp_path, "gone_*.png", tmp_path / "none.gif", seconds=0.1)
    assert not (tmp_path / "none.gif").exists()


def test_the_average_is_asked_for_on_the_command_line(capsys):
    assert get_args("", argv=["--ema", "0.99"]).settings["ema"] == 0.99
    for wrong in (["--ema", "1"], ["--ema", "-0.1"], ["--evaluate", "--ema", "0.9"]):
        with pytest.raises(SystemExit) as error:
            get_args("", argv=wrong)
        assert error.value.code == 2 and "ema" in capsys.readouterr().err
    assert main.ASSIGNMENT[0] is Generator
