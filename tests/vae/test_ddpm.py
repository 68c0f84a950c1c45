"""The diffusion model: schedule, moments, samplers and an oracle, the network, whole runs."""

import math
import os
import signal

import ddpm
import numpy as np
import pictures
import pytest
import readme
import torch
import train
from dataset import draw_shapes
from ddpm import WeightAverage
from diffusion.process import Diffusion, ddpm_loss, draw
from diffusion.unet import UNet, time_embedding
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from common import InputError, Interrupted

DIFFUSION = Diffusion(predict="noise")


def random_images(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1


def noise_like(x, seed=1):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


def test_the_cosine_schedule():
    alpha_bar = DIFFUSION.alpha_bar
    assert (
        len(alpha_bar) == 1001
        and alpha_bar[0] == 1
        and (alpha_bar.diff() < 0).all()
        and 0 < alpha_bar[-1] < 1e-7
    )

    def f(t):
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 250, 500, 900):
        assert alpha_bar[t].item() == pytest.approx(f(t) / f(0), rel=1e-9)
    assert (1 - alpha_bar[1:] / alpha_bar[:-1]).max().item() == pytest.approx(
        0.999
    )  # the last steps are clipped


def test_forward_moments():
    x0 = random_images(1).expand(4000, -1, -1, -1)
    for t in (1, 400, 999):
        x = DIFFUSION.q_sample(x0, torch.full((4000,), t), noise_like(x0))
        alpha_bar = DIFFUSION.alpha_bar[t]
        assert (x.mean(0) - alpha_bar.sqrt() * x0[0]).abs().mean() < 0.02
        assert x.var(0).mean().item() == pytest.approx((1 - alpha_bar).item(), rel=0.01)


def test_each_image_has_its_own_time():
    x0, t = random_images(), torch.tensor([3, 500, 900])
    noise = noise_like(x0)
    together = DIFFUSION.q_sample(x0, t, noise)
    for n in range(3):
        torch.testing.assert_close(
            together[n : n + 1], DIFFUSION.q_sample(x0[n : n + 1], int(t[n]), noise[n : n + 1])
        )


def test_round_trip():
    x0 = random_images()
    noise = noise_like(x0)
    for t in (1, 300, 990):
        x = DIFFUSION.q_sample(x0, t, noise)
        torch.testing.assert_close(DIFFUSION.predict_x0(x, t, noise), x0)
        torch.testing.assert_close(DIFFUSION.noise_in(x, t, x0), noise)
    clipped = DIFFUSION.predict_x0(x, t, -noise)
    assert clipped.abs().max() == 1


def test_the_ddpm_step_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) from the two Gaussians q(x_{t-1} | x_0) and q(x_t | x_{t-1})."""
    x0, t = random_images(), 300
    noise = noise_like(x0)
    x = DIFFUSION.q_sample(x0, t, noise)
    before, now = DIFFUSION.alpha_bar[t - 1], DIFFUSION.alpha_bar[t]
    alpha = now / before
    precision = 1 / (1 - before) + alpha / (1 - alpha)
    mean = (before.sqrt() * x0 / (1 - before) + alpha.sqrt() * x / (1 - alpha)) / precision
    torch.testing.assert_close(DIFFUSION.ddpm_step(x, t, noise, torch.zeros_like(x)), mean)
    one = torch.ones_like(x)
    torch.testing.assert_close(
        DIFFUSION.ddpm_step(x, t, noise, one) - mean, precision.rsqrt() * one
    )


@pytest.mark.parametrize("t", [1, 2, 57, 500, 999, 1000])
def test_ddim_with_all_steps_and_eta_1_is_ddpm(t):
    """Also where the predicted image was clipped, with its noise computed again."""
    x = 2 * noise_like(random_images(), seed=2)
    predicted, noise = noise_like(x, seed=3), noise_like(x, seed=4) if t > 1 else 0.0
    assert (DIFFUSION.predict_x0(x, t, predicted).abs() == 1).any()
    expected = DIFFUSION.ddpm_step(x, t, predicted, noise)
    torch.testing.assert_close(
        DIFFUSION.ddim_step(x, t, t - 1, predicted, 1.0, noise), expected, rtol=1e-6, atol=1e-8
    )


class Oracle(torch.nn.Module):
    """Knows the one image that there is."""

    def __init__(self, x0):
        super().__init__()
        self.x0 = torch.nn.Parameter(x0)

    def forward(self, x, t):
        return DIFFUSION.noise_in(x.double(), t, self.x0.expand_as(x)).float()


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3},
        {"steps": 7},
        {"steps": 50, "eta": 0.5},
        {"steps": 10, "eta": 1.0},
        {"steps": None},
        {"steps": 10, "until": 300},
        {"steps": None, "until": 950},
    ],
)
def test_every_sampler_finds_the_image_of_an_oracle(options):
    x0 = random_images(1)
    got = draw(Oracle(x0), DIFFUSION, 2, generator=torch.Generator().manual_seed(0), **options)
    torch.testing.assert_close(got.double(), x0.expand(2, -1, -1, -1), atol=2e-3, rtol=0)


class Odd(torch.nn.Module):
    """A network that is wrong, but always in the same way."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, t):
        return self.weight * (0.9 * x).sin()


