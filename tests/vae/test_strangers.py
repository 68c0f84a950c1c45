"""Other people's habits, on the side of the autoencoders."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import dataset
import pytest
import torch
import train
from dataset import draw_shapes
from helpers import command, start
from logger import LAYOUT
from settings import PRESETS, Settings

from common import InputError, Interrupted
from common.run import RunFolder

VAE = Path(train.__file__).parent


@pytest.fixture(scope="module")
def images():
    return draw_shapes(40, torch.Generator().manual_seed(0)).split((32, 8))


def test_a_run_owns_its_folder(images, tmp_path):
    with RunFolder(tmp_path / "run", LAYOUT):
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(InputError, match="another run is at work in"):
                start(tmp_path / "run", images, **options)
    assert not (tmp_path / "run").exists()
    start(tmp_path / "run", images, epochs=1)
    start(tmp_path / "run", images, epochs=2, resume=tmp_path / "run")  # the folder for its state


@pytest.mark.parametrize("wrong", [torch.rand(32, 3, 32, 32), torch.zeros(32, 32, 32).byte()])
def test_floats_are_not_scaled_a_second_time(images, tmp_path, wrong):
    for parts in ((wrong, images[1]), (images[0], wrong)):
        with pytest.raises(InputError, match="images: got .*expected uint8"):
            start(tmp_path / "run", parts)
    assert not (tmp_path / "run").exists()


def test_a_preset_is_a_whole_run_from_python_too(images, tmp_path):
    """Defaults of `main` never replace what the settings say; an argument that differs does."""
    settings = PRESETS["vae_latent16"]
    train.main(tmp_path / "a", num_epochs=1, images=images, device="cpu", settings=settings)
    model = torch.load(tmp_path / "a/model.pt", weights_only=True)
    assert len(model["decoder.fc.weight"][0]) == 16
    train.main(tmp_path / "b", "ae", num_epochs=1, images=images, latent_size=3, settings=settings)
    model = torch.load(tmp_path / "b/model.pt", weights_only=True)
    assert len(model["decoder.fc.weight"][0]) == len(model["encoder.fc.weight"]) == 3


def test_the_data_of_the_settings_are_the_ones_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (20, 10))
    monkeypatch.setattr(dataset, "load_cifar10", lambda *args: pytest.fail("CIFAR-10 was opened"))
    settings = Settings(dataset="synthetic", latent_size=3, batch_size=10)
    train.main(tmp_path / "run", num_epochs=1, settings=settings)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_a_cluster_s_signals_save(name, images, tmp_path, monkeypatch, request):
    run_train_epoch, number = train.run_train_epoch, getattr(signal, name)
    # Whatever the tests were started under.
    request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
    signal.signal(number, signal.SIG_DFL)

    def run_and_signal(*args, **options):
        os.kill(os.getpid(), number)
        return run_train_epoch(*args, **options)

    monkeypatch.setattr(train, "run_train_epoch", run_and_signal)
    with pytest.raises(Interrupted, match=name) as stopped:
        start(tmp_path / "run", images)
    assert stopped.value.exit_code == 128 + number and (tmp_path / "run" / "state.pt").exists()


@pytest.mark.parametrize(
    "script, argv",
    [
        ("train.py", ["vae_latent17"]),
        ("train.py", ["vae_latent16", "--resume", ""]),
        ("train.py", ["--log_dir", "a", "--flows", "1000000000"]),
        ("train.py", ["--log_dir", "a", "--free_bits", "1", "--flows", "1"]),
        ("train.py", ["vae_latent16", "--seed", "9" * 400]),
        ("ddpm.py", ["sample", "--out", "x", "--num", "1000000000000"]),
        ("ddpm.py", ["train", "--resume", "--overwrite"]),
    ],
)
def test_a_slip_is_told_before_torch_loads(script, argv, tmp_path):
    """With a torch that cannot be imported at all."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    argv = [sys.executable, str(VAE / script), *argv]
    process = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert process.returncode == 2 and "error: " in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["torch.py"]


def test_a_start_says_where_and_how_it_computes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (60, 10))
    argv = ["--log_dir", "a", "--dataset", "synthetic", "--latent_size", "3", "--batch_size", "10"]
    command(*argv, "--num_epochs", "1", "--disable_amp", "--out_dir", str(tmp_path))
    out = capsys.readouterr().out
    assert "Computing on the CPU, " in out and "in float32" in out
    assert "for one step, about 0.0 minutes for the 1 left" in out


def test_finished_runs_need_no_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (20, 10))
    argv = [
        "ae_latent16",
        "--dataset",
        "synthetic",
        "--num_epochs",
        "1",
        "--out_dir",
        str(tmp_path),
    ]
    command(*argv)
    monkeypatch.setattr(train, "open_data", lambda *args: pytest.fail("data were opened"))
    command(*argv, "--resume")
    assert "finished already" in capsys.readouterr().out


def test_finished_presets_are_skipped_and_a_refusal_comes_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (20, 10))
    options = ["--dataset", "synthetic", "--out_dir", str(tmp_path), "--num_epochs"]
    command("vae_latent16", *options, "2")
    for argv in (["vae_latent16", *options, "2"], ["ae_latent16", "vae_latent16", *options, "1"]):
        capsys.readouterr()
        command(*argv)
        assert "vae_latent16_synthetic: finished already" in capsys.readouterr().out
    with pytest.raises(SystemExit):  # unfinished, and not asked to go on
        command("vae_latent128", "vae_latent16", *options, "3")
    assert "holds a run" in capsys.readouterr().err
    assert not (tmp_path / "vae_latent128_synthetic").exists()
