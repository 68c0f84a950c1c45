"""vae/train.py --evaluate: the committed number again, from the weights alone."""

import csv
import json

import pytest
import torch
from helpers import command
from model import AEModel

from common import InputError

OPTIONS = {
    "ae": ["--loss_mode", "ae"],
    "vae in float32": ["--disable_amp"],
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
    """With the run's own data, batch size, model and format, none of which the options repeat."""
    folder = trained(tmp_path, *options)
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
    folder, out = trained(tmp_path, "--loss_mode", "ae"), tmp_path / "new/place"
    before = sorted(folder.iterdir())  # a folder of results, or of a class, may be read-only
    how = ["--evaluate", folder, "--num_samples", 7, "--out_dir", out]
    command(*how)
    names = ["model_recons.png", "model_samples.png", "model_score.json", "samples"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(folder.iterdir()) == before
    pictures = [path.read_bytes() for path in (out / "samples").iterdir()]
    assert len(pictures) == len(set(pictures)) == 7
    with pytest.raises(InputError, match="--num_samples: .*samples exists; give --overwrite"):
        command(*how)
    command(*how[:-3], 3, *how[-2:], "--overwrite")
    assert len([*(out / "samples").iterdir()]) == 3


REFUSED = {
    "training options": (["--lr", "0.1"], {}, "trains nothing; leave --lr out"),
    "a preset": (["vae_latent16"], {}, "trains nothing; leave vae_latent16 out"),
    "a folder that is gone": ([], {"data_dir": "gone"}, "names gone, which is not there"),
    "other pixels": ([], {"data": "0123456789ab"}, "was trained on other pixels"),
    "no data named": ([], {"dataset": ...}, "does not name its data; give --data_dir"),
    "another program's": ([], {"loss_mode": ...}, "is not that of a run of train.py"),
    "a file for the results": (["--out_dir", __file__], {}, "test_evaluate.py cannot be written"),
    "another model": ([], {"latent_size": 5}, "does not hold the weights of AEModel"),
    "a setting out of bounds": ([], {"latent_size": 0}, "config.json: --latent_size: got 0"),
    "no samples to replace": (["--overwrite"], {}, "trains nothing; leave --overwrite out"),
}


@pytest.mark.parametrize("options, changes, message", REFUSED.values(), ids=REFUSED)
def test_refused(options, changes, message, small, tmp_path, capsys):
    config = {"loss_mode": "vae", "latent_size": 4, "dataset": "synthetic", "data": None} | changes
    config = {name: value for name, value in config.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(AEModel(True, 4).state_dict(), tmp_path / "model.pt")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((SystemExit, InputError)) as stop:
        command("--evaluate", tmp_path, *options)
    assert message in capsys.readouterr().err + str(stop.value)
    assert sorted(tmp_path.iterdir()) == before
