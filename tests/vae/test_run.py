"""Whole runs: exact resuming, outputs, presets through the command line, wrong inputs."""

import csv
import json
import os
import shutil
import signal
import time
from collections import OrderedDict
from pathlib import Path

import presets
import pytest
import torch
import train
import utils
from dataset import draw_shapes
from forks import Fork
from helpers import command, interrupt_after, same, start, weights
from model import AEModel
from PIL import Image

from common import InputError, Interrupted, NonFiniteError


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
    assert start(tmp_path / "parts", images, "--resume", **options) == expected
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_a_finished_run_goes_on_with_more_epochs(images, tmp_path):
    start(tmp_path / "run", images, epochs=1)
    longer = start(tmp_path / "run", images, "--resume", epochs=3)
    assert longer == start(tmp_path / "whole", images, epochs=3)
    assert same(tmp_path / "run", tmp_path / "whole")


def test_measuring_never_changes_training(images, tmp_path):
    start(tmp_path / "a", images, eval_interval=100)
    start(tmp_path / "b", images, "--save_minutes", 1e-9, eval_interval=1)
    assert same(tmp_path / "a", tmp_path / "b")


def test_a_longer_run_can_be_ended_where_it_was_stopped(images, tmp_path, monkeypatch):
    """After an epoch without pictures: they and the weights are those of a run of that length."""
    expected = start(tmp_path / "short", images, epochs=3)
    with monkeypatch.context() as patch:
        # Four steps and a validation batch an epoch: the signal comes in the third's validation.
        interrupt_after(patch, 15)
        with pytest.raises(Interrupted):
            start(tmp_path / "long", images, epochs=9)
    assert not (tmp_path / "long/epoch_2_samples.png").exists()
    rows = start(tmp_path / "long", images, "--resume", epochs=3)
    assert rows == expected and same(tmp_path / "short", tmp_path / "long")
    for name in ("epoch_2_samples.png", "samples.gif"):
        short = (tmp_path / "short" / name).read_bytes()
        assert (tmp_path / "long" / name).read_bytes() == short


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
    keep = lambda *args: seeds.append(torch.initial_seed()) or torch.zeros(3, 8, 8)  # noqa: E731
    monkeypatch.setattr(train, "vis_samples", keep)
    start(tmp_path, images, "--overwrite", "--seed", 6, eval_interval=1)
    assert seeds == [7, 7]


