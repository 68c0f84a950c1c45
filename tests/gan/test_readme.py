"""Every command of the README that starts a script of gan/, as it stands there, made small.

And the generators that lie in report/runs/.
"""

import json

import numpy as np
import pytest
import readme
import tiny
from PIL import Image

GENERATORS = sorted((readme.ROOT / "report/runs").glob("*/generator.pt"))
COMMANDS = readme.commands("gan")


def test_there_are_commands():
    scripts = {command[0] for command in COMMANDS}
    assert {f"gan/{name}.py" for name in ("q1_3", "q1_4", "q1_5", "mlp_gan", "fid")} <= scripts


@pytest.fixture
def quick(monkeypatch, command):
    """Few drawn images, short estimates, small batches of a score, tiny networks."""
    if "report/runs/wgan_gp" not in command:
        monkeypatch.setattr("networks.Generator", tiny.TinyGenerator)
        monkeypatch.setattr("networks.Discriminator", tiny.TinyDiscriminator)
    monkeypatch.setattr("download.SYNTHETIC_IMAGES", 20)
    monkeypatch.setattr("networks.reestimate_statistics.__defaults__", (1, 8))
    monkeypatch.setattr("fid.GENERATOR_BATCH", 8)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command(command, bird_folder, tiny_features, tmp_path, monkeypatch, quick):
    script, *options = command
    places = {"gan/data_wgan_gp": tmp_path / "run", "IMAGES": bird_folder, "REFERENCE": bird_folder}
    places |= {"PHOTOS": bird_folder, "birds_32": tmp_path / "birds_32", "birds": tmp_path / "run"}
    options = [places.get(word, word) for word in options]
    small = {"batch_size": "2", "num_iterations": "1", "out_dir": tmp_path / "run"}
    if script == "gan/fid.py":
        options += ["--features", tiny_features]
    elif "--evaluate" in options:
        if str(tmp_path / "run") == str(options[1]):  # of a run that is there
            readme.run(
                monkeypatch, "gan/q1_5.py", *readme.changed(["--dataset", "synthetic"], **small)
            )
    elif script != "gan/resize_dataset.py":
        own = {} if "--dataset" in options else {"data_dir": bird_folder, "fid": "off"}
        options = readme.changed(options, **own, **small)
    readme.run(monkeypatch, script, *options)
    if script == "gan/resize_dataset.py":
        assert len(list((tmp_path / "birds_32").iterdir())) == 20
    elif "--evaluate" in options:
        assert (tmp_path / "run" / "generator_samples.png").exists()
    elif script != "gan/fid.py":
        assert (tmp_path / "run" / "samples_1.png").exists()


@pytest.mark.parametrize("weights", GENERATORS, ids=lambda path: path.parent.name)
def test_committed_weights_draw_the_committed_samples(weights, tmp_path, monkeypatch):
    """With no data; statistics of 256 latents instead of 1,024 move them by some grey levels."""
    monkeypatch.setattr("networks.reestimate_statistics.__defaults__", (2, 128))
    run = weights.parent
    config = json.loads((run / "config.json").read_text())
    script = f"gan/{config['loss']}.py"
    readme.run(monkeypatch, script, "--evaluate", run, "--fid", "off", "--out_dir", tmp_path)
    drawn, committed = (
        np.asarray(Image.open(path)).astype(float)
        for path in (
            tmp_path / "generator_samples.png",
            run / f"samples_{config['num_iterations']}.png",
        )
    )
    assert np.abs(drawn - committed).mean() < 8  # of 255; another sample differs by 60


def test_each_loss_has_weights():
    losses = {json.loads((path.parent / "config.json").read_text())["loss"] for path in GENERATORS}
    assert losses == {"q1_3", "q1_4", "q1_5"}
