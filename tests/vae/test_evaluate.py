"""vae/train.py --evaluate: the committed number again, from the weights alone."""

import json

import pytest
import torch
from helpers import command
from model import AEModel

from common import InputError

OPTIONS = {
    "ae": ["--loss_mode", "ae"],
    "vae": [],
    "planar": ["--flows", "2"],
    "free bits": ["--free_bits", "0.5"],
    "linear": ["--beta_mode", "linear"],
}


def trained(folder, *options):
    size = ["--latent_size", "4", "--batch_size", "5", "--num_epochs", "2", "--seed", "3"]
    synthetic = ["--dataset", "synthetic", "--out_dir", str(folder)]
    command("--log_dir", "run", *size, *synthetic, *options)
    return folder / "run_synthetic"


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_last_row_is_measured_again(options, small, tmp_path, capsys):
    """With the run's own data, batch size and model, none of which the command line repeats."""
    folder = trained(tmp_path, *options)
    header, *_, last = (folder / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), last.split(","), strict=True))
    capsys.readouterr()
    for given in (folder, folder / "model.pt"):
        command("--evaluate", str(given))
        score = json.loads((folder / "model_score.json").read_text())
        assert f"recon loss {score['val_recon_loss']:.2f}" in capsys.readouterr().out
        for name in ("val_loss", "val_recon_loss", "val_kl_loss"):
            assert score.get(name) == (float(row[name]) if row[name] else None)
    assert score["images"] == 10 and score["number_format"] in ("bfloat16", "float32")
    for kind in ("recons", "samples"):
        picture = (folder / f"model_{kind}.png").read_bytes()
        assert picture == (folder / f"epoch_1_{kind}.png").read_bytes()


def test_a_run_in_float32_is_measured_in_float32(small, tmp_path):
    folder = trained(tmp_path, "--disable_amp")
    command("--evaluate", str(folder))
    score = json.loads((folder / "model_score.json").read_text())
    last = (folder / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert score["number_format"] == "float32" and str(score["val_loss"]) in last


def test_samples_for_a_score(small, tmp_path):
    """Of an autoencoder too, from N(0, I), which it was not trained for."""
    folder = trained(tmp_path, "--loss_mode", "ae")
    command("--evaluate", folder, "--num_samples", 7, "--out_dir", tmp_path / "out")
    pictures = sorted((tmp_path / "out/samples").iterdir())
    assert len(pictures) == 7 and len({path.read_bytes() for path in pictures}) == 7
    with pytest.raises(InputError, match="exists"):
        command("--evaluate", folder, "--num_samples", 7, "--out_dir", tmp_path / "out")


def test_results_go_where_they_are_told(small, tmp_path):
    """A folder of results, or of a class, may be read-only."""
    folder = trained(tmp_path)
    before = sorted(folder.iterdir())
    command("--evaluate", str(folder), "--out_dir", str(tmp_path / "new/place"))
    names = ["model_recons.png", "model_samples.png", "model_score.json"]
    assert sorted(path.name for path in (tmp_path / "new/place").iterdir()) == names
    assert sorted(folder.iterdir()) == before


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    known = {name: value for name, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(known))


REFUSED = {
    "training options": (["--lr", "0.1"], {}, "trains nothing; leave --lr out"),
    "a preset": (["vae_latent16"], {}, "trains nothing; leave vae_latent16 out"),
    "a folder that is gone": ([], {"data_dir": "gone"}, "names gone, which is not there"),
    "other pixels": ([], {"data": "0123456789ab"}, "was trained on other pixels"),
    "no data named": ([], {"dataset": ...}, "does not name its data; give --data_dir"),
    "another program's": ([], {"loss_mode": ...}, "is not that of a run of train.py"),
    "a file for the results": (["--out_dir", __file__], {}, "test_evaluate.py cannot be written"),
    "another model": ([], {"latent_size": 5}, "does not hold the weights of AEModel"),
    "a setting out of bounds": ([], {"latent_size": 0}, "expected int"),
}


@pytest.mark.parametrize("options, changes, message", REFUSED.values(), ids=REFUSED)
def test_refused(options, changes, message, small, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"loss_mode": "vae", "latent_size": 4, "dataset": "synthetic", "data": None}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(AEModel(True, 4).state_dict(), folder / "model.pt")
    edit(folder, **changes)
    before = sorted(folder.iterdir())
    with pytest.raises((SystemExit, InputError)) as stop:
        command("--evaluate", str(folder), *options)
    assert message in capsys.readouterr().err + str(stop.value)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("given", ["", "gone", "."])
def test_no_model(given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SystemExit, InputError)):
        command("--evaluate", given)
