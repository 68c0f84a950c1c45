"""The diffusion model: schedule, moments, samplers and an oracle, the network, whole runs."""

import math

import ddpm
import numpy as np
import pictures
import pytest
import readme
import torch
import torch.nn.functional as F
from dataset import draw_shapes
from ddpm import WeightAverage
from diffusion.process import Diffusion, ddpm_loss, draw
from diffusion.unet import Attention, ResBlock, UNet, time_embedding
from helpers import stopped_after
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from common import InputError

NOISE, VELOCITY = Diffusion(predict="noise"), Diffusion(predict="v")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_images(count=3):
    return torch.rand(count, 3, 32, 32, generator=seeded(0), dtype=torch.float64) * 2 - 1


def noise_like(x, seed=1):
    return torch.randn(x.shape, generator=seeded(seed), dtype=x.dtype)


# ------------------------------------------------------------------------------------------------
# Schedule, q(x_t | x_0), the two steps


def test_the_cosine_schedule():
    alpha_bar = NOISE.alpha_bar
    assert len(alpha_bar) == 1001 and alpha_bar[0] == 1 and (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] < 1e-7

    def f(t):
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 250, 500, 900):
        assert alpha_bar[t].item() == pytest.approx(f(t) / f(0), rel=1e-9)
    largest = (1 - alpha_bar[1:] / alpha_bar[:-1]).max().item()
    assert largest == pytest.approx(0.999)  # the last steps are clipped


def test_forward_moments_and_a_time_for_each_image():
    x0 = random_images(1).expand(1000, -1, -1, -1)
    for t in (1, 400, 999):
        x = NOISE.q_sample(x0, torch.full((1000,), t), noise_like(x0))
        alpha_bar = NOISE.alpha_bar[t]
        assert (x.mean(0) - alpha_bar.sqrt() * x0[0]).abs().mean() < 0.04
        assert x.var(0).mean().item() == pytest.approx((1 - alpha_bar).item(), rel=0.01)
    x0, times = random_images(), [3, 500, 900]
    noise = noise_like(x0)
    alone = [NOISE.q_sample(x0[n : n + 1], t, noise[n : n + 1]) for n, t in enumerate(times)]
    assert_close(NOISE.q_sample(x0, torch.tensor(times), noise), torch.cat(alone))


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


# ------------------------------------------------------------------------------------------------
# Sampling, the loss


class Oracle(nn.Module):
    """Knows the images; says their noise, or v."""

    def __init__(self, x0, diffusion):
        super().__init__()
        self.x0, self.diffusion = nn.Parameter(x0), diffusion

    def forward(self, x, t):
        x0 = self.x0.expand_as(x)
        noise = self.diffusion.noise_in(x.double(), t, x0)
        return self.diffusion.target(x0, t, noise).float()


@pytest.mark.parametrize("diffusion", [NOISE, VELOCITY])
@pytest.mark.parametrize(
    "options",
    [
        *({"steps": 3}, {"steps": 50, "eta": 0.5}, {"steps": 10, "eta": 1.0}, {"steps": None}),
        *({"steps": 10, "until": 300}, {"steps": None, "until": 950}),
    ],
)
def test_every_sampler_finds_the_image_of_an_oracle(options, diffusion):
    x0 = random_images(1)
    got = draw(Oracle(x0, diffusion), diffusion, 2, generator=seeded(0), **options)
    assert_close(got.double(), x0.expand(2, -1, -1, -1), atol=2e-3, rtol=0)


