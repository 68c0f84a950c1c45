"""The checker: this project passes, and each slip that is put into it is found and named."""

import csv
import json
import shutil
from pathlib import Path

import check
import checks
import checks.diffusion
import checks.gan
import checks.vae
import pytest

ROOT = Path(__file__).resolve().parents[2]
HANDIN = Path(__file__).parent / "handin"
HALVES = {"ours": ROOT, "handin": HANDIN}


@pytest.fixture(scope="session")
def pool():
    return check.Pool()


def test_this_project_passes(tmp_path):
    """By the command, as a student runs it; the three kinds of output agree."""
    files = {name: tmp_path / f"rows.{name}" for name in ("json", "csv", "gradescope")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert check.main(check.get_args([str(ROOT), *options])) == 0
    rows = json.loads(files["json"].read_text())
    assert len(rows) > 50 and {row["verdict"] for row in rows} == {"right"}
    with open(files["csv"], newline="") as file:
        assert list(csv.DictReader(file)) == rows
    graded = json.loads(files["gradescope"].read_text())
    assert len(graded["tests"]) == len(rows)
    assert all(t["score"] == t["max_score"] == 1 for t in graded["tests"])
    keys = {"number", "name", "score", "max_score", "status", "output"}
    assert keys == graded["tests"][0].keys() and graded["tests"][0]["status"] == "passed"


FROM_TEMPLATE = [
    one.name
    for one in checks.CHECKS
    if one.half == "diffusion"
    or one.name.removeprefix("gan.")
    in (
        *("transform", "schedules", "iterations", "tail_batch", "generator_steps", "detached"),
        *("schedule_steps", "interpolates", "sample_range", "score_counts"),
        *("interpolation_grid", "interpolation_picture", "fid_images"),
    )
    or one.name == "vae.preprocessing"
]


@pytest.mark.parametrize("name", FROM_TEMPLATE)
def test_a_right_handin_of_the_handouts_manner_passes(pool, name):
    word, sentence = pool.run(name, HANDIN / name.partition(".")[0])
    assert word == "right" or "With that apart it is right" in sentence, sentence
    assert (name == "gan.schedules") == (word == "cannot run")  # verbose=False


# Source ("ours" or "handin"), file, what stands there, the slip, check, verdict, words of the
# sentence.
UP = 'return F.interpolate(x, scale_factor=self.upscale_factor, mode="nearest")'
POOL = "self.conv(avg_pool2d(x, self.downscale_ratio))"
PARTS = "F.pixel_unshuffle(x, 2).reshape(4, len(x), -1, x.shape[2] // 2, x.shape[3] // 2)"
CHANNELS = "F.pixel_unshuffle(x, 2).reshape(len(x), 4, -1, x.shape[2] // 2, x.shape[3] // 2)"
NETWORKS, TRAIN, UTILS = "gan/networks.py", "gan/train.py", "gan/utils.py"
NORM = "gradient.float().flatten(1).norm(dim=1)"
MEAN = "(norm - 1).square().mean()"
KL = "kl_terms(mu, log_std).sum(dim=1).mean()"
SUM = "(reconstruction.float() - x).square().sum(dim=(1, 2, 3)).mean()"
MODEL, INFERENCE = "diffusion/model.py", "diffusion/inference.py"
SLIPS = [
    (NETWORKS, UP, "return F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)", "upsampling", "handout's"),
    (NETWORKS, UP, UP.replace("nearest", "bilinear"), "upsampling", "bilinear"),
    (NETWORKS, POOL, f"self.conv({PARTS}.mean(0))", "pooling", "over images"),
    (NETWORKS, POOL, f"self.conv({PARTS}.mean(0))", "scores_alone", "image 1"),
    (NETWORKS, POOL, f"self.conv({CHANNELS}.mean(1))", "pooling", "different channels"),
    (NETWORKS, POOL, "self.conv(F.max_pool2d(x, 2))", "pooling", "largest"),
    (NETWORKS, "padding=1, bias=False", "padding=1", "generator_parameters", "+384"),
    (
        *(NETWORKS, "n_filters, kernel_size, padding=1),\n            ReLU(),\n            Down"),
        "n_filters, kernel_size, padding=1, bias=False),\n            ReLU(),\n            Down",
        *("discriminator_parameters", "-256"),
    ),
    (NETWORKS, " + self.upsample_residual(x)", "", "block_up", "no shortcut"),
    (
        *(NETWORKS, "ReLU(),\n            Conv2d(input_channels, n_filters, kernel_size, padd"),
        "nn.ReLU(True),\n            Conv2d(input_channels, n_filters, kernel_size, padd",
        *("block_down", "in-place ReLU"),
    ),
    (
        NETWORKS,
        "return x + self.layers(x)",
        "x += self.layers(x); return x",
        "block",
        "changes the",
    ),
    (NETWORKS, "nn.Tanh()", "nn.Identity()", "images", "by a Tanh"),
    (NETWORKS, "nn.Tanh()", "nn.Sigmoid()", "images", "no pixel below"),
    (NETWORKS, "z = torch.randn(n_samples", "z = torch.rand(n_samples", "latents", "uniform"),
    (NETWORKS, "dtype=torch.float32)", "dtype=torch.float16)", "latents", "~float16"),
    (NETWORKS, "size = self.starting_image_size", "size = 4", "starting_size", "~only 4 works"),
    (
        NETWORKS,
        "features.sum(dim=(2, 3))",
        "features.mean(dim=(2, 3))",
        "score_of_sum",
        "mean over",
    ),
    (
        NETWORKS,
        "features.sum(dim=(2, 3)))",
        "features.sum(dim=(2, 3))).sigmoid()",
        "score_of_sum",
        "sigmoid",
    ),
    (TRAIN, ", transforms.Normalize((0.5,) * 3, (0.5,) * 3)", "", "transform", "0.00, 0.50, 1.00"),
    (TRAIN, "betas=(0.0, 0.9)", "betas=(0.5, 0.9)", "optimizers", "(0.5, 0.9)"),
    (TRAIN, "betas=(0.0, 0.9)", "betas=(0, 0.9)", "optimizers", "!write (0.0, 0.9)"),
    (TRAIN, "max(0.0, 1 - step / steps)", "1 - step / steps", "schedules", "negative"),
    (TRAIN, "max(0.0, 1 - step / steps)", "1.0", "schedules", "1.000, 1.000"),
    (
        TRAIN,
        "at_end = run.step, run.step == num_iterations",
        "at_end = run.step, run.step == num_iterations + 2",
        "iterations",
        "~9 for 7",
    ),
    (
        TRAIN,
        "iters % generator_every == 0",
        "iters % 2 == 0",
        "generator_steps",
        "4 generator steps",
    ),
    (
        TRAIN,
        "with torch.no_grad(), precision():\n        fake",
        "with precision():\n        fake",
        "detached",
        "~thrown away",
    ),
    (
        TRAIN,
        "torch.rand(batch_size, 1, 1, 1",
        "torch.randn(batch_size, 1, 1, 1",
        "interpolates",
        "off the line",
    ),
    (TRAIN, "torch.rand(batch_size, 1, 1, 1", "torch.rand(1, 1, 1, 1", "interpolates", "~one eps"),
    ("gan/common/files.py", ".add(1).div(2).clamp(0, 1)", "", "sample_range", "as they are"),
    ("gan/common/files.py", ".add(1).div(2).clamp(0, 1)", "", "interpolation_picture", "as they"),
    (
        UTILS,
        "steps = torch.linspace(-1, 1, 10",
        "steps = torch.linspace(-1, 0.8, 10",
        "interpolation_grid",
        "0.80",
    ),
    ("gan/fid.py", "images.add(1).mul(127.5)", "images.add(1).mul(0.5)", "fid_images", "0.25"),
    (
        "gan/q1_3.py",
        "F.softplus(-discrim_real)",
        "F.softplus(discrim_real)",
        "gan_discriminator",
        "expected",
    ),
    (
        "gan/q1_3.py",
        "return F.softplus(-discrim_real).mean() +",
        "discrim_real, discrim_fake = discrim_fake, discrim_real\n    return "
        "F.softplus(-discrim_real).mean() +",
        "gan_discriminator",
        "swapped",
    ),
    (
        "gan/q1_3.py",
        "return F.softplus(-discrim_fake).mean()",
        "return -F.softplus(discrim_fake).mean()",
        "gan_generator",
        "vanishes",
    ),
    (
        "gan/q1_3.py",
        "return F.softplus(-discrim_real)",
        "return -discrim_real.sigmoid().log()",
        "gan_huge",
        "not finite",
    ),
    (
        "gan/q1_3.py",
        "F.softplus(discrim_fake).mean()",
        "F.softplus(discrim_fake).mean() + interp.sum() + discrim_interp.square().mean()"
        " + __import__('torch').autograd.grad(discrim_interp.sum(), interp)[0].square().mean()",
        "no_interpolates",
        "q1_3",
    ),
    (
        "gan/q1_4.py",
        "discrim_fake.square()",
        "(discrim_fake - 1).square()",
        "lsgan_discriminator",
        "target 1",
    ),
    (
        "gan/q1_4.py",
        "return 0.5 * (discrim_real - 1).square().mean() + 0.5",
        "return (discrim_real - 1).square().mean() + 1.0",
        "lsgan_discriminator",
        "~2 times",
    ),
    (
        "gan/q1_4.py",
        "return 0.5 * (discrim_fake - 1)",
        "return 0.5 * (discrim_fake + 1)",
        "lsgan_generator",
        "expected",
    ),
    (
        "gan/q1_5.py",
        "discrim_fake.mean() - discrim_real.mean()",
        "torch.nn.functional.softplus(discrim_fake).mean()"
        " + torch.nn.functional.softplus(-discrim_real).mean()",
        "wgan",
        "cross-entropy",
    ),
    (
        "gan/q1_5.py",
        "discrim_fake.mean() - discrim_real.mean()",
        "discrim_real.mean() - discrim_fake.mean()",
        "wgan",
        "reversed",
    ),
    ("gan/q1_5.py", NORM, "gradient.float().norm()", "penalty_norm", "whole batch"),
    ("gan/q1_5.py", NORM, "gradient.float().norm(dim=1)", "penalty_norm", "per pixel"),
    ("gan/q1_5.py", MEAN, "(norm.mean() - 1).square()", "penalty_norm", "square of the mean"),
    ("gan/q1_5.py", "loss + lamb * ", "loss + ", "penalty_norm", "without lambda"),
    ("gan/q1_5.py", MEAN, "(norm - 1).clamp(min=0).square().mean()", "penalty_norm", "one-sided"),
    ("gan/q1_5.py", "interp, create_graph=True)", "interp)", "penalty_gradient", "no gradient"),
    ("gan/q1_5.py", NORM, "gradient.square().sum((1, 2, 3)).sqrt()", "penalty_at_zero", "nan"),
    (
        "vae/model.py",
        "nn.Conv2d(32, 64, kernel_size=3",
        "nn.Conv2d(32, 64, kernel_size=5",
        "encoder_layers",
        "convolution 1",
    ),
    (
        "vae/model.py",
        "outputs_per_latent = 2",
        "outputs_per_latent = 3",
        "vae_encoder_layers",
        "(4096, 48)",
    ),
    (
        "vae/model.py",
        "self.fc(self.convs(x).flatten(1))",
        "(self.convs(x).mean() * 0 + x.flatten(1)[:, : self.fc.out_features])",
        "encoder_output",
        "not used",
    ),
    (
        "vae/model.py",
        "mu, log_std = super()",
        "log_std, mu = super()",
        "vae_encoder_output",
        "~second half",
    ),
    (
        "vae/model.py",
        "self.deconvs = nn.Sequential(\n            nn.ReLU(),",
        "self.deconvs = nn.Sequential(",
        "decoder_layers",
        "before the first",
    ),
    (
        "vae/model.py",
        "base_channels: int = 128):",
        "base_channels: int = 256):",
        "decoder_layers",
        "~256",
    ),
    (
        "vae/model.py",
        "return self.deconvs(",
        "return self.deconvs[:-1](",
        "decoder_output",
        "shape",
    ),
    (
        "vae/losses.py",
        SUM,
        "(reconstruction.float() - x).square().mean()",
        "ae_loss",
        "over pixels",
    ),
    ("vae/losses.py", SUM, "0.5 * " + SUM, "ae_loss", "~half"),
    (
        "vae/losses.py",
        SUM,
        SUM.replace("reconstruction.float()", "reconstruction.tanh()"),
        "ae_loss",
        "tanh",
    ),
    ("vae/losses.py", SUM, "(reconstruction.float() - x).square().sum()", "vae_recon", "the batch"),
    ("vae/losses.py", "recon_loss + beta * kl_loss", "recon_loss + kl_loss", "vae_recon", "beta"),
    ("vae/losses.py", KL, "kl_terms(mu, log_std).sum()", "kl_value", "sum over the batch"),
    ("vae/losses.py", KL, "kl_terms(mu, log_std).mean()", "kl_value", "latents instead"),
    (
        "vae/losses.py",
        "log_std.exp() * noise",
        "(0.5 * log_std).exp() * noise",
        "kl_value",
        "another Gaussian",
    ),
    (
        "vae/losses.py",
        "torch.randn_like(mu)",
        "torch.randn_like(mu[:, :1])",
        "vae_noise",
        "one number",
    ),
    ("vae/losses.py", "mu + log_std.exp() * noise", "mu", "vae_noise", "no noise"),
    ("vae/losses.py", "log_std.exp() * noise", "log_std * noise", "vae_noise", "output itself"),
    (
        "vae/losses.py",
        "- 2 * log_std - 1",
        "- log_std.exp().square().log() - 1",
        "kl_extremes",
        "-60",
    ),
    (
        "vae/schedules.py",
        "return lambda epoch: target_val\n",
        "return lambda epoch: 1.0\n",
        "constant_beta",
        "0.8",
    ),
    (
        "vae/schedules.py",
        "target_val * min(1.0, epoch / max_epochs)",
        "min(target_val, epoch / max_epochs)",
        "linear_beta",
        "target of 0.8",
    ),
    (
        "vae/schedules.py",
        "target_val * min(1.0, epoch / max_epochs)",
        "target_val * min(1.0, epoch / (max_epochs - 1))",
        "linear_beta",
        "~max_epochs - 1",
    ),
    (
        "vae/schedules.py",
        "return lambda epoch: target_val * min(1.0, epoch / max_epochs)",
        "return lambda epoch: None",
        "linear_beta",
        "?TODO",
    ),
    (
        "vae/train.py",
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)\n",
        "",
        "clipping",
        "limits",
    ),
    (
        "vae/train.py",
        "beta(step) if callable(beta) else beta)\n        loss.backward",
        "1)\n        loss.backward",
        "beta_reaches_loss",
        "0.3",
    ),
    (
        "vae/train.py",
        'means.add({"loss": loss} | terms, 1, len(x))',
        'means.add({"loss": loss} | terms, 1)',
        "weighted_means",
        "~batch means",
    ),
    (
        "vae/train.py",
        "x = preprocess_data(x, device)  # (B, 3, 32, 32) in [-1, 1]\n        optimizer",
        "x = preprocess_data(x, device) * 2 - 1\n        optimizer",
        "same_range",
        "training",
    ),
    (
        "vae/train.py",
        "with measuring(model, seed=0) as device, precision():",
        "device = next(model.parameters()).device\n    with precision():",
        "validation",
        "~no_grad",
    ),
    (
        "vae/utils.py",
        'return save_grid(framed, with_ending(_file, "_recons.png"), nrow=12)',
        "return framed",
        "pictures",
        "",
    ),
    ("handin:gan/train.py", "drop_last=True", "drop_last=False", "tail_batch", "~last of an epoch"),
    (
        "handin:gan/train.py",
        "disc(fake), disc(interp)",
        "disc(fake[:1]), disc(interp)",
        "tail_batch",
        "(real, fake)",
    ),
    ("handin:gan/train.py", "                sched_gen.step()\n", "", "schedule_steps", "(7, 0)"),
    ("handin:gan/train.py", "num_gen=50_000", "num_gen=10_000", "score_counts", "~50,000"),
    (
        "handin:gan/train.py",
        "samples = gen(100) / 2 + 0.5",
        "samples = gen(100)",
        "sample_range",
        "as they are",
    ),
    (
        "handin:gan/train.py",
        "+ 0.5\n                save_image(samples, ",
        "+ 0.5\n                save_image(range=(0, 1), tensor=samples, fp=",
        "sample_range",
        "!value_range",
    ),
    (
        "handin:gan/utils.py",
        "(gen.forward_given_samples(z) / 2 + 0.5) * 255",
        "gen.forward_given_samples(z)",
        "fid_images",
        "-0.5",
    ),
    ("handin:vae/utils.py", "2 * x - 1", "x", "preprocessing", "become"),
    (f"handin:{MODEL}", "x_t - (1 - share)", "x_t + (1 - share)", "prediction", "sign"),
    (f"handin:{MODEL}", "self.model(x_t, t)", "self.model(x_t)", "prediction", "not told"),
    (f"handin:{MODEL}", "noise, x_0.clamp(-1, 1)", "noise, x_0", "clamped", "[-1, 1]"),
    (
        f"handin:{MODEL}",
        "self.coef1, t, x_t.shape) * x_0",
        "self.coef2, t, x_t.shape) * x_0",
        "posterior",
        "coefficients",
    ),
    (f"handin:{MODEL}", "(0.5 * log_variance)", "log_variance", "ddpm_step", "deviation"),
    (
        f"handin:{MODEL}",
        "z = torch.randn_like(x) if t[0] > 0 else 0",
        "z, log_variance = torch.randn_like(x), log_variance.clamp(min=-8)",
        "ddpm_step",
        "no noise for t = 0",
    ),
    (
        f"handin:{MODEL}",
        "self.num_timesteps - 1, -1, -1",
        "self.num_timesteps - 1, 0, -1",
        "ddpm_times",
        "~ends at t = 1",
    ),
    (f"handin:{MODEL}", "sigma = eta * (", "sigma = (", "ddim_deterministic", "two results"),
    (
        f"handin:{MODEL}",
        "then.sqrt() * x_0 + direction",
        "x_0 + 0 * direction",
        "ddim_step",
        "every step",
    ),
    (f"handin:{MODEL}", "if tau_isub1 >= 0 else torch.ones(())", "", "ddim_last", "index -1"),
    (
        f"handin:{MODEL}",
        "        return (z + 1) / 2\n\n    def sample(",
        "        return z\n\n    def sample(",
        "sample_range",
        "-0.50",
    ),
    (f"handin:{INFERENCE}", "shape) * 255", "shape)", "fid_images", "0.25"),
]


