"""Every command of the README that starts a script of vae/, as it stands there, made small."""

import dataset
import presets
import pytest
import readme
import torch
from diffusion.unet import UNet

COMMANDS = readme.commands("vae")


def test_there_are_commands():
    assert {" ".join(command[:2]) for command in COMMANDS} >= {
        "vae/train.py vae_latent1024",
        "vae/train.py all",
        "vae/ddpm.py train",
        "vae/ddpm.py sample",
        "vae/ddpm.py reference",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command(command, tmp_path, monkeypatch):
    script, *options = command
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (40, 10))
    two = {name: presets.PRESETS[name] for name in ("ae_latent16", "vae_latent16")}
    if "all" in options:  # nine runs take nine times as long
        monkeypatch.setattr("options.PRESETS", two)
    if "--evaluate" in options:  # of a run that is there
        small = ["--dataset", "synthetic", "--num_epochs", "1", "--latent_size", "4"]
        readme.run(monkeypatch, script, "--log_dir", "run", *small, "--out_dir", tmp_path)
        options[options.index("vae/data/vae_latent1024")] = tmp_path / "run_synthetic"
        options = readme.changed(options, num_samples="3")
    elif script == "vae/train.py":
        # as many steps as a cyclical schedule needs
        options = readme.changed(options, dataset="synthetic", num_epochs="1", batch_size="4")
        options = readme.changed(options, out_dir=tmp_path)
    elif options[0] == "train":
        options = readme.changed(options, dataset="synthetic", num_epochs="1")
        options = readme.changed(options, out_dir=tmp_path / "run")
    elif options[0] == "sample":
        if "--model" in options:  # one that lies here
            model = readme.ROOT / options[options.index("--model") + 1]
        else:
            model = tmp_path / "model.pt"
            torch.save(UNet().state_dict(), model)
            (tmp_path / "config.json").write_text('{"model": "ddpm", "predict": "v"}')
        options = readme.changed(options, model=model, num="2", steps="2")
    else:
        options += ["--dataset", "synthetic"]
    readme.run(monkeypatch, script, *options)
    assert list(tmp_path.glob("*/model.pt")) or list(tmp_path.glob("**/*.png"))
