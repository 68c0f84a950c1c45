"""The fully connected GAN: networks, loss by hand, rates, the shared loop with steps one to one."""

import csv
import json
import math
import os
import signal

import main
import mlp_gan
import pytest
import torch
import train
from settings import Settings, get_args
from train import Losses

from common import Interrupted


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


LOSSES = Losses(mlp_gan.compute_discriminator_loss, mlp_gan.compute_generator_loss, False)
NETWORKS = mlp_gan.MLPGenerator, mlp_gan.MLPDiscriminator


def start(folder, birds, iterations, **options):
    torch.manual_seed(0)
    train.train_model(
        *(network() for network in NETWORKS),
        iterations,
        4,
        prefix=folder,
        images=birds,
        gen_loss_fn=LOSSES.generator,
        disc_loss_fn=LOSSES.discriminator,
        log_period=2,
        interpolates=False,
        make_optimizers=mlp_gan.get_optimizers_and_schedulers,
        settings=Settings(fid="off", generator_every=1),
        **options,
    )
    with open(folder / "metrics.csv", newline="") as file:
        rows = [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]
    return rows, torch.load(folder / "generator.pt", weights_only=True)


def test_a_stopped_run_ends_bit_identical(birds, tmp_path, monkeypatch):
    """Dropout's noise included, and with a generator step in every iteration."""
    steps = []
    generator_step = train.generator_step
    monkeypatch.setattr(
        train, "generator_step", lambda *args: steps.append(1) or generator_step(*args)
    )
    rows, weights = start(tmp_path / "whole", birds, 5)
    assert len(steps) == 5
    iterate = train.Trainer.iterate

    def iterate_and_signal(self):
        iterate(self)
        if self.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "iterate", iterate_and_signal)
        with pytest.raises(Interrupted):
            start(tmp_path / "parts", birds, 5)
    again, got = start(tmp_path / "parts", birds, 5, resume=True)
    assert again == rows and all(torch.equal(got[name], weights[name]) for name in weights)


def test_train_and_evaluate(bird_folder, tiny_features, tmp_path, capsys):
    options = ["--data_dir", str(bird_folder), "--fid", str(tiny_features), "--num_gen", "8", "8"]
    options += ["--out_dir", str(tmp_path), "--device", "cpu"]
    evaluation = [*options, "--evaluate"]
    options += ["--batch_size", "4", "--num_iterations", "2"]
    main.run(get_args("", "data_mlp_gan", options), LOSSES, NETWORKS, generator_every=1)
    main.run(get_args("", "data_mlp_gan", evaluation), LOSSES, NETWORKS)
    assert (tmp_path / "generator_samples.png").exists() and (
        tmp_path / "generator_score_train.json"
    ).exists()
    assert (tmp_path / "fid_vs_iterations.png").exists()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["loss"] == "mlp_gan" and config["networks"] == [
        "MLPGenerator",
        "MLPDiscriminator",
    ]
    assert config["generator_every"] == 1
    with pytest.raises(SystemExit):  # a run goes on with the same steps
        argv = [*options, "--resume", "--num_iterations", "3"]
        main.run(get_args("", "data_mlp_gan", argv), LOSSES, NETWORKS)
    assert "generator_every was 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # the convolutional generator is another one
        main.run(get_args("", "data_gan", evaluation), LOSSES)
    assert "does not hold the weights of a Generator" in capsys.readouterr().err