# The same, written otherwise: right all the same.
STREAM = "torch.cuda.current_stream().wait_stream(torch.cuda.Stream(device='cuda'))"
MANNERS = [
    (f"handin:{MODEL}", "self.model(x_t, t)", "self.model(x=x_t, time=t)", "prediction"),
    (f"handin:{MODEL}", "self.model(x_t, t)", "self.model(x_t, time=t)", "sample_range"),
    (f"handin:{MODEL}", "torch.full((batch,), tau_i)", "tau_i.repeat(batch)", "ddim_step"),
    (f"handin:{MODEL}", "torch.full((batch,), tau_i)", "tau_i.expand(batch)", "ddim_last"),
    ("handin:gan/utils.py", "128).cuda()", "128).to(gen.device)", "interpolation_grid"),
    ("handin:gan/train.py", "scaler = ", f"{STREAM}\n    scaler = ", "iterations"),
]


@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: f"{manner[3]}-{manner[2][:20]}")
def test_other_manners_are_right(pool, tmp_path, manner):
    half, name = changed(tmp_path, *manner[:3]), manner[3]
    assert pool.run(f"{half.name}.{name}", half) == ("right", "")


def test_a_loss_that_makes_its_own_interpolates_from_fakes_with_gradients(pool, tmp_path):
    """These have gradients in its training loop, so the interpolates need not be told to."""
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    (folder / "q1_5.py").write_text(
        "import torch\n\n\ndef compute_generator_loss(discrim_fake):\n"
        "    return -discrim_fake.mean()\n\n\n"
        "def compute_discriminator_loss(real, fake, disc, discrim_real, discrim_fake, lamb):\n"
        "    mixed = 0.5 * real + 0.5 * fake\n"
        "    slope = torch.autograd.grad(disc(mixed).sum(), mixed, create_graph=True)[0]\n"
        "    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()\n"
        "    return discrim_fake.mean() - discrim_real.mean() + lamb * penalty\n"
    )
    for name in ("wgan", "penalty_norm"):
        assert pool.run(f"gan.{name}", folder)[0] == "right"


