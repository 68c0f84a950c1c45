"""Whole runs: exact resuming, outputs, presets through the command line, wrong inputs."""

import csv
import json
import os
import shutil
import signal
from collections import OrderedDict
from pathlib import Path

import presets
import pytest
import torch
import train
import utils
from dataset import draw_shapes
from helpers import command, same, start, stopped_after, weights
from logger import LAYOUT
from model import AEModel
from options import get_args
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from common import InputError, Interrupted, NonFiniteError
from common.run import Run


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
    """And measuring never changes training."""
    start(tmp_path / "run", images, epochs=1)
    longer = start(tmp_path / "run", images, "--resume", tmp_path / "run", epochs=3)
    assert longer == start(tmp_path / "whole", images, epochs=3)
    start(tmp_path / "often", images, "--save_minutes", 1e-9, eval_interval=1, epochs=3)
    assert same(tmp_path / "run", tmp_path / "whole") and same(tmp_path / "run", tmp_path / "often")


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


def test_a_film_of_the_epochs_with_pictures(images, tmp_path):
    start(tmp_path, images, "--overwrite", epochs=3, eval_interval=1)
    for name in ("recons", "samples"):
        with Image.open(tmp_path / f"{name}.gif") as film:
            assert film.n_frames == 3
    (tmp_path / "model_score.json").write_text("{}")  # of the model before
    start(tmp_path, images, "--resume", epochs=4, eval_interval=1)
    assert not (tmp_path / "model_score.json").exists()


def test_samples_are_of_the_same_latents_at_every_epoch(images, tmp_path, monkeypatch):
    seeds = []
    keep = lambda *args: seeds.append(torch.initial_seed()) or torch.zeros(3, 8, 8)
    monkeypatch.setattr(train, "vis_samples", keep)
    start(tmp_path, images, "--overwrite", "--seed", 6, eval_interval=1)
    assert seeds == [7, 7]


