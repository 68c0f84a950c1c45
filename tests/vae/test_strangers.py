"""Other people's habits, on the side of the autoencoders."""

import pytest
import torch
from helpers import command, start
from logger import LAYOUT
from options import get_args

from common import InputError
from common.run import Run


def test_a_run_owns_its_folder(images, tmp_path):
    with Run(tmp_path / "run", LAYOUT):
        for how in ([], ["--overwrite"], ["--resume"]):
            with pytest.raises(InputError, match="another run is at work in"):
                start(tmp_path / "run", images, *how)
    assert not (tmp_path / "run").exists()
    start(tmp_path / "run", images, epochs=1)
    start(
        tmp_path / "run", images, "--resume", tmp_path / "run", epochs=2
    )  # it stands for its state


WRONG = [
    torch.rand(32, 3, 32, 32),
    torch.zeros(32, 32, 32).byte(),
    torch.zeros(8, 32, 32, 3).byte(),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_images_that_cannot_be_used(images, tmp_path, wrong):
    for parts in ((wrong, images[1]), (images[0], wrong)):
        with pytest.raises(InputError, match="images: got .*expected"):
            start(tmp_path / "run", parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "argv, told",
    [
        (["vae_latent17"], "unknown preset 'vae_latent17'; did you mean vae_latent1"),
        (["--log_dir", "../../escape"], "expected a name; --out_dir says where it lies"),
        (["--log_dir", "/tmp/x"], "expected a name"),
        (["--log_dir", ""], "got an empty path"),
        (["--log_dir", "a", "--latent_sise", "4"], "did you mean --latent_size?"),
        (["vae_latent16", "--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["vae_latent16", "--lr", "inf"], "expected a finite float > 0"),
        (["vae_latent16", "--dataset", "synthetic", "--download"], "--download goes with"),
        (["--resume", "--out_dir", "nowhere"], "give --resume NAME; unfinished: none"),
        (["--log_dir", "a", "--flows", "2", "--base_channels", "256"], "leave --base_channels out"),
        (["vae_latent16", "--num_samples", "4"], "goes with --evaluate"),
    ],
)
def test_slips_in_options(argv, told, capsys):
    with pytest.raises(SystemExit) as stop:
        get_args("", argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and told in error and len(error.strip().splitlines()) == 1


def test_a_start_says_where_and_how_it_computes_and_a_line_an_epoch(small, tmp_path, capsys):
    argv = ["--log_dir", "a", "--dataset", "synthetic", "--latent_size", "3", "--batch_size", "10"]
    command(*argv, "--num_epochs", "2", "--disable_amp", "--out_dir", tmp_path)
    out = capsys.readouterr().out
    assert "Computing on the CPU, " in out and "in float32" in out
    for epoch in (0, 1):
        assert f"a_synthetic: validation at epoch {epoch}: loss " in out