def test_ddim_without_noise_depends_on_the_start_alone():
    drawn = [
        draw(Odd(), DIFFUSION, 2, 20, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    ]
    assert torch.equal(*drawn)
    generator = torch.Generator().manual_seed(5)
    draw(Odd(), DIFFUSION, 2, 20, generator=generator)
    start_only = torch.Generator().manual_seed(5)
    torch.randn(2, 3, 32, 32, generator=start_only)
    assert torch.equal(generator.get_state(), start_only.get_state())  # nothing else was drawn
    noisy = draw(Odd(), DIFFUSION, 2, 20, eta=1.0, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(noisy, drawn[0])


@pytest.mark.parametrize("steps", [1, 10, 50, 100, 999, 1000])
def test_times_fall_evenly_from_noise_to_image(steps):
    times = DIFFUSION.times(steps)
    gaps = -np.diff(times)
    assert times[0] == 1000 and times[-1] == 0 and len(times) == steps + 1
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_the_last_times_of_a_schedule_can_be_left_out():
    assert DIFFUSION.times(10, 200) == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 0]
    assert DIFFUSION.times(10, 201)[-2:] == [300, 0] and DIFFUSION.times(1, 1000) == [1000, 0]


def test_sampling_until_a_time(small, tmp_path, capsys):
    torch.manual_seed(0)
    model = UNet()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    argv = ["sample", "--model", tmp_path / "model.pt", "--num", "1", "--steps", "10"]
    argv += ["--predict", "v"]
    for until in (1, 100, 101, 900):
        command(*argv, "--until", until, "--out", tmp_path / f"{until}")
    pictures = {p.parent.name: p.read_bytes() for p in tmp_path.glob("*/00000.png")}
    assert pictures["1"] == pictures["100"]  # no time of ten steps is below 100
    assert len(set(pictures.values())) == 3
    told = capsys.readouterr().out
    assert "9 steps, eta 0, none from a time below 101" in told and "2 steps, eta 0, none" in told


@pytest.mark.parametrize("steps, evaluations", [(None, 801), (10, 9)])
def test_the_last_step_gives_the_image_predicted_there(steps, evaluations):
    seen = []

    class Zero(Odd):
        def forward(self, x, t):
            seen.append((int(t[0]), x))
            return 0 * self.weight * x

    rng = torch.Generator().manual_seed(0)
    drawn = draw(Zero(), DIFFUSION, 1, steps, generator=rng, until=200)
    t, x = seen[-1]
    assert t == 200 and len(seen) == evaluations
    # No noise is predicted: the image is x scaled, and nothing is drawn or mixed in after it.
    expected = (x / DIFFUSION.alpha_bar[200].sqrt()).clamp(-1, 1).float()
    torch.testing.assert_close(drawn, expected)


def test_the_loss_is_the_mean_squared_error_of_the_noise():
    class Nothing(torch.nn.Module):
        def forward(self, x, t):
            assert t.min() >= 1 and t.max() <= 1000
            return torch.full_like(x, 2.0)

    x = random_images(400).float()
    losses = [ddpm_loss(Nothing(), x, DIFFUSION)]
    assert losses[0].item() == pytest.approx(1 + 2**2, rel=0.01)  # E(n - 2)^2


def test_times_are_uniform():
    seen = []

    def model(x, t):
        seen.append(t)
        return x

    x = torch.zeros(4000, 3, 1, 1)
    torch.manual_seed(0)
    ddpm_loss(model, x, DIFFUSION)
    counts = torch.histc(seen[0].float(), bins=10, min=0.5, max=1000.5)
    assert (
        counts.sum() == 4000 and counts.min() > 340 and counts.max() < 460
    )  # 400 +- 3 standard deviations
    assert seen[0].min() >= 1 and seen[0].max() <= 1000
    for _ in range(5):
        ddpm_loss(model, x, DIFFUSION)
    assert torch.cat(seen).max() == 1000  # the last time is trained, too


def test_each_level_adds_what_comes_from_below():
    torch.manual_seed(0)
    model, seen = UNet(), {}
    for name in ("down8", "down16"):
        getattr(model, name).register_forward_hook(
            lambda m, inputs, output, name=name: seen.update({name: output})
        )
    for name in ("up8", "up16"):
        getattr(model, name).register_forward_pre_hook(
            lambda m, inputs, name=name: seen.update({name: inputs[0]})
        )
    for layer in (model.from4, model.from8):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.ones_(layer.bias)
    model(torch.randn(2, 3, 32, 32), torch.tensor([1, 500]))
    torch.testing.assert_close(seen["up8"], seen["down8"] + 1)
    torch.testing.assert_close(seen["up16"], seen["down16"] + 1)


def test_the_network():
    torch.manual_seed(0)
    model = UNet()
    x, t = torch.randn(3, 3, 32, 32), torch.tensor([1, 500, 1000])
    assert (model(x, t) == 0).all()  # it begins by predicting no noise
    with FlopCounterMode(display=False) as counter:
        model(x, t)
    assert counter.get_total_flops() / 3 <= 0.15e9
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_190_476
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    out = model(x, t)
    assert out.shape == x.shape
    torch.testing.assert_close(
        model(x[1:2], t[1:2]), out[1:2], atol=1e-4, rtol=1e-4
    )  # each image alone
    assert not torch.allclose(model(x[:1], t[1:2]), out[:1], atol=1e-2)  # the time matters
    assert time_embedding(t).unique(dim=0).shape[0] == 3


def test_a_block_by_hand():
    """conv2(silu(norm2(conv1(silu(norm1 x))) (1 + scale) + shift)) is added to x."""
    from diffusion.unet import ResBlock

    torch.manual_seed(0)
    block, x, time = ResBlock(16), torch.randn(2, 16, 4, 4), torch.randn(2, 128)
    assert torch.equal(block(x, time), x)  # it begins as the identity
    torch.nn.init.normal_(block.conv2.weight)
    silu, norm = torch.nn.functional.silu, torch.nn.functional.group_norm
    scale, shift = block.time(time).view(2, 32, 1, 1).chunk(2, dim=1)
    h = block.conv1(silu(norm(x, 8)))
    expected = x + block.conv2(silu(norm(h, 8) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, time), expected)


def test_the_time_embedding_is_the_transformers():
    t = torch.tensor([1, 500])
    rates = torch.tensor([10_000 ** (-n / 64) for n in range(64)])
    expected = torch.cat([(t[:, None] * rates).sin(), (t[:, None] * rates).cos()], dim=1)
    torch.testing.assert_close(time_embedding(t), expected, atol=1e-4, rtol=1e-4)


def test_the_committed_model_says_what_it_said():
    """One stored prediction: no other network, order of pixels or embedding gives it."""
    weights = readme.ROOT / "report/runs/ddpm_v/model.pt"
    model = UNet()
    model.load_state_dict(torch.load(weights, weights_only=True))
    ramp = torch.linspace(-1, 1, 32)
    x = torch.stack([ramp.expand(32, 32), ramp.expand(32, 32).T, ramp.outer(ramp)])[None]
    with torch.no_grad():
        got = model(x, torch.tensor([400]))[0, :, ::15, ::15]
    torch.testing.assert_close(got, torch.tensor(PREDICTED), atol=2e-3, rtol=0)


PREDICTED = [  # channel by channel, every fifteenth pixel
    [[0.3379, 0.3335, 0.2168], [0.3492, 0.0653, -0.4161], [-0.0624, -0.1412, -0.4113]],
    [[0.0815, 0.1067, 0.0137], [0.3694, 0.0678, -0.1241], [0.5498, -0.2782, -0.4217]],
    [[0.692, 0.1391, 0.1008], [0.0844, -0.0997, 0.036], [-0.3188, -0.1984, -0.1301]],
]


def test_attention_is_torch_s():
    from diffusion.unet import Attention

    torch.manual_seed(0)
    layer = Attention(32)
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 32, 4, 4)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).view(2, 3, 4, 8, 16).transpose(3, 4).unbind(1)
    mixed = (
        torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
    )
    torch.testing.assert_close(layer(x), x + layer.out(mixed))


