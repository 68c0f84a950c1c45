"""The diffusion model: schedule, moments, samplers and an oracle, the network, whole runs."""

import math

import ddpm
import numpy as np
import pictures
import pytest
import readme
import torch
from dataset import draw_shapes
from ddpm import WeightAverage
from diffusion.process import Diffusion, ddpm_loss, draw
from diffusion.unet import ResBlock, UNet
from helpers import refused, stopped_after
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

NOISE, VELOCITY = Diffusion(predict="noise"), Diffusion(predict="v")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_images(count=3):
    return torch.rand(count, 3, 32, 32, generator=seeded(0), dtype=torch.float64) * 2 - 1


def noise_like(x, seed=1):
    return torch.randn(x.shape, generator=seeded(seed), dtype=x.dtype)


# Schedule, q(x_t | x_0), the two steps
def test_the_cosine_schedule():
    alpha_bar = NOISE.alpha_bar
    assert len(alpha_bar) == 1001 and alpha_bar[0] == 1 and (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] < 1e-7
    f = lambda t: math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    for t in (1, 250, 500, 900):
        assert alpha_bar[t].item() == pytest.approx(f(t) / f(0), rel=1e-9)
    largest = (1 - alpha_bar[1:] / alpha_bar[:-1]).max().item()
    assert largest == pytest.approx(0.999)  # the last steps are clipped


def test_the_forward_process_with_a_time_for_each_image():
    x0, times = random_images(), torch.tensor([3, 500, 900])
    noise, share = noise_like(x0), NOISE.alpha_bar[times].view(3, 1, 1, 1)
    expected = share.sqrt() * x0 + (1 - share).sqrt() * noise
    assert_close(NOISE.q_sample(x0, times, noise), expected)
    assert_close(NOISE.q_sample(x0, 500, noise)[1], expected[1])


def test_the_image_and_the_noise_come_back():
    """Of v by the inverse of section 4 of arXiv 2202.00512: a rotation."""
    x0 = random_images()
    noise = noise_like(x0)
    for t in (1, 300, 990):
        x, times = NOISE.q_sample(x0, t, noise), torch.full((3,), t)
        assert_close(NOISE.predict_x0(x, t, noise), x0)
        assert_close(NOISE.noise_in(x, t, x0), noise)
        v, alpha_bar = VELOCITY.target(x0, times, noise), VELOCITY.at(times, x0)
        assert_close(VELOCITY.predict_x0(x, times, v), x0)
        assert_close((1 - alpha_bar).sqrt() * x + alpha_bar.sqrt() * v, noise)
    assert NOISE.predict_x0(x, t, -noise).abs().max() == 1  # clipped
    assert torch.equal(NOISE.target(x0, times, noise), noise)


