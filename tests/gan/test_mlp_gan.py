"""The fully connected GAN: networks, loss by hand, rates, the shared loop with steps one to one."""

import json
import math

import mlp_gan
import pytest
import torch
import train
from helpers import rows, same, signal_at, start

from common import InputError, Interrupted


def test_networks():
    gen, disc = mlp_gan.MLPGenerator(), mlp_gan.MLPDiscriminator()
    sizes = [
        [layer.weight.shape[1] for layer in net.layers if isinstance(layer, torch.nn.Linear)]
        for net in (gen, disc)
    ]
    assert sizes == [[128, 256, 512, 1024], [3072, 1024, 512, 256]]
    assert [sum(p.numel() for p in net.parameters()) for net in (gen, disc)] == [
        3_838_720,
        3_803_137,
    ]
    images = gen(5)
    assert images.shape == (5, 3, 32, 32) and images.abs().max() <= 1
    assert gen.forward_given_samples(1e4 * torch.randn(2, 128)).abs().max() <= 1
    assert disc(images).shape == (5, 1)
    assert [layer.p for layer in disc.layers if isinstance(layer, torch.nn.Dropout)] == [0.3] * 3


def test_loss_by_hand():
    """-[0.9 log D(x) + 0.1 log(1 - D(x))] - log(1 - D(G(z))), D = sigmoid(score)."""
    real, fake = torch.tensor([[0.0], [2.0]]), torch.tensor([[-1.0], [0.5]])

    def sigmoid(score):
        return 1 / (1 + math.exp(-score))

    expected = (
        sum(-0.9 * math.log(sigmoid(s)) - 0.1 * math.log(1 - sigmoid(s)) for s in (0.0, 2.0)) / 2
    )
    expected -= sum(math.log(1 - sigmoid(s)) for s in (-1.0, 0.5)) / 2
    got = mlp_gan.compute_discriminator_loss(real, fake, None, None, 10)
    assert got.item() == pytest.approx(expected, rel=1e-6)
    best = torch.tensor(
        [[math.log(0.9 / 0.1)]], requires_grad=True
    )  # D(x) = 0.9 is where smoothing wants it
    mlp_gan.compute_discriminator_loss(best, fake, None, None, 10).backward()
    assert abs(best.grad.item()) < 1e-6


def test_rates_are_two_and_constant():
    gen, disc = mlp_gan.MLPGenerator(), mlp_gan.MLPDiscriminator()
    optim_disc, sched_disc, optim_gen, sched_gen = mlp_gan.get_optimizers_and_schedulers(gen, disc)
    for optimizer, scheduler, rate in (
        (optim_disc, sched_disc, 4e-4),
        (optim_gen, sched_gen, 1e-4),
    ):
        assert optimizer.defaults["betas"] == (0.5, 0.999)
        for _ in range(3):
            assert optimizer.param_groups[0]["lr"] == rate
            optimizer.step(), scheduler.step()


NETWORKS = mlp_gan.MLPGenerator, mlp_gan.MLPDiscriminator
OWN = {"make_optimizers": mlp_gan.get_optimizers_and_schedulers, "generator_every": 1}


def run(folder, birds, *argv):
    return start(folder, birds, *argv, question=mlp_gan, networks=NETWORKS, **OWN)


def test_a_stopped_run_ends_bit_identical(birds, tmp_path, monkeypatch):
    """Dropout's noise included, and with a generator step in every iteration."""
    steps, generator_step = [], train.generator_step
    monkeypatch.setattr(train, "generator_step", lambda *a: steps.append(1) or generator_step(*a))
    weights = run(tmp_path / "whole", birds, "--num_iterations", 4)
    assert len(steps) == 4
    with monkeypatch.context() as patch:
        signal_at(patch, 3)
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", birds, "--num_iterations", 4)
    again = run(tmp_path / "parts", birds, "--resume")
    assert same(weights, again) and rows(tmp_path / "parts") == rows(tmp_path / "whole")
    config = json.loads((tmp_path / "whole/config.json").read_text())
    assert config["loss"] == "mlp_gan" and config["generator_every"] == 1
    assert config["networks"] == ["MLPGenerator", "MLPDiscriminator"]
    assert config["optimizers"] == "mlp_gan.get_optimizers_and_schedulers"
    for change in (
        {"generator_every": 2},
        {"make_optimizers": train.get_optimizers_and_schedulers},
    ):
        with pytest.raises(InputError, match="(generator_every|optimizers) was"):
            start(
                *(tmp_path / "whole", birds, "--resume"),
                question=mlp_gan,
                networks=NETWORKS,
                **OWN | change,
            )