class Network(nn.Module):
    """A function of (x, t) on a device."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(()))

    def forward(self, x, t):
        return self.weight * self.function(x, t)


def test_ddim_without_noise_depends_on_the_start_alone():
    odd, rngs = Network(lambda x, t: (0.9 * x).sin()), [seeded(5) for _ in range(4)]
    first, second = (draw(odd, NOISE, 2, 20, generator=rng) for rng in rngs[:2])
    assert torch.equal(first, second)
    torch.randn(2, 3, 32, 32, generator=rngs[2])
    assert torch.equal(rngs[0].get_state(), rngs[2].get_state())  # nothing else was drawn
    assert not torch.equal(draw(odd, NOISE, 2, 20, eta=1.0, generator=rngs[3]), first)


@pytest.mark.parametrize("steps", [1, 10, 50, 100, 999, 1000])
def test_times_fall_evenly_from_noise_to_image(steps):
    times = NOISE.times(steps)
    gaps = -np.diff(times)
    assert times[0] == 1000 and times[-1] == 0 and len(times) == steps + 1
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_the_last_times_of_a_schedule_can_be_left_out():
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
    knows = Oracle(x0, VELOCITY)
    assert ddpm_loss(knows, x0, VELOCITY).item() < 1e-8 and ddpm_loss(knows, x0, NOISE).item() > 0.1


def test_times_are_uniform():
    seen, x = [], torch.zeros(4000, 3, 1, 1)
    torch.manual_seed(0)
    for _ in range(6):
        ddpm_loss(lambda x, t: seen.append(t) or x, x, NOISE)
    counts = torch.histc(seen[0].float(), bins=10, min=0.5, max=1000.5)
    # 400 +- 3 standard deviations
    assert counts.sum() == 4000 and counts.min() > 340 and counts.max() < 460
    times = torch.cat(seen)
    assert times.min() >= 1 and times.max() == 1000  # the last time is trained, too


# ------------------------------------------------------------------------------------------------
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


def test_each_level_adds_what_comes_from_below():
    torch.manual_seed(0)
    model, seen = UNet(), {}
    for size in (8, 16):
        down, up = getattr(model, f"down{size}"), getattr(model, f"up{size}")
        down.register_forward_hook(lambda m, ins, out, n=size: seen.update({f"down{n}": out}))
        up.register_forward_pre_hook(lambda m, ins, n=size: seen.update({f"up{n}": ins[0]}))
    for layer in (model.from4, model.from8):
        nn.init.zeros_(layer.weight), nn.init.ones_(layer.bias)
    model(torch.randn(2, 3, 32, 32), torch.tensor([1, 500]))
    for size in (8, 16):
        assert_close(seen[f"up{size}"], seen[f"down{size}"] + 1)


def test_a_block_by_hand():
    """conv2(silu(norm2(conv1(silu(norm1 x))) (1 + scale) + shift)) is added to x."""
    torch.manual_seed(0)
    block, x, time = ResBlock(16), torch.randn(2, 16, 4, 4), torch.randn(2, 128)
    assert torch.equal(block(x, time), x)  # it begins as the identity
    nn.init.normal_(block.conv2.weight)
    scale, shift = block.time(time).view(2, 32, 1, 1).chunk(2, dim=1)
    h = block.conv1(F.silu(F.group_norm(x, 8)))
    expected = x + block.conv2(F.silu(F.group_norm(h, 8) * (1 + scale) + shift))
    assert_close(block(x, time), expected)


def test_the_time_embedding_is_the_transformers():
    t, rates = torch.tensor([1, 500]), torch.tensor([10_000 ** (-n / 64) for n in range(64)])
    expected = torch.cat([(t[:, None] * rates).sin(), (t[:, None] * rates).cos()], dim=1)
    assert_close(time_embedding(t), expected, atol=1e-4, rtol=1e-4)


def test_attention_is_torch_s():
    torch.manual_seed(0)
    layer, x = Attention(32), torch.randn(2, 32, 4, 4)
    nn.init.normal_(layer.out.weight)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).view(2, 3, 4, 8, 16).transpose(3, 4).unbind(1)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
    assert_close(layer(x), x + layer.out(mixed))


PREDICTED = [  # channel by channel, every fifteenth pixel
    [[0.3379, 0.3335, 0.2168], [0.3492, 0.0653, -0.4161], [-0.0624, -0.1412, -0.4113]],
    [[0.0815, 0.1067, 0.0137], [0.3694, 0.0678, -0.1241], [0.5498, -0.2782, -0.4217]],
    [[0.692, 0.1391, 0.1008], [0.0844, -0.0997, 0.036], [-0.3188, -0.1984, -0.1301]],
]


def test_the_committed_model_says_what_it_said():
    """One stored prediction: no other network, order of pixels or embedding gives it."""
    model, ramp = UNet(), torch.linspace(-1, 1, 32)
    stored = readme.ROOT / "report/runs/ddpm_v/model.pt"
    model.load_state_dict(torch.load(stored, weights_only=True))
    x = torch.stack([ramp.expand(32, 32), ramp.expand(32, 32).T, ramp.outer(ramp)])[None]
    with torch.no_grad():
        got = model(x, torch.tensor([400]))[0, :, ::15, ::15]
    assert_close(got, torch.tensor(PREDICTED), atol=2e-3, rtol=0)


def test_average_of_weights_by_hand():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    average = WeightAverage(module, lambda: nn.Linear(1, 1, bias=False), decay=0.2)
    expected = 1.0
    for step, value in enumerate((3.0, 5.0, -2.0)):
        nn.init.constant_(module.weight, value)
        average.update()
        decay = min(0.2, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == -2.0


# ------------------------------------------------------------------------------------------------
# Whole runs


def command(*argv):
    ddpm.COMMANDS[argv[0]](ddpm.get_args([*map(str, argv)]))


TRAIN = ["train", "--dataset", "synthetic", "--batch_size", "10", "--device", "cpu"]
TWO = [*TRAIN, "--num_epochs", "2"]
REFERENCE = ["reference", "--dataset", "synthetic", "--out"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """An epoch's picture takes 50 evaluations of the network on 49 images: here two on four."""

    def few(model, diffusion, count, steps, *rest, **options):
        count, steps = (4, 2) if (count, steps) == (49, 50) else (count, steps)
        return draw(model, diffusion, count, steps, *rest, **options)

    monkeypatch.setattr(ddpm, "draw", few)