def test_outputs(images, tmp_path, real_pictures):
    rows = start(tmp_path, images, "--overwrite")
    names = ("epoch_1_recons", "epoch_1_samples", "loss_vs_epochs", "recon_loss_vs_epochs")
    for name in (*names, "kl_loss_vs_epochs"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 250
    for name in ("recons", "samples"):
        with Image.open(tmp_path / f"{name}.gif") as film:
            picture = Image.open(tmp_path / f"epoch_1_{name}.png")
            assert film.n_frames == 1 and film.size == picture.size
    AEModel(True, 4).load_state_dict(weights(tmp_path))
    with open(tmp_path / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["0", "1"]
    for row, stored in zip(rows, table):
        assert float(stored["val_recon_loss"]) == row["val_recon_loss"]
        whole = row["val_recon_loss"] + row["val_kl_loss"]
        assert row["val_loss"] == pytest.approx(whole, rel=1e-6)
    # At the epochs with pictures, of all validation images.
    model = AEModel(True, 4)
    model.load_state_dict(weights(tmp_path))
    active = utils.count_active_latents(model, [(images[1], None)])
    assert [row.get("active_latents") for row in rows] == [None, active]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["latent_size"] == 4 and config["images"] == [32, 8]
    assert config["versions"]["torch"] == torch.__version__
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
    """Rate, clipping and width, not only in config.json."""
    base = start(tmp_path / "base", images, epochs=1)
    for change in ({"lr": 0.01}, {"grad_clip": 1e-3}, {"grad_clip": 0}, {"base_channels": 8}):
        folder = tmp_path / "-".join(map(str, *change.items()))
        rows = start(folder, images, epochs=1, **change)
        assert rows[0]["train_loss"] != base[0]["train_loss"], change
    no_clip = start(tmp_path / "none", images, epochs=1, grad_clip=None)
    assert no_clip == start(tmp_path / "zero", images, epochs=1, grad_clip=0)


def test_training_learns(images, tmp_path):
    rows = start(tmp_path / "run", images, epochs=8, loss_mode="ae")
    assert rows[-1]["train_recon_loss"] < 0.95 * rows[0]["train_recon_loss"]
    assert not (tmp_path / "run" / "kl_loss_vs_epochs.png").exists()


def test_a_non_finite_loss_stops_with_terms_and_state(images, tmp_path, monkeypatch):
    validate, count = train.get_val_metrics, iter(range(10))

    def poison(model, *rest, **options):
        if next(count) == 1:
            torch.nn.init.constant_(model.decoder.fc.bias, float("nan"))
        return validate(model, *rest, **options)

    monkeypatch.setattr(train, "get_val_metrics", poison)
    with pytest.raises(NonFiniteError, match="weight.*state.pt") as error:
        start(tmp_path / "run", images, epochs=4)
    assert error.value.exit_code == 3
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["step"] == 1 and torch.isfinite(state["parts"]["model"]["decoder.fc.bias"]).all()


@pytest.mark.parametrize(
    "argv, options, message",
    [
        ([], {}, "--resume, or give --overwrite or another folder"),
        (["--resume"], {"latent_size": 5}, "latent_size was 4 .*, now 5"),
        (["--resume"], {"loss_mode": "ae"}, "loss_mode was 'vae' .*, now 'ae'"),
        (["--resume"], {"target_beta_val": 2}, "target_beta_val was 1.0 .*, now 2.0"),
        (["--resume"], {"grad_clip": 2}, "grad_clip was 1.0"),
        (["--resume", "--free_bits", 0.5], {}, "free_bits was 0.0"),
        (["--resume", "--flows", 2], {}, "flows was 0"),
        (["--resume"], {"epochs": 0}, "--num_epochs: got 0"),
        (["--overwrite"], {"loss_mode": "gan"}, "expected one of ae, vae"),
        (["--overwrite"], {"loss_mode": "vea"}, "got 'vea'"),
        (["--overwrite", "--lr", 0.1], {}, "--lr: the command line says 0.1"),
    ],
)
def test_refused_runs_touch_nothing(ended, images, tmp_path, argv, options, message):
    folder = Path(shutil.copytree(ended, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=message):
        start(folder, images, *argv, **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture(scope="module")
def ended(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended") / "run"
    start(folder, images, epochs=1)
    return folder


def test_unusable_states_are_refused(ended, images, tmp_path):
    folder = Path(shutil.copytree(ended, tmp_path / "run"))
    content = (folder / "state.pt").read_bytes()
    for damaged in (content[:5000], b"hello"):
        (folder / "state.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="--resume"):
            start(folder, images, "--resume")


@pytest.mark.parametrize(
    "options",
    [
        *({"latent_size": value} for value in (0, 2.5, True)),
        *({"batch_size": 0}, {"epochs": 0}, {"lr": 0}, {"lr": float("nan")}),
        *({"target_beta_val": -1}, {"target_beta_val": float("inf")}, {"grad_clip": -1}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, images, tmp_path):
    with pytest.raises(InputError, match="expected"):
        start(tmp_path / "run", images, **options)
    assert not (tmp_path / "run").exists()


def test_an_infinite_validation_loss_stops_the_run(images, tmp_path, monkeypatch):
    validate, infinite = train.get_val_metrics, {"loss": float("inf")}
    monkeypatch.setattr(train, "get_val_metrics", lambda *a, **k: validate(*a, **k) | infinite)
    with pytest.raises(NonFiniteError, match="validation"):
        start(tmp_path / "run", images)


def test_a_start_that_was_killed_before_its_first_state_is_no_obstacle(
    images, tmp_path, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "run", images)
    assert (tmp_path / "run/metrics.csv").exists()
    assert len(start(tmp_path / "run", images)) == 2


def test_36_reconstructions_whatever_the_batch_size(tmp_path, real_pictures):
    images = draw_shapes(80, torch.Generator().manual_seed(0)).split((40, 40))
    start(tmp_path / "run", images, epochs=1, batch_size=8)
    width, height = Image.open(tmp_path / "run" / "epoch_0_recons.png").size
    assert (width, height) == (12 * 142 + 2, 6 * 142 + 2)


# ------------------------------------------------------------------------------------------------
# Losses, schedules and models of one's own


def own_loss(model, x, beta):
    recon = (model.decoder(model.encoder(x)[0]) - x).abs().sum((1, 2, 3)).mean()
    shift = model.encoder(x)[0].square().sum(1).mean()
    return recon + beta * shift, OrderedDict(recon_loss=recon, shift=shift)


def test_a_loss_of_ones_own_has_columns_tags_and_plots(images, tmp_path, plots, monkeypatch):
    whole = start(tmp_path / "whole", images, loss_mode=own_loss)
    assert {"train_shift", "val_shift", "train_recon_loss"} <= whole[0].keys()
    assert plots["shift_vs_epochs"][1]["training"] == [row["train_shift"] for row in whole]
    header = (tmp_path / "whole/metrics.csv").read_text().splitlines()[0].split(",")
    assert header[-3:] == ["train_shift", "val_shift", "seconds"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted):
            start(tmp_path / "parts", images, loss_mode=own_loss)
    assert start(tmp_path / "parts", images, "--resume", loss_mode=own_loss) == whole
    with pytest.raises(InputError, match="loss_mode was 'test_run.own_loss'"):
        start(tmp_path / "parts", images, "--resume")


@pytest.mark.parametrize("by_step", [False, True])
def test_a_schedule_of_ones_own(by_step, images, tmp_path, monkeypatch):
    """By the epoch, or by the run's step, right after a resume within an epoch too."""

    def by_epoch(epoch):
        return 0.5 * epoch

    def schedule(epoch):
        return (lambda step: step / 16) if by_step else by_epoch(epoch)

    seen, run = [], train.vae_loss
    monkeypatch.setattr(train, "vae_loss", lambda m, x, b: seen.append(b) or run(m, x, b))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6)  # in the second epoch, after its first step
        with pytest.raises(Interrupted):
            start(tmp_path / "run", images, beta_mode=schedule)
    rows = start(tmp_path / "run", images, "--resume", beta_mode=schedule)
    steps = [n / 16 for n in range(8)] if by_step else [0] * 4 + [0.5] * 4
    # 1.0 at a trial, 1 at validation
    assert [beta for beta in seen if beta != 1] == steps
    assert [row["beta"] for row in rows] == [steps[3], steps[7]]


def test_a_model_of_ones_own(images, tmp_path):
    class Flat(torch.nn.Module):
        latent_size = 6

        def __init__(self):
            super().__init__()
            layers = torch.nn.Flatten(), torch.nn.Linear(3072, 6)
            self.encoder = torch.nn.Sequential(*layers)
            self.decoder = torch.nn.Sequential(
                torch.nn.Linear(6, 3072), torch.nn.Unflatten(1, (3, 32, 32))
            )

    rows = start(tmp_path / "run", images, model=Flat(), loss_mode="ae", lr=1e-4)
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert (tmp_path / "run/epoch_1_samples.png").exists()


SLIPS = {
    "no terms": (lambda model, x: x.mean(), r"returned Tensor; expected \(loss, OrderedDict"),
    "not reduced": (
        lambda m, x: (m.decoder(m.encoder(x)[0]), {}),
        "the loss is \\(3, 3, 32, 32\\)",
    ),
    "a term as a float": (lambda m, x: (m.encoder(x)[0].sum(), {"a": 1.0}), "a is 1.0"),
    "detached": (lambda m, x: (m.encoder(x)[0].sum().detach(), {}), "without a gradient"),
    "a typing slip": (lambda model, x: model.encodr(x), "raised AttributeError: .*encodr"),
}


@pytest.mark.parametrize("loss, message", SLIPS.values(), ids=SLIPS)
def test_slips_in_a_loss(loss, message, images, tmp_path):
    with pytest.raises(InputError, match=f"test_run.*{message}"):
        start(tmp_path / "run", images, loss_mode=loss)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "schedule, message",
    [
        (lambda epoch: None, "returned None for epoch 0"),
        (lambda epoch: -1, "returned -1 for epoch 0"),
        (lambda epoch: None if epoch == 1 else 0.5, "returned None for epoch 1"),
        (lambda epoch: lambda step: None if step == 7 else 0.5, "returned None for epoch 1"),
        (lambda epoch: [0.0][epoch], "raised IndexError"),
        (lambda epoch: lambda step: "x", "returned 'x'"),
        (lambda: 1, "raised TypeError"),
    ],
)
def test_slips_in_a_schedule(schedule, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", images, beta_mode=schedule, epochs=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size, message", [(None, "latent_size is None"), (5, "Decoder raised")])
def test_slips_in_a_model(size, message, images, tmp_path):
    model = AEModel(True, 4)
    model.latent_size = size
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", images, model=model)
    with pytest.raises(InputError, match="log_dir is empty"):
        start("", images)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------
# The command line


@pytest.fixture
def two_presets(monkeypatch, small):
    two = {name: presets.PRESETS[name] for name in ("ae_latent16", "vae_latent16")}
    monkeypatch.setattr("options.PRESETS", two)


OPTIONS = ["--dataset", "synthetic", "--batch_size", "20", "--num_epochs"]


def test_all_presets_one_after_the_other_and_only_once(two_presets, tmp_path, capsys):
    place = ["--out_dir", tmp_path]
    command("all", *OPTIONS, "1", *place)
    assert capsys.readouterr().out.count("validation at epoch 0") == 2
    for name in ("ae_latent16_synthetic", "vae_latent16_synthetic"):
        assert (tmp_path / name / "model.pt").exists()
    command("all", *OPTIONS, "1", *place)
    assert capsys.readouterr().out.count("finished already") == 2
    command("all", *OPTIONS, "2", *place)  # goes on
    assert capsys.readouterr().out.count("validation at epoch 1") == 2
    command("vae_latent16", *OPTIONS, "1", *place, "--overwrite")
    assert "validation at epoch 0" in capsys.readouterr().out


def test_a_preset_goes_on_with_what_it_recorded(two_presets, tmp_path, monkeypatch, capsys):
    """One word: the data, the seed, the length and the number format are the run's."""
    place = ["--out_dir", tmp_path]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(Interrupted) as stopped:
            command("vae_latent16", *OPTIONS, "2", "--seed", "3", "--disable_amp", *place)
    line = f" --out_dir {tmp_path} --resume vae_latent16_synthetic"
    assert str(stopped.value).endswith(line)
    command(*place, "--resume", "vae_latent16_synthetic")
    config = json.loads((tmp_path / "vae_latent16_synthetic/config.json").read_text())
    assert (config["seed"], config["num_epochs"], config["number_format"]) == (3, 2, "float32")
    assert "validation at epoch 1" in capsys.readouterr().out
    with pytest.raises(InputError, match="seed was 3"):
        again = ["--dataset", "synthetic", "--resume", "--num_epochs", "3", "--seed", "4"]
        command("vae_latent16", *place, *again)
    command("--resume", "vae_latent16", *place, "--dataset", "synthetic", "--num_epochs", "3")
    assert "validation at epoch 2" in capsys.readouterr().out
    command("--log_dir", "mine", *OPTIONS, "1", *place)
    with pytest.raises(SystemExit):
        command("--resume", *place)
    assert "unfinished: none" in capsys.readouterr().err


def test_a_signal_during_validation_stops_all(two_presets, tmp_path, monkeypatch, capsys):
    validate = train.get_val_metrics

    def validate_and_signal(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*args, **options)

    place = ["--out_dir", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(train, "get_val_metrics", validate_and_signal)
        with pytest.raises(Interrupted):
            command("all", *OPTIONS, "2", *place)
    assert not (tmp_path / "vae_latent16_synthetic").exists()
    with pytest.raises(SystemExit):
        command("--resume", *place)
    assert "unfinished: ae_latent16_synthetic" in capsys.readouterr().err
    command("all", *OPTIONS, "2", *place, "--resume")
    assert capsys.readouterr().out.count("validation at epoch 1") == 2


def test_a_signal_in_the_last_validation_is_no_interruption(images, tmp_path, monkeypatch):
    """All is done and saved: there is nothing to go on with."""
    interrupt_after(monkeypatch, 5)
    assert len(start(tmp_path / "run", images, epochs=1)) == 1


def test_refusals_come_before_the_first_run(two_presets, tmp_path):
    place = ["--out_dir", tmp_path]
    command("vae_latent16", *OPTIONS, "1", *place)
    with pytest.raises(InputError, match="seed was 0"):
        command("all", *OPTIONS, "2", "--seed", "5", *place)
    with pytest.raises(InputError, match="holds a run"):  # unfinished, and not asked to go on
        command("ae_latent16", "vae_latent16", *OPTIONS, "3", *place)
    assert not (tmp_path / "ae_latent16_synthetic").exists()


def test_a_finished_run_is_not_another_one(two_presets, tmp_path):
    own = ["--log_dir", "a", *OPTIONS, "1", "--out_dir", tmp_path]
    command(*own, "--latent_size", "4")
    with pytest.raises(InputError, match="latent_size was 4"):
        command(*own, "--latent_size", "5", "--resume")


def test_finished_runs_need_no_data(two_presets, tmp_path, capsys, monkeypatch):
    argv = ["ae_latent16", *OPTIONS, "1", "--out_dir", tmp_path]
    command(*argv)
    monkeypatch.setattr("utils.open_data", lambda *args: pytest.fail("data were opened"))
    command(*argv, "--resume")
    assert "finished already" in capsys.readouterr().out


def test_overwrite_replaces_a_damaged_state(two_presets, tmp_path, capsys):
    argv = ["ae_latent16", *OPTIONS, "1", "--out_dir", tmp_path]
    command(*argv)
    (tmp_path / "ae_latent16_synthetic/state.pt").write_bytes(b"damaged")
    command(*argv, "--overwrite")
    assert capsys.readouterr().out.count("validation at epoch 0") == 2


def test_killed_script_ends_bit_identical(tmp_path):
    def script(options):
        errors = tmp_path / f"errors{len(list(tmp_path.glob('errors*')))}"
        command = f"vae/train.py ae_small --dataset synthetic --num_epochs 2 {options}"
        return Fork(Path(train.__file__).parents[1], command, tmp_path, errors)

    assert script("--out_dir whole").wait()[0] == 0
    parts = script("--out_dir parts --save_minutes 0.00001")
    state, deadline = tmp_path / "parts/ae_small_synthetic/state.pt", time.monotonic() + 600
    while time.monotonic() < deadline and parts.poll() is None:
        if state.exists() and torch.load(state, weights_only=True)["parts"]["batches"]["cursor"]:
            break
        time.sleep(0.01)
    parts.send_signal(signal.SIGKILL)
    parts.wait()
    assert torch.load(state, weights_only=True)["step"] < 2
    assert script("--out_dir parts --resume").wait()[0] == 0
    assert same(tmp_path / "whole/ae_small_synthetic", tmp_path / "parts/ae_small_synthetic")
