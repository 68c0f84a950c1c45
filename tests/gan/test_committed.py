"""The generators that lie in report/runs/."""

import json

import numpy as np
import pytest
import readme
from PIL import Image
from utils import picture_latents

WEIGHTS = sorted((readme.ROOT / "report/runs").glob("*/generator*.pt"))
CONFIGS = {path: json.loads((path.parent / "config.json").read_text()) for path in WEIGHTS}


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.parent.name)
def test_they_draw_the_committed_samples(path, tmp_path, monkeypatch):
    """With no data; statistics of 256 latents instead of 1,024 move them by some grey levels."""
    monkeypatch.setattr("networks.reestimate_statistics.__defaults__", (2, 128))
    config, options = CONFIGS[path], ("--fid", "off", "--out_dir", tmp_path)
    if config["loss"] != "q1_5":  # two rows of one picture will do
        few = lambda seed, device: {"samples": picture_latents(seed, device)["samples"][:20]}
        monkeypatch.setattr("evaluate.picture_latents", few)
        monkeypatch.setattr("evaluate.interpolate_latent_space", lambda *rest: None)
    script = f"gan/{config['loss']}.py"  # for wgan_gp this is the README's first command
    given = path.parent if path.stem == "generator" else path
    readme.run(monkeypatch, script, "--evaluate", given, *options)
    committed = path.parent / f"samples_{config['num_iterations']}.png"
    if path.stem != "generator":  # of a run on a GPU, drawn again on a CPU
        committed = path.with_name(f"{path.stem}_samples.png")
    both = [Image.open(one) for one in (tmp_path / f"{path.stem}_samples.png", committed)]
    drawn, expected = (np.asarray(image).astype(float)[:68] for image in both)
    assert np.abs(drawn - expected).mean() < 8  # of 255; another sample differs by 60


def test_each_loss_has_weights():
    assert {config["loss"] for config in CONFIGS.values()} == {"q1_3", "q1_4", "q1_5"}