def state_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)


def test_a_stopped_run_ends_bit_identical(small, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command(*TWO, "--out_dir", whole)
    stopped = stopped_after(monkeypatch, 2, command, *TWO, "--out_dir", parts)
    assert "train --out_dir" in str(stopped)
    command("train", "--out_dir", parts, "--resume")
    one, other = state_of(whole), state_of(parts)
    for part in (lambda s: s["parts"]["model"], lambda s: s["parts"]["average"]["weights"]):
        assert part(one).keys() == part(other).keys()
        assert all(map(torch.equal, part(one).values(), part(other).values()))
    losses = [[row["val_loss"] for row in state["rows"]] for state in (one, other)]
    assert losses[0] == losses[1] and len(losses[0]) == 2
    for name in ("epoch_1_samples.png", "loss_vs_epochs.png", "metrics.csv", "config.json"):
        assert (whole / name).exists(), name


def test_the_average_of_a_run(small, tmp_path, monkeypatch):
    """Taken after every step, it validates and is what model.pt holds."""
    heads, validated = [], []
    update, get_val_metrics = WeightAverage.update, ddpm.get_val_metrics

    def record(self):
        heads.append(self.source.head.weight.detach().clone())
        update(self)

    def record_validated(model, *rest, **options):
        validated.append(model.head.weight.detach().clone())
        return get_val_metrics(model, *rest, **options)

    monkeypatch.setattr(WeightAverage, "update", record)
    monkeypatch.setattr(ddpm, "get_val_metrics", record_validated)
    command(*TWO, "--decay", "0.15", "--out_dir", tmp_path)
    assert len(heads) == 6  # two epochs of three batches
    expected = torch.zeros_like(heads[0])  # where the head begins
    for step, head in enumerate(heads):
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * head
    average = state_of(tmp_path)["parts"]["average"]
    assert average["count"] == 6 and not torch.equal(heads[-1], expected)
    assert_close(average["weights"]["head.weight"], expected)
    assert torch.equal(validated[-1], average["weights"]["head.weight"])
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(value, average["weights"][name]) for name, value in model.items())
    (tmp_path / "samplers.csv").write_text("scores of the model that is replaced")
    command(*TRAIN, "--num_epochs", "1", "--out_dir", tmp_path, "--overwrite")
    assert (tmp_path / "model.pt").exists() and not (tmp_path / "samplers.csv").exists()


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
    with pytest.raises(InputError, match="exists; give --overwrite"):
        command(*REFERENCE, out)
    command(*REFERENCE, out, "--seed", "1", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(pixels(out)) == 30
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files than samples .notes.txt."):
        command(*REFERENCE, out, "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    command(*REFERENCE, tmp_path / "link")
    assert len(pixels(empty)) == 30


def test_interrupted_sampling_leaves_nothing_half_written(sample, tmp_path, monkeypatch):
    to_pil, count = pictures.to_pil_image, iter(range(9))

    def stopped(image):
        if next(count) == 2:
            raise KeyboardInterrupt
        return to_pil(image)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pictures, "to_pil_image", stopped)
        sample("out", "--num", 3, "--steps", 2)
    assert not (tmp_path / "out").exists()
    sample("out", "--num", 3, "--steps", 2)
    assert len(pixels(tmp_path / "out")) == 3 and not list(tmp_path.glob(".unfinished*"))


def test_sample_predicts_what_the_run_recorded(tmp_path):
    model = tmp_path / "model.pt"
    with pytest.raises(InputError, match=r"config\.json.*give --predict"):
        ddpm.recorded_prediction(model)  # nothing is recorded, and the file does not say
    recorded = {'{"predict": "noise"}': "noise", '{"predict": "v"}': "v"}
    recorded['{"model": "ddpm"}'] = "noise"  # a run of before there was a choice
    for text, expected in recorded.items():
        (tmp_path / "config.json").write_text(text)
        assert ddpm.recorded_prediction(model) == expected
    for damaged in ("{", "[]", '{"predict": "x0"}'):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(InputError, match="--predict"):
            ddpm.recorded_prediction(model)
