"""The fully connected GAN: networks, loss by hand, rates, the shared loop with steps one to one."""

import json
import math

import mlp_gan
import pytest
import readme
import torch
import train
from helpers import refused, rows, same, start, stopped_at

NETWORKS = mlp_gan.MLPGenerator, mlp_gan.MLPDiscriminator
OWN = {"make_optimizers": mlp_gan.get_optimizers_and_schedulers, "generator_every": 1}
OWN |= {"question": mlp_gan, "networks": NETWORKS}


def test_networks():
    gen, disc = (network() for network in NETWORKS)
    for net, sizes in ((gen, [128, 256, 512, 1024, 3072]), (disc, [3072, 1024, 512, 256, 1])):
        shapes = [tuple(p.shape) for p in net.parameters()]
        assert shapes == [s for i, o in zip(sizes, sizes[1:]) for s in ((o, i), (o,))]
    images = gen(5)
    assert images.shape == (5, 3, 32, 32) and disc(images).shape == (5, 1)
    assert gen.forward_given_samples(1e4 * torch.randn(2, 128)).abs().max() <= 1
    assert [layer.p for layer in disc.layers if isinstance(layer, torch.nn.Dropout)] == [0.3] * 3


def test_loss_by_hand():
    """-[0.9 log D(x) + 0.1 log(1 - D(x))] - log(1 - D(G(z))), D = sigmoid(score)."""
    real, fake = [0.0, 2.0], [-1.0, 0.5]
    log_d = lambda score: -math.log(1 + math.exp(-score))
    expected = sum(-0.9 * log_d(s) - 0.1 * log_d(-s) for s in real) / 2
    expected -= sum(log_d(-s) for s in fake) / 2
    scores = [torch.tensor(values).view(2, 1) for values in (real, fake)]
    got = mlp_gan.compute_discriminator_loss(*scores, None, None, 10)
    assert got.item() == pytest.approx(expected, rel=1e-6)


def test_rates_are_two_and_constant():
    made = mlp_gan.get_optimizers_and_schedulers(*(network() for network in NETWORKS))
    for optimizer, scheduler, rate in ((*made[:2], 4e-4), (*made[2:], 1e-4)):
        assert optimizer.defaults["betas"] == (0.5, 0.999)
        for _ in range(3):
            assert optimizer.param_groups[0]["lr"] == rate
            optimizer.step(), scheduler.step()


def test_the_script_asks_for_what_is_its_own(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(train, "train_model", lambda *networks, **how: asked.update(how))
    readme.run(monkeypatch, "gan/mlp_gan.py", "--dataset", "synthetic", "--out_dir", tmp_path)
    assert asked["generator_every"] == 1
    assert asked["make_optimizers"].__globals__["__name__"] == "__main__"


def test_a_stopped_run_ends_bit_identical(birds, tmp_path, monkeypatch):
    """Dropout's noise included, and with a generator step in every iteration."""
    whole, parts, four = tmp_path / "whole", tmp_path / "parts", ("--num_iterations", 4)
    steps, generator_step = [], train.generator_step
    monkeypatch.setattr(train, "generator_step", lambda *a: steps.append(1) or generator_step(*a))
    weights = start(whole, birds, *four, **OWN)
    assert len(steps) == 4
    stopped_at(monkeypatch, 3, parts, birds, *four, **OWN)
    assert same(weights, start(parts, birds, "--resume", **OWN)) and rows(parts) == rows(whole)
    config = json.loads((whole / "config.json").read_text())
    assert config["loss"] == "mlp_gan" and config["generator_every"] == 1
    assert config["networks"] == ["MLPGenerator", "MLPDiscriminator"]
    assert config["optimizers"] == "mlp_gan.get_optimizers_and_schedulers"
    handouts = {"make_optimizers": train.get_optimizers_and_schedulers}
    for change in ({"generator_every": 2}, handouts):
        refused("(generator_every|optimizers) was", start, whole, birds, "--resume", **OWN | change)
