"""Whole runs: exact resuming, outputs, presets through the command line, wrong inputs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import dataset
import pytest
import settings
import torch
import train
from dataset import draw_shapes
from helpers import assert_refused, command, interrupt_after, same, start, weights
from model import AEModel
from PIL import Image

from common import InputError, Interrupted, NonFiniteError


@pytest.fixture(scope="module")
def images():
    return draw_shapes(40, torch.Generator().manual_seed(0)).split((32, 8))


def files(folder):
    return {path.name for path in folder.iterdir()} - {p.name for p in folder.glob("events.*")}


@pytest.mark.parametrize("loss_mode, beta_mode", [("ae", "constant"), ("vae", "linear")])
@pytest.mark.parametrize(
    "steps", [2, 4, 7]
)  # within an epoch, at the last of its 4 steps, in the second epoch
def test_a_stopped_run_ends_bit_identical(
    loss_mode, beta_mode, steps, images, tmp_path, monkeypatch
):
    options = {"loss_mode": loss_mode, "beta_mode": beta_mode}
    expected = start(tmp_path / "whole", images, **options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, steps)
        with pytest.raises(Interrupted) as stopped:
            start(tmp_path / "parts", images, **options)
    assert stopped.value.exit_code == 143
    assert start(tmp_path / "parts", images, resume=True, **options) == expected
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_a_finished_run_goes_on_with_more_epochs(images, tmp_path):
    start(tmp_path / "run", images, epochs=1)
    longer = start(tmp_path / "run", images, epochs=3, resume=True)
    assert longer == start(tmp_path / "whole", images, epochs=3)
    assert same(tmp_path / "run", tmp_path / "whole")


def test_measuring_never_changes_training(images, tmp_path):
    start(tmp_path / "a", images, eval_interval=100)
    start(tmp_path / "b", images, eval_interval=1, save_minutes=1e-9)
    assert same(tmp_path / "a", tmp_path / "b")


def picture(folder, kind):
    return folder / f"epoch_1_{kind}.png"


def test_a_longer_run_can_be_ended_where_it_was_stopped(images, tmp_path, monkeypatch):
    """After an epoch without pictures: they and the weights are those of a run of that length."""
    expected = start(tmp_path / "short", images, epochs=3, eval_interval=2)
    with monkeypatch.context() as patch:
        # Four steps and a validation batch an epoch: the signal comes in the third's validation.
        interrupt_after(patch, 15)
        with pytest.raises(Interrupted):
            start(tmp_path / "long", images, epochs=9, eval_interval=2)
    assert not (tmp_path / "long/epoch_2_samples.png").exists()
    rows = start(tmp_path / "long", images, epochs=3, eval_interval=2, resume=True)
    assert rows == expected and same(tmp_path / "short", tmp_path / "long")
    for name in ("epoch_2_samples.png", "samples.gif"):
        short = (tmp_path / "short" / name).read_bytes()
        assert (tmp_path / "long" / name).read_bytes() == short


def test_a_film_of_the_epochs_with_pictures(images, tmp_path):
    start(tmp_path, images, epochs=3, eval_interval=1)
    for name in ("recons", "samples"):
        with Image.open(tmp_path / f"{name}.gif") as film:
            assert film.n_frames == 3
    (tmp_path / "model_score.json").write_text("{}")  # of the model before
    start(tmp_path, images, epochs=4, eval_interval=1, resume=True)
    assert not (tmp_path / "model_score.json").exists()


def test_outputs(images, tmp_path):
    rows = start(tmp_path, images, overwrite=True)
    for name in (
        "epoch_1_recons",
        "epoch_1_samples",
        "loss_vs_epochs",
        "recon_loss_vs_epochs",
        "kl_loss_vs_epochs",
    ):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 250
    for name in ("recons", "samples"):
        with Image.open(tmp_path / f"{name}.gif") as film:
            assert film.n_frames == 1 and film.size == Image.open(picture(tmp_path, name)).size
    AEModel(True, 4).load_state_dict(weights(tmp_path))
    with open(tmp_path / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["0", "1"]
    for row, stored in zip(rows, table):
        assert float(stored["val_recon_loss"]) == row["val_recon_loss"]
        assert row["val_loss"] == pytest.approx(
            row["val_recon_loss"] + row["val_kl_loss"], rel=1e-6
        )
    config = json.loads((tmp_path / "config.json").read_text())
    assert (
        config["latent_size"] == 4
        and config["images"] == [32, 8]
        and config["versions"]["torch"] == torch.__version__
    )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert {"val_recon_loss", "train_kl_loss", "beta"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"reconstructions", "samples"}


def test_training_learns(images, tmp_path):
    rows = start(tmp_path / "run", images, epochs=8, loss_mode="ae")
    assert rows[-1]["train_recon_loss"] < 0.95 * rows[0]["train_recon_loss"]
    assert not (tmp_path / "run" / "kl_loss_vs_epochs.png").exists()


def test_a_non_finite_loss_stops_with_terms_and_state(images, tmp_path, monkeypatch):
    validated_model = train.Trainer.validated_model

    def poison(self):
        if self.epoch == 1:
            torch.nn.init.constant_(self.model.decoder.fc.bias, float("nan"))
        return validated_model(self)

    monkeypatch.setattr(train.Trainer, "validated_model", poison)
    with pytest.raises(NonFiniteError) as error:
        start(tmp_path / "run", images, epochs=4)
    assert (
        "weight" in str(error.value)
        and "state.pt" in str(error.value)
        and error.value.exit_code == 3
    )
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["epoch"] == 1 and torch.isfinite(state["model"]["decoder.fc.bias"]).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "--resume, --overwrite or another folder"),
        ({"resume": True, "latent_size": 5}, "--latent_size was 4 .*, now 5"),
        ({"resume": True, "loss_mode": "ae"}, "--loss_mode was 'vae' .*, now 'ae'"),
        ({"resume": True, "target_beta_val": 2}, "--target_beta_val was 1 .*, now 2"),
        ({"resume": True, "epochs": 0}, "--num_epochs: got 0"),
        ({"loss_mode": "gan", "overwrite": True}, "expected one of ae, vae"),
    ],
)
def test_refused_runs_touch_nothing(images, tmp_path, options, message):
    start(tmp_path, images, epochs=1, overwrite=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        start(tmp_path, images, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unusable_states_are_refused(images, tmp_path):
    start(tmp_path, images, epochs=1, overwrite=True)
    content = (tmp_path / "state.pt").read_bytes()
    for damaged in (content[:5000], b"hello"):
        (tmp_path / "state.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="--resume"):
            start(tmp_path, images, resume=True)


# ------------------------------------------------------------------------------------------------
# The command line


@pytest.mark.parametrize(
    "options",
    [
        {"latent_size": 0},
        {"latent_size": -1},
        {"batch_size": 0},
        {"epochs": 0},
        {"target_beta_val": -1},
        {"target_beta_val": float("inf")},
        {"lr": 0},
        {"grad_clip": 0},
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, images, tmp_path):
    with pytest.raises(InputError, match="expected"):
        start(tmp_path / "run", images, **options)
    assert not (tmp_path / "run").exists()


def test_an_infinite_validation_loss_stops_the_run(images, tmp_path, monkeypatch):
    validate = train.get_val_metrics
    infinite = {"loss": float("inf")}
    monkeypatch.setattr(train, "get_val_metrics", lambda *args: validate(*args) | infinite)
    with pytest.raises(NonFiniteError, match="validation"):
        start(tmp_path / "run", images)


def test_a_start_that_was_killed_before_its_first_state_is_no_obstacle(
    images, tmp_path, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "run", images)
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert len(start(tmp_path / "run", images)) == 2


def test_36_reconstructions_whatever_the_batch_size(tmp_path):
    images = draw_shapes(80, torch.Generator().manual_seed(0)).split((40, 40))
    start(tmp_path / "run", images, epochs=1, batch_size=8)
    width, height = Image.open(tmp_path / "run" / "epoch_0_recons.png").size
    assert (width, height) == (12 * 142 + 2, 6 * 142 + 2)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["vae_latent17"], "unknown preset 'vae_latent17'; expected one of ae_latent16"),
        ([], "give presets or --log_dir"),
        (["vae_latent16", "--latent_size", "3"], "leave them out"),
        (["--log_dir", "a", "--latent_size", "0"], "expected int >= 1"),
        (["--log_dir", "a", "--latent_size", "-4"], "expected int >= 1"),
        (["--log_dir", "a", "--target_beta_val", "-0.1"], "expected float >= 0"),
        (["--log_dir", "a", "--target_beta_val", "inf"], "expected float >= 0"),
        (["vae_latent16", "--num_epochs", "0"], "expected int >= 1"),
        (["vae_latent16", "--data_dir", "/no/such/folder"], "add --download"),
        (["vae_latent16", "--resume", "--dataset", "synthetic"], "no file"),
        (["--resume", "vae_latent16", "--dataset", "synthetic"], "no file"),
        (["ae_latent16", "vae_latent16", "--resume", "x.pt"], "single run"),
        (["--log_dir", "a", "--loss_mode", "ae", "--beta_mode", "linear"], "belong to a VAE"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(argv, message, tmp_path, capsys):
    assert_refused(argv, message, tmp_path, capsys)


def test_unwritable_output(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        command("ae_latent16", "--dataset", "synthetic", "--out_dir", str(tmp_path / "file"))
    assert stop.value.code == 2 and "cannot be written" in capsys.readouterr().err


def test_a_full_disk_keeps_the_last_state(images, tmp_path, monkeypatch):
    start(tmp_path / "run", images, epochs=1)
    before = (tmp_path / "run" / "state.pt").read_bytes()

    def no_space(value, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", no_space)
    with pytest.raises(OSError):
        start(tmp_path / "run", images, epochs=2, resume=True)
    with pytest.raises(SystemExit) as stop, train.exit_codes():
        start(tmp_path / "run", images, epochs=2, resume=True)
    assert stop.value.code == 2
    assert (tmp_path / "run" / "state.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob(".unfinished*"))


def test_all_presets_one_after_the_other_and_only_once(two_presets, tmp_path, capsys):
    options = ["--dataset", "synthetic", "--batch_size", "20", "--out_dir", str(tmp_path)]
    command("all", *options, "--num_epochs", "1")
    out = capsys.readouterr().out
    assert out.count("validation at epoch 0") == 2
    for name in ("ae_latent16_synthetic", "vae_latent16_synthetic"):
        assert (tmp_path / name / "model.pt").exists()
    command("all", *options, "--num_epochs", "1")
    assert capsys.readouterr().out.count("finished already") == 2
    command("all", *options, "--num_epochs", "2")  # goes on
    assert capsys.readouterr().out.count("validation at epoch 1") == 2
    command("vae_latent16", *options, "--num_epochs", "1", "--overwrite")
    assert "validation at epoch 0" in capsys.readouterr().out


@pytest.fixture
def two_presets(monkeypatch):
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (40, 10))
    two = {name: settings.PRESETS[name] for name in ("ae_latent16", "vae_latent16")}
    monkeypatch.setattr(settings, "PRESETS", two)


OPTIONS = ["--dataset", "synthetic", "--batch_size", "20", "--num_epochs", "1"]


def test_a_signal_during_validation_stops_all(two_presets, tmp_path, monkeypatch, capsys):
    validate = train.get_val_metrics

    def validate_and_signal(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train, "get_val_metrics", validate_and_signal)
        with pytest.raises(SystemExit) as stop:
            command("all", *OPTIONS, "--out_dir", str(tmp_path))
    assert stop.value.code == 143 and not (tmp_path / "vae_latent16_synthetic").exists()
    command("all", *OPTIONS, "--out_dir", str(tmp_path), "--resume")
    out = capsys.readouterr().out
    assert (
        "ae_latent16_synthetic: finished already" in out
        and "vae_latent16_synthetic: validation" in out
    )


def test_all_checks_every_run_before_the_first(two_presets, tmp_path, capsys):
    command("vae_latent16", *OPTIONS, "--out_dir", str(tmp_path))
    with pytest.raises(SystemExit):
        command("all", *OPTIONS[:-1], "2", "--seed", "5", "--out_dir", str(tmp_path))
    assert (
        "--seed was 0" in capsys.readouterr().err
        and not (tmp_path / "ae_latent16_synthetic").exists()
    )


def test_overwrite_replaces_a_damaged_state(two_presets, tmp_path, capsys):
    command("ae_latent16", *OPTIONS, "--out_dir", str(tmp_path))
    (tmp_path / "ae_latent16_synthetic" / "state.pt").write_bytes(b"damaged")
    command("ae_latent16", *OPTIONS, "--out_dir", str(tmp_path), "--overwrite")
    assert "validation at epoch 0" in capsys.readouterr().out.splitlines()[-1]


def script(*argv, **options):
    argv = [
        sys.executable,
        train.__file__,
        *argv,
        "--dataset",
        "synthetic",
        "--batch_size",
        "500",
        "--device",
        "cpu",
    ]
    # Two of them run side by side: with two threads each they would wait for each other.
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=one_thread, **options
    )


def test_killed_script_ends_bit_identical(tmp_path):
    arguments = ("--log_dir", "run", "--latent_size", "8", "--num_epochs", "1")
    whole = script(*arguments, "--out_dir", str(tmp_path / "whole"), cwd=tmp_path)
    parts = script(*arguments, "--out_dir", str(tmp_path / "parts"), "--save_minutes", "0.00001")
    state = tmp_path / "parts" / "run_synthetic" / "state.pt"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (
        state.exists() and torch.load(state, weights_only=True)["batches"]["cursor"]
    ):
        time.sleep(0.02)
    parts.kill()
    parts.communicate()
    again = script(*arguments, "--out_dir", str(tmp_path / "parts"), "--resume")
    assert whole.wait(timeout=300) == 0 and again.wait(timeout=300) == 0
    assert same(tmp_path / "whole" / "run_synthetic", tmp_path / "parts" / "run_synthetic")