def test_what_follows_from_a_todo_is_not_there(pool, tmp_path):
    """A template's networks are None, which shows far from them."""
    half = changed(
        tmp_path, f"handin:{MODEL}", "noise = self.model(x_t, t)", "raise NotImplementedError"
    )
    assert pool.run("diffusion.clamped", half)[0] == "not there"
    vae = changed(
        tmp_path, "vae/model.py", "return self.deconvs(", "x = None\n        return x and ("
    )
    assert pool.run("vae.pictures", vae)[0] == "not there"


def changed(place, where, old, new):
    """A copy of a half, with `new` for `old` in a file of it."""
    source, _, file = where.rpartition(":")
    folder = place / file.partition("/")[0]
    ignore = shutil.ignore_patterns("__pycache__", "datasets", "data_*", "*.pt")
    shutil.copytree(HALVES[source or "ours"] / folder.name, folder, ignore=ignore)
    path = place / file
    text = path.read_text()
    assert old in text, f"{file} has no {old!r}"
    path.write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: f"{slip[3]}-{slip[4]}")
def test_a_slip_is_found_and_named(pool, tmp_path, slip):
    folder, (name, words) = changed(tmp_path, *slip[:3]), slip[3:]
    kinds = {"~": "differs", "!": "cannot run", "?": "not there"}
    expected = kinds.get(words[:1], "wrong")
    word, sentence = pool.run(f"{folder.name}.{name}", folder)
    assert (word, words.lstrip("~!?") in sentence) == (expected, True), (word, sentence)