def test_average_of_weights_by_hand():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 1.0)
    average = WeightAverage(module, lambda: torch.nn.Linear(1, 1, bias=False), decay=0.2)
    expected = 1.0
    for step, value in enumerate((3.0, 5.0, -2.0)):
        torch.nn.init.constant_(module.weight, value)
        average.update()
        decay = min(0.2, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == -2.0


# ------------------------------------------------------------------------------------------------
# Whole runs


def command(*argv):
    args = ddpm.get_args([*map(str, argv)])
    ddpm.COMMANDS[argv[0]](args)


TRAIN = ["train", "--dataset", "synthetic", "--batch_size", "10", "--device", "cpu"]
TWO = [*TRAIN, "--num_epochs", "2"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """An epoch's picture takes 50 evaluations of the network on 49 images: here two on four."""
    draw = ddpm.draw

    def few(model, diffusion, count, steps, *rest, **options):
        count, steps = (4, 2) if (count, steps) == (49, 50) else (count, steps)
        return draw(model, diffusion, count, steps, *rest, **options)

    monkeypatch.setattr(ddpm, "draw", few)


def test_scores_of_a_model_go_with_it(small, tmp_path):
    options = [*TRAIN, "--num_epochs", "1", "--out_dir", tmp_path]
    command(*options)
    (tmp_path / "samplers.csv").write_text("of the model that is replaced")
    command(*options, "--overwrite")
    assert (tmp_path / "model.pt").exists() and not (tmp_path / "samplers.csv").exists()


def test_a_stopped_run_ends_bit_identical(small, tmp_path, monkeypatch, capsys):
    command(*TWO, "--out_dir", tmp_path / "whole")
    add, count = train.RunningMeans.add, iter(range(1, 100))

    def add_and_signal(self, *args):
        add(self, *args)
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train.RunningMeans, "add", add_and_signal)
        with pytest.raises(Interrupted, match="ddpm|go on with: .* train --out_dir"):
            command(*TWO, "--out_dir", tmp_path / "parts")
    command("train", "--out_dir", tmp_path / "parts", "--resume")
    states = [
        torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")
    ]
    for part in ("model", "average"):
        parts = [state["parts"][part] for state in states]
        first, second = (part.get("weights", part) for part in parts)
        assert first.keys() == second.keys() and all(
            torch.equal(first[name], second[name]) for name in first
        )
    losses = [[row["val_loss"] for row in state["rows"]] for state in states]
    assert losses[0] == losses[1] and len(losses[0]) == 2
    assert not torch.equal(
        states[0]["parts"]["model"]["head.weight"],
        states[0]["parts"]["average"]["weights"]["head.weight"],
    )
    for name in (
        "epoch_1_samples.png",
        "loss_vs_epochs.png",
        "metrics.csv",
        "config.json",
        "model.pt",
    ):
        assert (tmp_path / "whole" / name).exists(), name


def test_the_average_of_a_run(small, tmp_path, monkeypatch, capsys):
    """Taken after every step, it validates and is what model.pt holds."""
    heads, update = [], WeightAverage.update

    def record(self):
        heads.append(self.source.head.weight.detach().clone())
        update(self)

    validated = []
    get_val_metrics = ddpm.get_val_metrics

    def record_validated(model, *rest, **options):
        validated.append(model.head.weight.detach().clone())
        return get_val_metrics(model, *rest, **options)

    monkeypatch.setattr(WeightAverage, "update", record)
    monkeypatch.setattr(ddpm, "get_val_metrics", record_validated)
    command(*TWO, "--decay", "0.15", "--out_dir", tmp_path / "run")
    assert len(heads) == 6  # two epochs of three batches
    expected = torch.zeros_like(heads[0])  # where the head begins
    for step, head in enumerate(heads):
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * head
    average = torch.load(tmp_path / "run/state.pt", weights_only=True)["parts"]["average"]
    assert average["count"] == 6
    torch.testing.assert_close(average["weights"]["head.weight"], expected)
    assert torch.equal(validated[-1], average["weights"]["head.weight"])
    model = torch.load(tmp_path / "run/model.pt", weights_only=True)
    assert all(torch.equal(value, average["weights"][name]) for name, value in model.items())


def test_train_then_sample_then_reference(small, tmp_path, capsys):
    command(*TRAIN, "--num_epochs", "1", "--out_dir", tmp_path / "run")
    model = tmp_path / "run" / "model.pt"
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        command(
            "sample",
            "--model",
            model,
            "--num",
            "5",
            "--steps",
            "3",
            "--batch_size",
            "4",
            "--seed",
            seed,
            "--out",
            tmp_path / name,
        )
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [
        f"{n:05d}.png" for n in range(5)
    ]
    pixels = {
        name: np.stack(
            [np.asarray(Image.open(path)) for path in sorted((tmp_path / name).iterdir())]
        )
        for name in "abc"
    }
    assert pixels["a"].shape == (5, 32, 32, 3) and pixels["a"].dtype == np.uint8
    assert (pixels["a"] == pixels["b"]).all() and (pixels["a"] != pixels["c"]).any()
    assert "DDIM, 3 steps, eta 0" in capsys.readouterr().out
    command("reference", "--dataset", "synthetic", "--out", tmp_path / "real")
    images = draw_shapes(40, torch.Generator().manual_seed(0))[:30]
    assert len(list((tmp_path / "real").iterdir())) == 30
    first = np.asarray(Image.open(tmp_path / "real" / "00007.png"))
    assert (first == images[7].permute(1, 2, 0).numpy()).all()
    assert not list(tmp_path.glob(".unfinished*"))


def test_interrupted_sampling_leaves_nothing_half_written(small, tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(UNet().state_dict(), tmp_path / "model.pt")
    argv = ["sample", "--predict", "v", "--model", tmp_path / "model.pt", "--num", "3"]
    argv += ["--steps", "2", "--out", tmp_path / "out"]
    to_pil, count = pictures.to_pil_image, iter(range(9))

    def stopped(image):
        if next(count) == 2:
            raise KeyboardInterrupt
        return to_pil(image)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "to_pil_image", stopped)
        with pytest.raises(KeyboardInterrupt):
            command(*argv)
    assert not (tmp_path / "out").exists()
    command(*argv)
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert not list(tmp_path.glob(".unfinished*"))


def test_overwrite_spares_what_is_not_a_sample(small, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["reference", "--dataset", "synthetic", "--out", out]
    command(*argv)
    with pytest.raises(InputError):
        command(*argv)
    command(*argv, "--seed", "1", "--overwrite")
    again = sorted(path.name for path in tmp_path.iterdir())
    assert again == ["out"] and len(list(out.iterdir())) == 30
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files than samples .notes.txt."):
        command(*argv, "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    command("reference", "--dataset", "synthetic", "--out", tmp_path / "link")
    assert len(list((tmp_path / "empty").iterdir())) == 30


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "train|sample|reference"),
        (["tarin"], "train|sample|reference"),
        (["train", "--num_epoch", "1"], "did you mean --num_epochs?"),
        (["train", "--num_epochs", "0"], "expected int >= 1"),
        (["train", "--decay", "1.5"], "expected a finite float >= 0 and <= 1"),
        (["train", "--resume", "--overwrite"], "exclude each other"),
        (["train", "--dataset", "synthetic", "--resume", "--out_dir", "{tmp}/run"], "no file"),
        (["sample"], "--out"),
        (["sample", "--steps", "1001", "--out", "{tmp}/x"], "expected int >= 1 and <= 1000"),
        (["sample", "--until", "0", "--out", "{tmp}/x"], "expected int >= 1 and <= 1000"),
        (["sample", "--sampler", "ddpm", "--eta", "1", "--out", "{tmp}/x"], "belong to DDIM"),
        (["sample", "--model", "{tmp}/none.pt", "--out", "{tmp}/x"], "no file"),
        (["sample", "--model", "{tmp}/other.pt", "--out", "{tmp}/x"], "does not hold the weights"),
        (["sample", "--out", "{tmp}"], "exists; give --overwrite"),
        (["sample", "--out", "{tmp}/other.pt/x"], "other.pt is a file, expected a folder"),
        (["reference", "--data_dir", "{tmp}/none", "--out", "{tmp}/x"], "add --download"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(argv, message, tmp_path, capsys):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises((SystemExit, InputError)) as stop:
        command(*(part.replace("{tmp}", str(tmp_path)) for part in argv))
    assert message in capsys.readouterr().err + str(stop.value)
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"]


# ------------------------------------------------------------------------------------------------
# v-prediction

VELOCITY = Diffusion(predict="v")


def test_v_gives_the_image_and_the_noise_back():
    x0 = random_images().float()
    noise = noise_like(x0).float()
    for t in (1, 300, 999):
        times = torch.full((len(x0),), t)
        x, v = VELOCITY.q_sample(x0, times, noise), VELOCITY.target(x0, times, noise)
        torch.testing.assert_close(VELOCITY.predict_x0(x, times, v), x0, atol=1e-5, rtol=1e-5)
        # The inverse of section 4 of arXiv 2202.00512: a rotation.
        alpha_bar = VELOCITY.at(times, x0)
        back = (1 - alpha_bar).sqrt() * x + alpha_bar.sqrt() * v
        torch.testing.assert_close(back.float(), noise, atol=1e-5, rtol=1e-5)
    assert torch.equal(DIFFUSION.target(x0, times, noise), noise)


class KnowsV(torch.nn.Module):
    def __init__(self, x0):
        super().__init__()
        self.x0, self.weight = x0, torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        alpha_bar = VELOCITY.at(t, x)
        noise = (x - alpha_bar.sqrt() * self.x0) / (1 - alpha_bar).sqrt()
        return (alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * self.x0).float()


def test_sampling_with_v_finds_the_image_that_the_network_knows():
    x0 = random_images()[:2].float()
    for options in ({"steps": 10}, {"steps": 50, "eta": 0.5}, {}):
        got = draw(KnowsV(x0), VELOCITY, 2, **options)
        torch.testing.assert_close(got, x0, atol=2e-3, rtol=0)


def test_the_loss_of_a_network_that_knows_v_is_0():
    x0 = random_images()[:1].float()
    assert ddpm_loss(KnowsV(x0), x0, VELOCITY).item() < 1e-8
    assert ddpm_loss(KnowsV(x0), x0, DIFFUSION).item() > 0.1


def test_sample_predicts_what_the_run_recorded(tmp_path):
    model = tmp_path / "model.pt"
    with pytest.raises(InputError, match=r"config\.json.*give --predict"):
        ddpm.recorded_prediction(model)  # nothing is recorded, and the file does not say
    for text, expected in (
        ('{"predict": "noise"}', "noise"),
        ('{"predict": "v"}', "v"),
        ('{"model": "ddpm"}', "noise"),
    ):  # a run of before there was a choice
        (tmp_path / "config.json").write_text(text)
        assert ddpm.recorded_prediction(model) == expected
    for damaged in ("{", "[]", '{"predict": "x0"}'):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(InputError, match="--predict"):
            ddpm.recorded_prediction(model)
