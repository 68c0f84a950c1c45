"""Whole runs: exact resuming, outputs, presets through the command line, wrong inputs."""

import csv
import json
import math
import os
import signal
from collections import OrderedDict

import numpy as np
import pytest
import readme
import torch
import train
import utils
from dataset import draw_shapes
from helpers import command, refused, same, start, stopped_after
from model import AEModel
from options import arguments_of, get_args
from PIL import Image
from presets import NEIGHBOURS, PRESETS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from common import Interrupted, NonFiniteError
from common.files import load_weights


def files(folder):
    return {path.name for path in folder.iterdir()} - {p.name for p in folder.glob("events.*")}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def own_loss(model, x, *, beta):
    recon = (model.decoder(model.encoder(x)[0]) - x).abs().sum((1, 2, 3)).mean()
    shift = model.encoder(x)[0].square().sum(1).mean()
    return recon + beta * shift, OrderedDict(recon_loss=recon, shift=shift)


KINDS = {
    "ae": ([], {"loss_mode": "ae"}),
    "linear": ([], {"beta_mode": "linear"}),
    "own loss": ([], {"loss_mode": own_loss}),
    "flows": (["--flows", 2], {}),
    "anneal": (["--beta_mode", "anneal", "--anneal_steps", 6], {"beta_mode": "anneal"}),
    "cyclical": (["--beta_mode", "cyclical", "--cycles", 2], {"beta_mode": "cyclical"}),
    "free bits": (["--free_bits", 0.5], {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_ends_bit_identical(kind, images, tmp_path, monkeypatch):
    """Within an epoch, at the last of its 4 steps, in the second epoch."""
    (argv, options), whole = KINDS[kind], tmp_path / "whole"
    expected = start(whole, images, *argv, **options)
    for steps in (2, 4, 7) if kind in ("ae", "linear") else (3,):
        parts = tmp_path / f"parts{steps}"
        stopped = stopped_after(monkeypatch, steps, start, parts, images, *argv, **options)
        assert stopped.exit_code == 143
        assert start(parts, images, *argv, "--resume", **options) == expected
        assert same(whole, parts) and files(whole) == files(parts)


def test_a_finished_run_goes_on_with_more_epochs(images, tmp_path):
    """And measuring never changes training; the films are of all epochs with pictures."""
    run, whole, often = (tmp_path / name for name in ("run", "whole", "often"))
    start(run, images, epochs=1)
    (run / "model_score.json").write_text("{}")  # of the model before
    old = (run / "state.pt").read_bytes()
    start(run, images, "--resume", epochs=3)
    (run / "state.pt").write_bytes(old)  # as if the later part had been killed before it saved
    longer = start(run, images, "--resume", run, epochs=3)
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [0, 1, 2]
    assert longer == start(whole, images, epochs=3) and not (run / "model_score.json").exists()
    start(often, images, "--save_minutes", 1e-9, eval_interval=1, epochs=3)
    assert same(run, whole, often)
    assert [Image.open(often / f"{kind}.gif").n_frames for kind in ("recons", "samples")] == [3, 3]


def test_a_longer_run_can_be_ended_where_it_was_stopped(images, tmp_path, monkeypatch):
    """After an epoch without pictures: they and the weights are those of a run of that length."""
    short, long = tmp_path / "short", tmp_path / "long"
    expected = start(short, images, epochs=3)
    # Four steps and a validation batch an epoch: the signal comes in the third's validation.
    stopped_after(monkeypatch, 15, start, long, images, epochs=9)
    assert not (long / "epoch_2_samples.png").exists()
    assert start(long, images, "--resume", epochs=3) == expected and same(short, long)
    for name in ("epoch_2_samples.png", "samples.gif"):
        assert (long / name).read_bytes() == (short / name).read_bytes()


def test_outputs(tmp_path, real_pictures):
    images = draw_shapes(72, torch.Generator().manual_seed(0)).split((32, 40))
    rows = start(tmp_path, images, "--overwrite")
    for name in ("loss", "recon_loss", "kl_loss"):
        assert Image.open(tmp_path / f"{name}_vs_epochs.png").size == (900, 600)
    for name, size in (("recons", (12 * 142 + 2, 6 * 142 + 2)), ("samples", (912, 912))):
        with Image.open(tmp_path / f"{name}.gif") as film:  # 36 and 49, whatever the batch size
            picture = Image.open(tmp_path / f"epoch_1_{name}.png")
            assert film.n_frames == 1 and film.size == picture.size == size
    model = AEModel(True, 4)
    model.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    # At the epochs with pictures, of all validation images.
    active = utils.count_active_latents(model, [(images[1], None)])
    assert [row.get("active_latents") for row in rows] == [None, active]
    config = config_of(tmp_path)
    assert config["latent_size"] == 4 and config["images"] == [32, 40]
    shown = EventAccumulator(str(tmp_path)).Reload().Tags()["images"]
    assert set(shown) == {"reconstructions", "samples"}


def test_the_committed_weights_draw_the_committed_samples(tmp_path, real_pictures):
    """From the seed that a run draws its samples with, one above its own."""
    model, folder = AEModel(True, 16), readme.ROOT / "report/runs/vae_latent16"
    load_weights(model, folder / "model.pt", "model.pt")
    torch.manual_seed(config_of(folder)["seed"] + 1)
    utils.vis_samples(model, tmp_path / "drawn.png")
    both = [Image.open(path) for path in (tmp_path / "drawn.png", folder / "epoch_19_samples.png")]
    drawn, expected = (np.asarray(image).astype(float) for image in both)
    assert np.abs(drawn - expected).mean() < 2  # of 255; another sample differs by 57


@pytest.mark.parametrize("loss_mode, own", [("vae", "kl_loss"), (own_loss, "shift")])
def test_every_term_has_columns_and_curves(loss_mode, own, images, tmp_path, plots):
    rows = start(tmp_path / "run", images, loss_mode=loss_mode)
    for term in ("loss", "recon_loss", own):
        epochs, curves = plots[f"{term}_vs_epochs"]
        expected = [[row[f"{part}_{term}"] for row in rows] for part in ("train", "val")]
        assert epochs == [0, 1] and [*curves.values()] == expected
        assert [label[:5] for label in curves] == ["train", "valid"]
    header = (tmp_path / "run/metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"train_{own}", f"val_{own}"} < {*header} and header[-1] == "seconds"


def test_what_is_asked_for_is_what_trains(images, tmp_path):
    """Rate, clipping and width, not only in config.json; and training learns."""
    base = start(tmp_path / "base", images, epochs=1)
    for change in ({"lr": 0.01}, {"grad_clip": 1e-3}, {"grad_clip": 0}, {"base_channels": 8}):
        rows = start(tmp_path / str(change), images, epochs=1, **change)
        assert rows[0]["train_loss"] != base[0]["train_loss"], change
    both = [start(tmp_path / f"{n}", images, epochs=1, grad_clip=n) for n in (None, 0)]
    assert both[0] == both[1]
    rows = start(tmp_path / "run", images, epochs=8, loss_mode="ae")
    assert rows[-1]["train_recon_loss"] < 0.95 * rows[0]["train_recon_loss"]
    assert not (tmp_path / "run" / "kl_loss_vs_epochs.png").exists()


def test_a_validation_loss_that_is_not_finite_ends_the_run(images, tmp_path, monkeypatch):
    validate, infinity = train.get_val_metrics, {"loss": float("inf")}
    monkeypatch.setattr(train, "get_val_metrics", lambda *a, **k: validate(*a, **k) | infinity)
    with pytest.raises(NonFiniteError, match="validation.*the last good state is"):
        start(tmp_path / "run", images)


# Refusals: nothing is touched
REFUSED = [
    ([], {}, "--resume, or give --overwrite or another folder"),
    (["--resume"], {"latent_size": 5}, "latent_size was 4 .*, now 5"),
    (["--resume"], {"loss_mode": own_loss}, "loss_mode was 'vae' .*, now 'test_run.own_loss'"),
    (["--resume", "--free_bits", 0.5], {}, "free_bits was 0.0"),
    (["--resume", "--flows", 2], {}, "flows was 0"),
    (["--overwrite"], {"loss_mode": "vea"}, "got 'vea', expected one of ae, vae"),
    (["--overwrite", "--lr", 0.1], {}, "--lr: the command line says 0.1"),
]


def test_refused_runs_touch_nothing(images, tmp_path):
    start(tmp_path / "run", images, epochs=1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for argv, options, message in REFUSED:
        refused(message, start, tmp_path / "run", images, *argv, **options)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_images_that_cannot_be_used(images, tmp_path):
    floats = images[0] / 255
    for given in (images[0], (floats, images[1]), (images[0], floats)):
        refused("images: .*expected", start, tmp_path / "run", given)
    assert not (tmp_path / "run").exists()


def test_a_start_that_was_killed_before_its_first_state(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(train.Run, "save", None)
        start(tmp_path / "run", images)
    assert (tmp_path / "run/config.json").exists()  # and is no obstacle
    assert len(start(tmp_path / "run", images)) == 2


# Losses, schedules and models of one's own
@pytest.mark.parametrize("kind", ["by epoch", "by step", "anneal"])
def test_the_schedule_is_read_before_every_step(kind, images, tmp_path, monkeypatch):
    """By the epoch, or by the run's step, right after a resume within an epoch too."""
    schedule = lambda epoch: (lambda step: step / 16) if kind == "by step" else 0.5 * epoch
    anneal = ["--beta_mode", "anneal", "--anneal_steps", 16] if kind == "anneal" else []
    options = {"beta_mode": "anneal" if anneal else schedule}
    seen, run = [], train.vae_loss
    monkeypatch.setattr(train, "vae_loss", lambda m, x, b: seen.append(b) or run(m, x, b))
    # In the second epoch, after its first step.
    stopped_after(monkeypatch, 6, start, tmp_path / "run", images, *anneal, **options)
    rows = start(tmp_path / "run", images, *anneal, "--resume", **options)
    steps = [0] * 4 + [0.5] * 4 if kind == "by epoch" else [n / 16 for n in range(8)]
    # 1.0 at a trial, 1 at validation
    assert [beta for beta in seen if beta != 1] == steps
    assert [row["beta"] for row in rows] == [steps[3], steps[7]]


def test_a_model_of_ones_own(images, tmp_path):
    flat = nn.Module()
    flat.latent_size = 6
    flat.encoder = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))
    flat.decoder = nn.Sequential(nn.Linear(6, 3072), nn.Unflatten(1, (3, 32, 32)))
    rows = start(tmp_path / "run", images, model=flat, loss_mode="ae", lr=1e-4)
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert (tmp_path / "run/epoch_1_samples.png").exists()


def own(**attributes):
    """A model with these attributes."""
    return type("Own", (nn.Linear,), attributes)(1, 1)


# Its encoder gives mean and log_std in one tensor, which its own loss takes apart.
JOINED = {"latent_size": 4, "encoder": lambda self, x: x.flatten(1)[:, :8]}
JOINED["decoder"] = lambda self, z: self.weight.expand(3, 3, 32, 32) + z.reshape(3, 4).sum()
APART = lambda m, x: (m.decoder(m.encoder(x)[:, :4]).mean(), {})
SLIPS = [
    ({"loss_mode": lambda model, x: x.mean()}, r"test_run.*returned Tensor; expected \(loss, Ord"),
    ({"loss_mode": lambda m, x: (m.decoder(m.encoder(x)[0]), {})}, r"the loss is \(3, 3, 32, 32"),
    ({"loss_mode": lambda m, x: (m.encoder(x)[0].sum(), {"a": 1.0})}, "a is 1.0"),
    ({"loss_mode": lambda m, x: (m.encoder(x)[0].sum().detach(), {})}, "without a gradient"),
    ({"loss_mode": lambda m, x: m.encodr(x)}, "test_run.*raised AttributeError: .*encodr"),
    ({"beta_mode": lambda epoch: -1}, "returned -1 for epoch 0"),
    ({"beta_mode": lambda epoch: None if epoch == 1 else 0.5}, "returned None for epoch 1"),
    ({"beta_mode": lambda e: lambda step: None if step == 7 else 0.5}, "returned None for epoch 1"),
    ({"beta_mode": lambda epoch: [0.0][epoch]}, "raised IndexError"),
    ({"beta_mode": lambda epoch: lambda step: "x"}, "returned 'x'"),
    ({"beta_mode": "cyclical", "epochs": 1}, "--cycles: got 4, expected at most half"),
    ({"model": own(latent_size=None)}, "Own.latent_size is None"),
    ({"model": own(latent_size=4, encoder=None)}, "Own has no decoder"),
    ({"model": own(latent_size=4, encoder=None, decoder=nn.Linear.forward)}, "decoder raised"),
    ({"model": own(**JOINED), "loss_mode": APART}, "Own raised RuntimeError: shape"),
    ({"loss_mode": lambda m, x: (m.encoder(x)[0].sum(), {1: x.sum()})}, "a term is called 1"),
]
NUMBERS = {"latent_size": 2.5, "batch_size": None, "epochs": 0, "lr": 0, "target_beta_val": -1}
SLIPS += [({name: bad}, "expected") for name, bad in (NUMBERS | {"grad_clip": -1}).items()]


@pytest.mark.parametrize("given, message", SLIPS)
def test_slips_in_ones_own(given, message, images, tmp_path):
    refused(message, start, tmp_path / "run", images, **{"epochs": 3} | given)
    refused("log_dir is empty", start, "", images)
    assert not (tmp_path / "run").exists()


# The command line
@pytest.fixture
def place(monkeypatch, small, tmp_path):
    """Options of a place with two presets."""
    two = {name: PRESETS[name] for name in ("ae_latent16", "vae_latent16")}
    monkeypatch.setattr("options.PRESETS", two)
    return ["--out_dir", tmp_path]


OPTIONS = ["--dataset", "synthetic", "--batch_size", "20", "--num_epochs"]


def test_all_presets_one_after_the_other_and_only_once(place, tmp_path, capsys, monkeypatch):
    """Finished runs need no data, and a damaged state is replaced."""
    told = lambda *argv: command(*argv, *place) or capsys.readouterr().out
    first = told("all", *OPTIONS, "1", "--disable_amp")
    assert "Computing on the CPU, " in first and "in float32" in first
    for name in ("ae_latent16_synthetic", "vae_latent16_synthetic"):
        assert f"{name}: validation at epoch 0: loss " in first
        assert (tmp_path / name / "model.pt").exists()
    with monkeypatch.context() as patch:
        patch.setattr("utils.open_data", lambda *args: pytest.fail("data were opened"))
        assert told("all", *OPTIONS, "1", "--disable_amp").count("finished already") == 2
        assert "finished already" in told("ae_latent16", *OPTIONS, "1", "--resume")
    assert told("all", *OPTIONS, "2", "--disable_amp").count("validation at epoch 1") == 2
    (tmp_path / "vae_latent16_synthetic/state.pt").write_bytes(b"damaged")
    assert "validation at epoch 0" in told("vae_latent16", *OPTIONS, "1", "--overwrite")


def test_a_preset_goes_on_with_what_it_recorded(place, tmp_path, monkeypatch, capsys):
    """One word: the data, the seed, the length and the number format are the run's."""
    argv = ["vae_latent16", *OPTIONS, "2", "--seed", "3", "--disable_amp", *place]
    stopped = stopped_after(monkeypatch, 2, command, *argv)
    assert str(stopped).endswith(f" --out_dir {tmp_path} --resume vae_latent16_synthetic")
    command(*place, "--resume", "vae_latent16_synthetic")
    config = config_of(tmp_path / "vae_latent16_synthetic")
    assert (config["seed"], config["num_epochs"], config["number_format"]) == (3, 2, "float32")
    assert "validation at epoch 1" in capsys.readouterr().out
    again = ["--dataset", "synthetic", "--resume", "--num_epochs", "3"]
    refused("seed was 3", command, "vae_latent16", *place, *again, "--seed", "4")
    command("--resume", "vae_latent16", *place, "--dataset", "synthetic", "--num_epochs", "3")
    assert "validation at epoch 2" in capsys.readouterr().out
    command("--log_dir", "mine", *OPTIONS, "1", *place)
    refused("unfinished: none", command, "--resume", *place)


def test_a_signal_during_validation_stops_all(place, tmp_path, monkeypatch, capsys):
    validate, stop = train.get_val_metrics, lambda: os.kill(os.getpid(), signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(train, "get_val_metrics", lambda *a, **k: stop() or validate(*a, **k))
        command("all", *OPTIONS, "2", *place)
    assert not (tmp_path / "vae_latent16_synthetic").exists()
    refused("of which run; .* unfinished: ae_latent16_synthetic", command, "--resume", *place)
    command("all", *OPTIONS, "2", *place, "--resume")
    assert capsys.readouterr().out.count("validation at epoch 1") == 2


def test_a_signal_in_the_last_validation_is_no_interruption(images, place, tmp_path, monkeypatch):
    """All is done and saved: no other run begins, which the words that were typed would do."""
    stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
    finish = lambda folder, pattern, path, seconds: "samples" in pattern and stop()
    monkeypatch.setattr("logger.save_film", finish)
    assert len(start(tmp_path / "run", images, epochs=1)) == 1
    monkeypatch.chdir(tmp_path)
    words = f"--disable_amp --dataset synthetic --out_dir {tmp_path}/here all --resume"
    with pytest.raises(Interrupted, match=f"SIGTERM before .*; go on with: .* {words}$") as stopped:
        command("all", *OPTIONS, "1", "--disable_amp", "--overwrite", "--out_dir", "here")
    models = [path.parent.name for path in tmp_path.glob("here/*/model.pt")]
    assert stopped.value.exit_code == 143 and models == ["ae_latent16_synthetic"]


def test_refusals_come_before_the_first_run(place, tmp_path):
    command("vae_latent16", *OPTIONS, "1", *place)
    refused("seed was 0", command, "all", *OPTIONS, "2", "--seed", "5", *place)
    refused("holds a run", command, "ae_latent16", "vae_latent16", *OPTIONS, "3", *place)
    assert not (tmp_path / "ae_latent16_synthetic").exists()


def test_neighbours_by_name(tmp_path, small, monkeypatch, capsys):
    annealed, options = arguments_of("vae_latent128_anneal", get_args("", ["vae_latent128_anneal"]))
    assert annealed["num_epochs"] * math.ceil(50_000 / annealed["batch_size"]) == 15_640
    assert options.anneal_steps == 10_000  # it rises for most of its steps
    monkeypatch.setattr("options.PRESETS", {"ae_latent16": PRESETS["ae_latent16"]})
    short = ["--dataset", "synthetic", "--num_epochs", 1, "--batch_size", 3]
    command("all", *NEIGHBOURS, *short, "--out_dir", tmp_path)
    assert capsys.readouterr().out.count("validation at epoch 0") == 1 + len(NEIGHBOURS)
    found = {name: config_of(tmp_path / f"{name}_synthetic") for name in NEIGHBOURS}
    assert found["vae_latent128_anneal"]["beta_mode"] == "anneal"
    assert found["vae_latent128_free_bits0.5"]["free_bits"] == 0.5
    assert found["ae_small"]["network"] == "small"
    assert found["vae_latent128_cyclical"]["beta_mode"] == "cyclical"
    planar = tmp_path / "vae_latent128_planar4_synthetic/model.pt"
    assert "flows.3.u" in torch.load(planar, weights_only=True)


# vae/train.py --evaluate: the committed number again, from the weights alone
def trained(folder, options):
    size = "--log_dir run --latent_size 4 --batch_size 5 --num_epochs 2 --seed 3"
    command(*f"{size} --dataset synthetic {options} --out_dir".split(), folder)
    return folder / "run_synthetic"


MEASURED = ["--loss_mode ae", "--disable_amp", "--flows 2", "--free_bits 0.5", "--beta_mode linear"]


@pytest.mark.parametrize("options", MEASURED)
def test_the_last_row_is_measured_again(options, small, tmp_path, capsys):
    """With the run's own data, batch size, model and format, none of which the options repeat."""
    folder = trained(tmp_path, options)
    *_, row = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    capsys.readouterr()
    for given in (folder, folder / "model.pt"):
        command("--evaluate", given)
        score = json.loads((folder / "model_score.json").read_text())
        assert f"recon loss {score['val_recon_loss']:.2f}" in capsys.readouterr().out
        for name in ("val_loss", "val_recon_loss", "val_kl_loss"):
            assert score.get(name) == (float(row[name]) if row[name] else None)
    recorded = json.loads((folder / "config.json").read_text())["number_format"]
    assert score["images"] == 10 and score["number_format"] == recorded
    assert recorded == "float32" or "--disable_amp" not in options
    for kind in ("recons", "samples"):
        picture = (folder / f"model_{kind}.png").read_bytes()
        assert picture == (folder / f"epoch_1_{kind}.png").read_bytes()


def test_samples_for_a_score_go_where_they_are_told(small, tmp_path):
    """Of an autoencoder too, from N(0, I), which it was not trained for."""
    folder, out = trained(tmp_path, "--loss_mode ae"), tmp_path / "new/place"
    before = sorted(folder.iterdir())  # a folder of results, or of a class, may be read-only
    how = ["--evaluate", folder, "--num_samples", 7, "--out_dir", out]
    command(*how)
    names = ["model_recons.png", "model_samples.png", "model_score.json", "samples"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(folder.iterdir()) == before
    pictures = [path.read_bytes() for path in (out / "samples").iterdir()]
    assert len(pictures) == len(set(pictures)) == 7
    refused("--num_samples: .*samples exists; give --overwrite", command, *how)
    command(*how[:-3], 3, *how[-2:], "--overwrite")
    assert len([*(out / "samples").iterdir()]) == 3


NOT_MEASURED = {
    "a preset": (["vae_latent16"], {}, "trains nothing; leave vae_latent16 out"),
    "a folder that is gone": ([], {"dataset": "cifar10", "data_dir": "gone"}, "gone, .* give"),
    "other pixels": ([], {"data": "0123456789ab"}, "was trained on other pixels"),
    "no data named": ([], {"dataset": ...}, "does not name its data; give --data_dir"),
    "a loss of its own": ([], {"loss_mode": "mine.own"}, "has a loss of its own .mine.own.; call"),
    "another program's": ([], {"loss_mode": ...}, "is not that of a run of train.py"),
    "a file for the results": (["--out_dir", __file__], {}, "test_run.py cannot be written"),
    "another model": ([], {"latent_size": 5}, "does not hold the weights of AEModel"),
    "a setting out of bounds": ([], {"latent_size": 0}, "--latent_size: got 0, expected"),
    "no samples to replace": (["--overwrite"], {}, "trains nothing; leave --overwrite out"),
}


@pytest.mark.parametrize("options, changes, message", NOT_MEASURED.values(), ids=NOT_MEASURED)
def test_evaluations_that_are_refused(options, changes, message, small, tmp_path):
    config = {"loss_mode": "vae", "latent_size": 4, "dataset": "synthetic", "data": None} | changes
    config = {name: value for name, value in config.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(AEModel(True, 4).state_dict(), tmp_path / "model.pt")
    before = sorted(tmp_path.iterdir())
    refused(message, command, "--evaluate", tmp_path, *options)
    assert sorted(tmp_path.iterdir()) == before