def test_the_ddpm_step_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) from the two Gaussians q(x_{t-1} | x_0) and q(x_t | x_{t-1})."""
    x0, t = random_images(), 300
    noise = noise_like(x0)
    x, one = NOISE.q_sample(x0, t, noise), torch.ones_like(x0)
    before, now = NOISE.alpha_bar[t - 1], NOISE.alpha_bar[t]
    alpha = now / before
    precision = 1 / (1 - before) + alpha / (1 - alpha)
    mean = (before.sqrt() * x0 / (1 - before) + alpha.sqrt() * x / (1 - alpha)) / precision
    assert_close(NOISE.ddpm_step(x, t, noise, 0 * one), mean)
    assert_close(NOISE.ddpm_step(x, t, noise, one) - mean, precision.rsqrt() * one)


@pytest.mark.parametrize("t", [1, 2, 57, 500, 999, 1000])
def test_ddim_with_all_steps_and_eta_1_is_ddpm(t):
    """Also where the predicted image was clipped, with its noise computed again."""
    x = 2 * noise_like(random_images(), seed=2)
    predicted, noise = noise_like(x, seed=3), noise_like(x, seed=4) if t > 1 else 0.0
    assert (NOISE.predict_x0(x, t, predicted).abs() == 1).any()
    expected = NOISE.ddpm_step(x, t, predicted, noise)
    got = NOISE.ddim_step(x, t, t - 1, predicted, 1.0, noise)
    assert_close(got, expected, rtol=1e-6, atol=1e-8)


# Sampling, the loss
class Network(nn.Linear):
    """A function of (x, t) on a device."""

    def __init__(self, function):
        super().__init__(1, 1)
        self.forward = function


def oracle(x0, diffusion):
    """Knows the images; says their noise, or v."""
    noise = lambda x, t: diffusion.noise_in(x.double(), t, x0.expand_as(x))
    return Network(lambda x, t: diffusion.target(x0.expand_as(x), t, noise(x, t)).float())


SAMPLERS = [(3, 0, 1), (50, 0.5, 1), (10, 1.0, 1), (None, 0, 1), (10, 0, 300), (None, 0, 950)]


@pytest.mark.parametrize("diffusion", [NOISE, VELOCITY])
@pytest.mark.parametrize("steps, eta, until", SAMPLERS)
def test_every_sampler_finds_the_image_of_an_oracle(steps, eta, until, diffusion):
    x0 = random_images(1)
    got = draw(oracle(x0, diffusion), diffusion, 2, steps, eta, seeded(0), until=until)
    assert_close(got.double(), x0.expand(2, -1, -1, -1), atol=2e-3, rtol=0)


def test_ddim_without_noise_depends_on_the_start_alone():
    odd, rngs = Network(lambda x, t: (0.9 * x).sin()), [seeded(5) for _ in range(4)]
    first, second = (draw(odd, NOISE, 2, 20, generator=rng) for rng in rngs[:2])
    assert torch.equal(first, second)
    torch.randn(2, 3, 32, 32, generator=rngs[2])
    assert torch.equal(rngs[0].get_state(), rngs[2].get_state())  # nothing else was drawn
    assert not torch.equal(draw(odd, NOISE, 2, 20, eta=1.0, generator=rngs[3]), first)


def test_times_fall_evenly_from_noise_to_image_and_the_last_can_be_left_out():
    for steps in (1, 10, 50, 100, 999, 1000):
        gaps = -np.diff(times := NOISE.times(steps))
        assert times[0] == 1000 and times[-1] == 0 and len(times) == steps + 1, steps
        assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1, steps
    assert NOISE.times(10, 200) == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 0]
    assert NOISE.times(10, 201)[-2:] == [300, 0] and NOISE.times(1, 1000) == [1000, 0]


@pytest.mark.parametrize("steps, evaluations", [(None, 801), (10, 9)])
def test_the_last_step_gives_the_image_predicted_there(steps, evaluations):
    seen = []
    zero = Network(lambda x, t: seen.append((int(t[0]), x)) or 0 * x)
    drawn = draw(zero, NOISE, 1, steps, generator=seeded(0), until=200)
    t, x = seen[-1]
    assert t == 200 and len(seen) == evaluations
    # No noise is predicted: the image is x scaled, and nothing is drawn or mixed in after it.
    assert_close(drawn, (x / NOISE.alpha_bar[200].sqrt()).clamp(-1, 1).float())


def test_the_loss_is_the_mean_squared_error_of_what_is_predicted():
    two, x0 = Network(lambda x, t: torch.full_like(x, 2.0)), random_images(1).float()
    x0 = x0.expand(50, -1, -1, -1)
    loss = ddpm_loss(two, random_images(400).float(), NOISE)
    assert loss.item() == pytest.approx(1 + 2**2, rel=0.01)  # E(n - 2)^2
    knows = oracle(x0, VELOCITY)
    assert ddpm_loss(knows, x0, VELOCITY).item() < 1e-8 and ddpm_loss(knows, x0, NOISE).item() > 0.1


def test_times_are_uniform():
    seen = []
    torch.manual_seed(0)
    ddpm_loss(lambda x, t: seen.append(t) or x, torch.zeros(24_000, 3, 1, 1), NOISE)
    counts = torch.histc(seen[0].float(), bins=10, min=0.5, max=1000.5)  # the last time, too
    assert counts.sum() == 24_000 and seen[0].max() == 1000
    assert counts.min() > 2250 and counts.max() < 2550  # 2400 +- 3 standard deviations


# The network, the average of its weights
def test_the_network():
    torch.manual_seed(0)
    model, x, t = UNet(), torch.randn(3, 3, 32, 32), torch.tensor([1, 500, 1000])
    with FlopCounterMode(display=False) as counter:
        assert (model(x, t) == 0).all()  # it begins by predicting no noise
    assert counter.get_total_flops() / 3 <= 0.15e9
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_190_476
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    out = model(x, t)
    assert_close(model(x[1:2], t[1:2]), out[1:2], atol=1e-4, rtol=1e-4)  # each image alone
    assert not torch.allclose(model(x[:1], t[1:2]), out[:1], atol=1e-2)  # the time matters
    h = torch.randn(3, 16, 4, 4)
    assert torch.equal(ResBlock(16)(h, torch.randn(3, 128)), h)  # it begins as the identity


def test_the_committed_model_says_what_it_said():
    """One stored prediction: no other block, attention, embedding or order of pixels gives it."""
    model, ramp = UNet(), torch.linspace(-1, 1, 32)
    stored = readme.ROOT / "report/runs/ddpm_v/model.pt"
    model.load_state_dict(torch.load(stored, weights_only=True))
    x = torch.stack([ramp.expand(32, 32), ramp.expand(32, 32).T, ramp.outer(ramp)])[None]
    with torch.no_grad():
        got = model(x, torch.tensor([400]))[0, :, 15, ::15]
    expected = [[0.3492, 0.0653, -0.4161], [0.3694, 0.0678, -0.1241], [0.0844, -0.0997, 0.036]]
    assert_close(got, torch.tensor(expected), atol=2e-3, rtol=0)


# Whole runs
def command(*argv):
    ddpm.COMMANDS[argv[0]](ddpm.get_args([*map(str, argv)]))


TRAIN = ["train", "--dataset", "synthetic", "--batch_size", "10", "--device", "cpu"]
REFERENCE = ["reference", "--dataset", "synthetic", "--out"]


def test_a_stopped_run_ends_bit_identical_with_the_average(small, tmp_path, monkeypatch):
    """Taken after every step, the average of the weights validates and is what model.pt holds."""
    # Else an epoch's picture takes 50 evaluations of the network on 49 images.
    few = lambda model, diffusion, count, steps, **how: draw(model, diffusion, 4, 2, **how)
    monkeypatch.setattr(ddpm, "draw", few)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = [*TRAIN, "--decay", "0.3", "--num_epochs", "2", "--out_dir"]
    heads, validated, head = [], [], lambda model: model.head.weight.detach().clone()
    update, validate = WeightAverage.update, ddpm.get_val_metrics
    keep = lambda self: heads.append(head(self.source)) or update(self)
    seen = lambda model, *a, **how: validated.append(head(model)) or validate(model, *a, **how)
    with monkeypatch.context() as patch:
        patch.setattr(WeightAverage, "update", keep)
        patch.setattr(ddpm, "get_val_metrics", seen)
        command(*argv, whole)
    assert "train --out_dir" in str(stopped_after(monkeypatch, 2, command, *argv, parts))
    command("train", "--out_dir", parts, "--resume")
    one, other = (torch.load(run / "state.pt", weights_only=True) for run in (whole, parts))
    for part in (lambda s: s["parts"]["model"], lambda s: s["parts"]["average"]["weights"]):
        assert part(one).keys() == part(other).keys()
        assert all(map(torch.equal, part(one).values(), part(other).values()))
    losses = [[row["val_loss"] for row in state["rows"]] for state in (one, other)]
    assert losses[0] == losses[1] and len(losses[0]) == 2
    for name in ("epoch_1_samples.png", "loss_vs_epochs.png", "metrics.csv", "config.json"):
        assert (whole / name).exists(), name
    assert len(heads) == 6  # two epochs of three batches
    expected = torch.zeros_like(heads[0])  # where the head begins
    for step, weight in enumerate(heads):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    average = one["parts"]["average"]
    assert average["count"] == 6 and not torch.equal(heads[-1], expected)
    assert_close(average["weights"]["head.weight"], expected, rtol=1e-4, atol=1e-8)
    assert torch.equal(validated[-1], average["weights"]["head.weight"])
    model = torch.load(whole / "model.pt", weights_only=True)
    assert all(torch.equal(value, average["weights"][name]) for name, value in model.items())
    (whole / "samplers.csv").write_text("scores of the model that is replaced")
    command(*TRAIN, "--num_epochs", "1", "--out_dir", whole, "--overwrite")
    assert (whole / "model.pt").exists() and not (whole / "samplers.csv").exists()


@pytest.fixture
def sample(tmp_path):
    """`sample` of a model that draws something; options, and the folder of the PNGs."""
    torch.manual_seed(0)
    model = UNet()
    nn.init.normal_(model.head.weight, std=0.1)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    how = ["sample", "--model", tmp_path / "model.pt", "--predict", "v", "--batch_size", "4"]
    return lambda name, *options: command(*how, "--out", tmp_path / name, *options)


def pixels(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def test_samples_are_of_a_seed_and_until_a_time(sample, tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample(name, "--num", 5, "--steps", 3, "--seed", seed)
    a, b, c = (pixels(tmp_path / name) for name in "abc")
    assert a.shape == (5, 32, 32, 3) and (a == b).all() and (a != c).any()
    assert sorted(path.name for path in (tmp_path / "a").iterdir())[4] == "00004.png"
    for until in (1, 100, 101, 900):
        sample(str(until), "--num", 1, "--steps", 10, "--until", until)
    drawn = {until: pixels(tmp_path / str(until)).tobytes() for until in (1, 100, 101, 900)}
    assert drawn[1] == drawn[100] and len(set(drawn.values())) == 3  # none of ten is below 100
    told = capsys.readouterr().out
    assert "DDIM, 3 steps, eta 0" in told and "2 steps, eta 0, none" in told
    assert "9 steps, eta 0, none from a time below 101" in told


def test_the_reference_is_the_training_images_and_overwrite_spares_others(small, tmp_path):
    out, empty = tmp_path / "out", tmp_path / "empty"
    command(*REFERENCE, out)
    images = draw_shapes(40, seeded(0))[:30]
    assert (pixels(out) == images.movedim(1, 3).numpy()).all()
    command(*REFERENCE, out, "--seed", "1", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(pixels(out)) == 30
    (out / "notes.txt").write_text("mine")
    refused("other files than samples .notes.txt.", command, *REFERENCE, out, "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    command(*REFERENCE, tmp_path / "link")
    assert len(pixels(empty)) == 30


def test_interrupted_sampling_leaves_nothing_half_written(sample, tmp_path, monkeypatch):
    two = iter([pictures.to_pil_image] * 2)
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(pictures, "to_pil_image", lambda image: next(two)(image))
        sample("out", "--num", 3, "--steps", 2)
    assert not (tmp_path / "out").exists()
    sample("out", "--num", 3, "--steps", 2)
    assert len(pixels(tmp_path / "out")) == 3 and not list(tmp_path.glob(".unfinished*"))


def test_sample_predicts_what_the_run_recorded(tmp_path):
    model = tmp_path / "model.pt"
    refused(r"config\.json.*give --predict", ddpm.recorded_prediction, model)
    recorded = {'{"predict": "noise"}': "noise", '{"predict": "v"}': "v"}
    recorded['{"model": "ddpm"}'] = "noise"  # a run of before there was a choice
    for text, expected in recorded.items():
        (tmp_path / "config.json").write_text(text)
        assert ddpm.recorded_prediction(model) == expected
    for damaged in ("{", "[]", '{"predict": "x0"}'):
        (tmp_path / "config.json").write_text(damaged)
        refused("--predict", ddpm.recorded_prediction, model)