def test_every_check_has_a_slip():
    tried = {f"{slip[0].rpartition(':')[2].partition('/')[0]}.{slip[3]}" for slip in SLIPS}
    assert {one.name for one in checks.CHECKS} - tried == set()


def test_a_handin_that_hangs_crashes_or_writes_costs_its_own_row(pool, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    utils = folder / "utils.py"
    for body, words in (
        ("while True: pass", "not done after 5 s"),
        ("import os; os._exit(7)", "exit code 7"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("bytearray(64 * 2**30)", "MemoryError"),
        ("import urllib.request; urllib.request.urlopen('http://localhost')", "no network"),
    ):
        utils.write_text(f"def interpolate_latent_space(gen, path):\n    {body}\n")
        word, sentence = pool.run("gan.interpolation_grid", folder, 5)
        assert word == "cannot run" and words in sentence, (body, sentence)
    before = sorted(folder.rglob("*"))
    utils.write_text((HANDIN / "gan" / "utils.py").read_text())
    assert pool.run("gan.sample_range", folder)[0] == "right"  # it writes data_check/
    assert [p for p in sorted(folder.rglob("*")) if p not in before] == []


def test_folders_without_a_handin(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    lost = ["--json", str(tmp_path / "nowhere" / "rows.json")]
    assert check.main(check.get_args([str(HANDIN), *lost])) == 2  # before a minute of work
    assert "no folder" in capsys.readouterr().err
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        assert check.main(check.get_args([str(folder)])) == 2
        error = capsys.readouterr().err
        assert error.startswith("check.py: error: ") and error.count("\n") == 1


def test_halves_are_found_at_any_depth_and_flat(tmp_path):
    shutil.copytree(HANDIN, tmp_path / "hw3" / "code")
    assert set(check.find_halves(tmp_path)) == {"gan", "vae", "diffusion"}
    flat = tmp_path / "flat"
    shutil.copytree(HANDIN / "gan", flat)
    assert check.find_halves(flat) == {"gan": flat}