def test_outputs(tmp_path, real_pictures):
    images = draw_shapes(72, torch.Generator().manual_seed(0)).split((32, 40))
    rows = start(tmp_path, images, "--overwrite")
    for name in ("loss", "recon_loss", "kl_loss"):
        assert Image.open(tmp_path / f"{name}_vs_epochs.png").size == (900, 600)
    for name, size in (("recons", (12 * 142 + 2, 6 * 142 + 2)), ("samples", (912, 912))):
        with Image.open(tmp_path / f"{name}.gif") as film:  # 36 and 49, whatever the batch size
            picture = Image.open(tmp_path / f"epoch_1_{name}.png")
            assert film.n_frames == 1 and film.size == picture.size == size
    with open(tmp_path / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["0", "1"]
    for row, stored in zip(rows, table):
        assert float(stored["val_recon_loss"]) == row["val_recon_loss"]
        whole = row["val_recon_loss"] + row["val_kl_loss"]
        assert row["val_loss"] == pytest.approx(whole, rel=1e-6)
    model = AEModel(True, 4)
    model.load_state_dict(weights(tmp_path))
    # At the epochs with pictures, of all validation images.
    active = utils.count_active_latents(model, [(images[1], None)])
    assert [row.get("active_latents") for row in rows] == [None, active]
    config = config_of(tmp_path)
    assert config["latent_size"] == 4 and config["images"] == [32, 40]
    assert config["versions"]["torch"] == torch.__version__
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert {"val_recon_loss", "train_kl_loss", "beta"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"reconstructions", "samples"}


def test_curves_are_the_rows(images, tmp_path, plots):
    rows = start(tmp_path / "run", images)
    for term in ("loss", "recon_loss", "kl_loss"):
        epochs, curves = plots[f"{term}_vs_epochs"]
        assert epochs == [0, 1] and len(curves) == 2
        for part in ("train", "val"):
            (values,) = (v for label, v in curves.items() if label.startswith(part))
            assert values == [row[f"{part}_{term}"] for row in rows]


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


def test_a_non_finite_loss_stops_with_terms_and_state(images, tmp_path, monkeypatch):
    validate, count = train.get_val_metrics, iter(range(10))

    def poison(model, *rest, **options):
        if next(count) == 1:
            nn.init.constant_(model.decoder.fc.bias, float("nan"))
        return validate(model, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "get_val_metrics", poison)
        with pytest.raises(NonFiniteError, match="weight.*state.pt") as error:
            start(tmp_path / "run", images, epochs=4)
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert error.value.exit_code == 3 and state["step"] == 1
    assert torch.isfinite(state["parts"]["model"]["decoder.fc.bias"]).all()
    infinite = lambda *a, **k: validate(*a, **k) | {"loss": float("inf")}
    monkeypatch.setattr(train, "get_val_metrics", infinite)
    with pytest.raises(NonFiniteError, match="validation"):
        start(tmp_path / "other", images)


# ------------------------------------------------------------------------------------------------
# Refusals: nothing is touched


@pytest.fixture(scope="module")
def ended(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended") / "run"
    start(folder, images, epochs=1)
    return folder


@pytest.mark.parametrize(
    "argv, options, message",
    [
        ([], {}, "--resume, or give --overwrite or another folder"),
        (["--resume"], {"latent_size": 5}, "latent_size was 4 .*, now 5"),
        (["--resume"], {"loss_mode": "ae"}, "loss_mode was 'vae' .*, now 'ae'"),
        (["--resume"], {"loss_mode": own_loss}, "loss_mode was 'vae' .*, now 'test_run.own_loss'"),
        (["--resume"], {"target_beta_val": 2}, "target_beta_val was 1.0 .*, now 2.0"),
        (["--resume"], {"grad_clip": 2}, "grad_clip was 1.0"),
        (["--resume", "--free_bits", 0.5], {}, "free_bits was 0.0"),
        (["--resume", "--flows", 2], {}, "flows was 0"),
        (["--resume"], {"epochs": 0}, "--num_epochs: got 0"),
        (["--overwrite"], {"loss_mode": "vea"}, "got 'vea', expected one of ae, vae"),
        (["--overwrite", "--lr", 0.1], {}, "--lr: the command line says 0.1"),
    ],
)
def test_refused_runs_touch_nothing(ended, images, tmp_path, argv, options, message):
    folder = Path(shutil.copytree(ended, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=message):
        start(folder, images, *argv, **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_unusable_states_are_refused(ended, images, tmp_path):
    folder = Path(shutil.copytree(ended, tmp_path / "run"))
    for damaged in ((folder / "state.pt").read_bytes()[:5000], b"hello"):
        (folder / "state.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="--resume"):
            start(folder, images, "--resume")


CYCLES = {"argv": ["--beta_mode", "cyclical", "--cycles", 5], "beta_mode": "cyclical"}
NUMBERS = [*({"latent_size": value} for value in (0, 2.5, True)), {"batch_size": 0}, {"epochs": 0}]
NUMBERS += [{"latent_size": 4.0}, {"batch_size": None}, {"lr": None}]
NUMBERS += [{"lr": 0}, {"lr": float("nan")}, {"target_beta_val": -1}, {"grad_clip": -1}, CYCLES]


@pytest.mark.parametrize("options", NUMBERS)
def test_numbers_that_make_no_sense_are_refused(options, images, tmp_path):
    options = dict(options)
    with pytest.raises(InputError, match="expected"):
        start(tmp_path / "run", images, *options.pop("argv", ()), **options)
    assert not (tmp_path / "run").exists()


FLOATS = torch.rand(32, 3, 32, 32)
OTHER_IMAGES = [FLOATS, FLOATS[:, 0].byte(), FLOATS.movedim(1, 3).byte(), FLOATS.byte().numpy()]


@pytest.mark.parametrize("wrong", [*OTHER_IMAGES, FLOATS[:0].byte()])
def test_images_that_cannot_be_used(images, tmp_path, wrong):
    with pytest.raises(InputError, match="images: expected two tensors"):
        start(tmp_path / "run", images[0])
    for parts in ((wrong, images[1]), (images[0], wrong)):
        with pytest.raises(InputError, match="images: got .*expected"):
            start(tmp_path / "run", parts)
    assert not (tmp_path / "run").exists()


def test_a_start_that_was_killed_before_its_first_state_is_no_obstacle(
    images, tmp_path, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train.Run, "save", killed)
        start(tmp_path / "run", images)
    assert (tmp_path / "run/metrics.csv").exists()
    with Run(tmp_path / "run", LAYOUT):  # at work
        for how in ([], ["--overwrite"], ["--resume"]):
            with pytest.raises(InputError, match="another run is at work in|no file"):
                start(tmp_path / "run", images, *how)
    assert len(start(tmp_path / "run", images)) == 2


# ------------------------------------------------------------------------------------------------
# Losses, schedules and models of one's own


def test_a_loss_of_ones_own_has_columns_tags_and_plots(images, tmp_path, plots):
    rows = start(tmp_path / "run", images, loss_mode=own_loss)
    assert {"train_shift", "val_shift", "train_recon_loss"} <= rows[0].keys()
    assert plots["shift_vs_epochs"][1]["training"] == [row["train_shift"] for row in rows]
    header = (tmp_path / "run/metrics.csv").read_text().splitlines()[0].split(",")
    assert header[-3:] == ["train_shift", "val_shift", "seconds"]


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
    class Flat(nn.Module):
        latent_size = 6

        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))
            self.decoder = nn.Sequential(nn.Linear(6, 3072), nn.Unflatten(1, (3, 32, 32)))

    rows = start(tmp_path / "run", images, model=Flat(), loss_mode="ae", lr=1e-4)
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert (tmp_path / "run/epoch_1_samples.png").exists()


def sized(size):
    model = AEModel(True, 4)
    model.latent_size = size
    return model


def without(name):
    model = AEModel(False, 4)
    delattr(model, name)
    return model


def joined():
    """Its encoder gives mean and log_std in one tensor, which its own loss takes apart."""
    model = AEModel(False, 4)
    model.encoder.fc = nn.Linear(4096, 8)
    model.loss = lambda x: (model.decoder(model.encoder(x)[:, :4]).mean(), {})
    return model


SLIPS = [
    ({"loss_mode": lambda model, x: x.mean()}, r"test_run.*returned Tensor; expected \(loss, Ord"),
    ({"loss_mode": lambda m, x: (m.decoder(m.encoder(x)[0]), {})}, r"the loss is \(3, 3, 32, 32"),
    ({"loss_mode": lambda m, x: (m.encoder(x)[0].sum(), {"a": 1.0})}, "a is 1.0"),
    ({"loss_mode": lambda m, x: (m.encoder(x)[0].sum().detach(), {})}, "without a gradient"),
    ({"loss_mode": lambda m, x: m.encodr(x)}, "test_run.*raised AttributeError: .*encodr"),
    ({"beta_mode": lambda epoch: None}, "returned None for epoch 0"),
    ({"beta_mode": lambda epoch: -1}, "returned -1 for epoch 0"),
    ({"beta_mode": lambda epoch: None if epoch == 1 else 0.5}, "returned None for epoch 1"),
    ({"beta_mode": lambda e: lambda step: None if step == 7 else 0.5}, "returned None for epoch 1"),
    ({"beta_mode": lambda epoch: [0.0][epoch]}, "raised IndexError"),
    ({"beta_mode": lambda epoch: lambda step: "x"}, "returned 'x'"),
    ({"beta_mode": lambda: 1}, "raised TypeError"),
    ({"model": sized(None)}, "latent_size is None"),
    ({"model": without("encoder")}, "AEModel has no encoder"),
    ({"model": without("decoder")}, "AEModel has no decoder"),
    ({"model": joined(), "loss_mode": lambda m, x: m.loss(x)}, "AEModel raised RuntimeError: mat1"),
    ({"loss_mode": lambda m, x: (m.encoder(x)[0].sum(), {1: x.sum()})}, "a term is called 1"),
    ({"model": sized(5)}, "decoder raised"),
]


@pytest.mark.parametrize("own, message", SLIPS, ids=[message for _, message in SLIPS])
def test_slips_in_ones_own(own, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", images, epochs=3, **own)
    with pytest.raises(InputError, match="log_dir is empty"):
        start("", images)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------
# The command line


@pytest.fixture
def place(monkeypatch, small, tmp_path):
    """Options of a place with two presets."""
    two = {name: presets.PRESETS[name] for name in ("ae_latent16", "vae_latent16")}
    monkeypatch.setattr("options.PRESETS", two)
    return ["--out_dir", tmp_path]


OPTIONS = ["--dataset", "synthetic", "--batch_size", "20", "--num_epochs"]


def test_all_presets_one_after_the_other_and_only_once(place, tmp_path, capsys):
    def told(*argv):
        command(*argv, *place)
        return capsys.readouterr().out

    first = told("all", *OPTIONS, "1", "--disable_amp")
    assert "Computing on the CPU, " in first and "in float32" in first
    for name in ("ae_latent16_synthetic", "vae_latent16_synthetic"):
        assert f"{name}: validation at epoch 0: loss " in first
        assert (tmp_path / name / "model.pt").exists()
    assert told("all", *OPTIONS, "1", "--disable_amp").count("finished already") == 2
    assert told("all", *OPTIONS, "2", "--disable_amp").count("validation at epoch 1") == 2
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
    with pytest.raises(InputError, match="seed was 3"):
        command("vae_latent16", *place, *again, "--seed", "4")
    command("--resume", "vae_latent16", *place, "--dataset", "synthetic", "--num_epochs", "3")
    assert "validation at epoch 2" in capsys.readouterr().out
    command("--log_dir", "mine", *OPTIONS, "1", *place)
    with pytest.raises(SystemExit):
        command("--resume", *place)
    assert "unfinished: none" in capsys.readouterr().err


def test_a_script_of_ones_own_goes_on_with_the_words_it_was_started_with(monkeypatch, tmp_path):
    """Its call names run and settings, so that nothing recorded can stand in for them."""
    words = ["--num_epochs", "2", "--lr", "0.002", "--disable_amp", "--out_dir", "here"]
    monkeypatch.setattr("sys.argv", ["mine.py", *words, "--overwrite"])
    monkeypatch.chdir(tmp_path)
    again = get_args().again
    assert again.endswith(f"mine.py {' '.join(words)} --resume".replace("here", f"{tmp_path}/here"))


def test_a_signal_during_validation_stops_all(place, tmp_path, monkeypatch, capsys):
    validate = train.get_val_metrics

    def validate_and_signal(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "get_val_metrics", validate_and_signal)
        stopped_after(monkeypatch, 999, command, "all", *OPTIONS, "2", *place)
    assert not (tmp_path / "vae_latent16_synthetic").exists()
    with pytest.raises(SystemExit):
        command("--resume", *place)
    assert "unfinished: ae_latent16_synthetic" in capsys.readouterr().err
    command("all", *OPTIONS, "2", *place, "--resume")
    assert capsys.readouterr().out.count("validation at epoch 1") == 2


def test_a_signal_in_the_last_validation_is_no_interruption(images, place, tmp_path, monkeypatch):
    """All is done and saved: there is nothing to go on with, and no other run begins."""
    finish = lambda run: os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(train, "save_films", finish)
    assert len(start(tmp_path / "run", images, epochs=1)) == 1
    with pytest.raises(Interrupted, match="SIGTERM before .*; go on.* vae_latent16$") as stopped:
        command("all", *OPTIONS, "1", *place)
    assert stopped.value.exit_code == 143 and (tmp_path / "ae_latent16_synthetic/model.pt").exists()
    assert not (tmp_path / "vae_latent16_synthetic").exists()


def test_refusals_come_before_the_first_run(place, tmp_path):
    command("vae_latent16", *OPTIONS, "1", *place)
    with pytest.raises(InputError, match="seed was 0"):
        command("all", *OPTIONS, "2", "--seed", "5", *place)
    with pytest.raises(InputError, match="holds a run"):  # unfinished, and not asked to go on
        command("ae_latent16", "vae_latent16", *OPTIONS, "3", *place)
    assert not (tmp_path / "ae_latent16_synthetic").exists()
    own = ["--log_dir", "a", *OPTIONS, "1", *place]
    command(*own, "--latent_size", "4")
    with pytest.raises(InputError, match="latent_size was 4"):  # a finished run is not another one
        command(*own, "--latent_size", "5", "--resume")


def test_finished_runs_need_no_data_and_a_damaged_state_is_replaced(
    place, tmp_path, capsys, monkeypatch
):
    argv = ["ae_latent16", *OPTIONS, "1", *place]
    command(*argv)
    with monkeypatch.context() as patch:
        patch.setattr("utils.open_data", lambda *args: pytest.fail("data were opened"))
        command(*argv, "--resume")
    assert "finished already" in capsys.readouterr().out
    (tmp_path / "ae_latent16_synthetic/state.pt").write_bytes(b"damaged")
    command(*argv, "--overwrite")
    assert "validation at epoch 0" in capsys.readouterr().out
