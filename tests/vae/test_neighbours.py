"""Planar flows, schedules by step, free bits, early stopping, the small autoencoder."""

import math
import signal
from dataclasses import replace

import dataset
import pytest
import torch
import train
from dataset import draw_shapes
from flows import PlanarFlow, PlanarVAE, planar_vae_loss
from helpers import assert_refused, command, interrupt_after, same, start
from losses import free_bits_loss, kl_divergence, vae_loss
from schedules import anneal_beta_scheduler, beta_schedule, cyclical_beta_scheduler
from settings import BETA_MODES, NEIGHBOURS, PRESETS, Settings
from small_ae import SmallAE
from utils import count_active_latents, vis_recons

from common import InputError, Interrupted


@pytest.fixture(scope="module")
def images():
    return draw_shapes(40, torch.Generator().manual_seed(0)).split((32, 8))


def bent_flow(latent_size, seed=0, scale=1.5):
    torch.manual_seed(seed)
    flow = PlanarFlow(latent_size).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return flow


# ------------------------------------------------------------------------------------------------
# Planar flows


@pytest.mark.parametrize("seed", range(5))
def test_log_det_is_that_of_the_jacobian(seed):
    flow = bent_flow(4, seed)
    z = torch.randn(6, 4, dtype=torch.float64)
    moved, log_det = flow(z)
    assert (moved - z).norm(dim=1).min() > 1e-3  # not the identity
    for point, value in zip(z, log_det):
        jacobian = torch.autograd.functional.jacobian(
            lambda one: flow(one.unsqueeze(0))[0].squeeze(0), point
        )
        torch.testing.assert_close(value, torch.linalg.slogdet(jacobian).logabsdet)


def test_a_flow_begins_as_the_identity():
    torch.manual_seed(0)
    z = torch.randn(5, 16)
    moved, log_det = PlanarFlow(16)(z)
    torch.testing.assert_close(moved, z, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [-200.0, -2.0, 0.0, 3.0])
def test_a_flow_is_invertible_whatever_u_is(size):
    """Along w it is increasing: w^T u^ >= -1."""
    flow = bent_flow(3)
    with torch.no_grad():
        flow.u.copy_(size * flow.w / flow.w.square().sum())
    steps = torch.linspace(-3, 3, 400, dtype=torch.float64)
    line = steps.unsqueeze(1) * flow.w.detach()
    moved, log_det = flow(line)
    along = (moved @ flow.w).detach()
    assert (along.diff() >= -1e-12).all() and torch.isfinite(log_det).all()


def test_a_flow_that_is_nearly_flat_stays_finite_in_float32():
    flow = bent_flow(3).float()
    with torch.no_grad():
        flow.b.zero_()
        flow.u.copy_(-150 * flow.w / flow.w.square().sum())
    moved, log_det = flow(torch.zeros(1, 3))  # h = 0: the slope alone
    (moved.sum() + log_det.sum()).backward()
    assert torch.isfinite(log_det).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in flow.parameters())


def test_the_kl_term_is_exact_for_narrow_posteriors():
    """log q(z_0) comes from the noise: from z_0 - mu it would be lost to rounding."""
    torch.manual_seed(0)
    model = PlanarVAE(64, num_flows=1)
    torch.nn.init.zeros_(model.encoder.fc.weight)
    with torch.no_grad():
        model.encoder.fc.bias.copy_(torch.cat([torch.full((64,), 2.0), torch.full((64,), -18.0)]))
    x = torch.rand(8, 3, 32, 32) * 2 - 1
    _, terms = planar_vae_loss(model, x, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    expected = (18 - 0.5 * noise.square() + 0.5 * 4).sum(dim=1).mean()
    assert terms["kl_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_identity_flows_leave_the_elbo_in_expectation():
    torch.manual_seed(0)
    model = PlanarVAE(6, num_flows=3)
    torch.nn.init.normal_(model.encoder.fc.bias)  # a posterior that is not the prior
    x = (torch.rand(2, 3, 32, 32) * 2 - 1).repeat(2000, 1, 1, 1)
    with torch.no_grad():
        plain, plain_terms = vae_loss(model, x, generator=torch.Generator().manual_seed(1))
        loss, terms = planar_vae_loss(model, x, generator=torch.Generator().manual_seed(1))
    assert list(terms) == ["recon_loss", "kl_loss"]
    torch.testing.assert_close(terms["recon_loss"], plain_terms["recon_loss"])  # the same noise
    assert float(terms["kl_loss"]) == pytest.approx(float(plain_terms["kl_loss"]), rel=0.05)
    assert float(terms["kl_loss"]) != float(plain_terms["kl_loss"])  # it is an estimate
    assert float(loss) == pytest.approx(float(terms["recon_loss"] + terms["kl_loss"]))


def test_the_kl_of_bent_flows_is_that_of_the_density():
    """log q(z_K) by the change of variables, in one dimension, against a numerical derivative."""
    torch.manual_seed(0)
    model = PlanarVAE(1, num_flows=1).double()
    model.flows[0] = bent_flow(1, seed=3)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64) * 2 - 1
    mu, log_std = (output.double() for output in model.encoder(x))
    generator = torch.Generator().manual_seed(2)
    _, terms = planar_vae_loss(model, x, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(1, 1, dtype=torch.float64, generator=generator)
    z0 = (mu + log_std.exp() * noise).detach()
    step = 1e-6
    slope = (model.flows[0](z0 + step)[0] - model.flows[0](z0 - step)[0]) / (2 * step)
    normal = torch.distributions.Normal
    log_q = normal(mu, log_std.exp()).log_prob(z0) - slope.abs().log()
    expected = log_q - normal(0.0, 1.0).log_prob(model.flows[0](z0)[0])
    torch.testing.assert_close(
        terms["kl_loss"].float(), expected.squeeze().float(), rtol=1e-4, atol=1e-5
    )


# ------------------------------------------------------------------------------------------------
# Schedules and free bits


def test_annealing_at_known_steps():
    beta = anneal_beta_scheduler(10_000, 0.8)
    assert [beta(step) for step in (0, 2_500, 5_000, 10_000, 50_000)] == [0, 0.2, 0.4, 0.8, 0.8]
    with pytest.raises(ValueError, match="anneal_steps"):
        anneal_beta_scheduler(0)


def test_cycles_at_known_steps():
    beta = cyclical_beta_scheduler(800, cycles=4, ratio=0.5, target_val=2)
    assert [beta(step) for step in (0, 25, 50, 100, 199, 200, 250, 650, 799)] == [
        0,
        0.5,
        1,
        2,
        2,
        0,
        1,
        1,
        2,
    ]
    assert cyclical_beta_scheduler(100, cycles=1, ratio=1)(50) == 0.5
    for bad in ((0, 1, 0.5), (10, 0, 0.5), (10, 2, 0), (10, 2, 1.5)):
        with pytest.raises(ValueError, match="cyclical_beta_scheduler"):
            cyclical_beta_scheduler(*bad)


def test_schedules_by_epoch_ignore_the_step_and_the_others_the_epoch():
    by = {}
    for mode in BETA_MODES:
        settings = Settings(beta_mode=mode, num_epochs=10, anneal_steps=100, cycles=2)
        by[mode] = beta_schedule(settings, 20)
    assert [by["constant"](epoch, 7) for epoch in (0, 9)] == [1, 1]
    assert [by["linear"](5, step) for step in (0, 199)] == [0.5, 0.5]
    assert [by["anneal"](epoch, 50) for epoch in (0, 9)] == [0.5, 0.5]
    assert [by["cyclical"](epoch, 125) for epoch in (0, 9)] == [0.5, 0.5]  # a quarter on, half way


def test_the_schedule_is_read_before_every_step(images, tmp_path, monkeypatch):
    """Steps 0, 1, ... of the whole run, whatever was resumed."""
    seen = []

    def record(model, x, beta, generator=None):
        seen.append(beta)
        return vae_loss(model, x, beta, generator)

    monkeypatch.setattr(train, "vae_loss", record)
    options = {"beta_mode": "anneal", "anneal_steps": 16}
    rows = start(tmp_path / "run", images, epochs=1, **options)
    rows = start(tmp_path / "run", images, epochs=2, resume=True, **options)
    # 1: validation
    assert [beta for beta in seen if beta != 1] == [step / 16 for step in range(8)]
    assert [row["beta"] for row in rows] == [3 / 16, 7 / 16]


class Coded:
    """A model with a known posterior of two latents and a perfect decoder."""

    def __init__(self, mu, log_std):
        self.code = mu, log_std

    def encoder(self, x):
        return self.code

    def decoder(self, z):
        return torch.zeros(len(z), 3, 32, 32) + 0 * z.sum()


def test_free_bits_by_hand():
    """Latent 0 has a mean KL of (0.5 + 0) / 2 = 0.25 nats, latent 1 of (2 + 8) / 2 = 5."""
    mu = torch.tensor([[1.0, 2.0], [0.0, 4.0]], requires_grad=True)
    model, x = Coded(mu, torch.zeros(2, 2)), torch.zeros(2, 3, 32, 32)
    loss, terms = free_bits_loss(model, x, beta=2, free_bits=0.5)
    assert terms["kl_loss"].item() == 5.25 and terms["recon_loss"].item() == 0
    assert loss.item() == 2 * (0.5 + 5)
    loss.backward()
    assert mu.grad[:, 0].tolist() == [0, 0] and mu.grad[:, 1].tolist() == [2 * 2 / 2, 2 * 4 / 2]
    loss, terms = free_bits_loss(model, x, free_bits=0.0)
    torch.testing.assert_close(loss, kl_divergence(*model.code))


def test_reconstructions_go_through_the_flows(tmp_path):
    torch.manual_seed(0)
    model = PlanarVAE(6, num_flows=2)
    for flow in model.flows:
        torch.nn.init.normal_(flow.u, std=2.0)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    grid = vis_recons(model, x, tmp_path / "recons.png")
    shown = torch.stack(
        [grid[:, 8:136, 8 + 142 * n : 136 + 142 * n][:, ::4, ::4] for n in (1, 3, 5)]
    )  # zoomed by 4, inside frames
    with torch.no_grad():
        mu, _ = model.encoder(x)
        expected = model.decoder(model.transform(mu)[0]).add(1).div(2).clamp(0, 1)
        without = model.decoder(mu).add(1).div(2).clamp(0, 1)
    torch.testing.assert_close(shown, expected)
    assert not torch.allclose(expected, without, atol=1e-4)


def test_active_latents():
    class Encoded(torch.nn.Linear):
        def encoder(self, x):
            mu = torch.stack(
                [x[:, 0, 0, 0], 0.05 * x[:, 0, 0, 0], torch.full((len(x),), 3.0)], dim=1
            )
            return mu, mu

    x = torch.zeros(200, 3, 2, 2)
    x[:, 0, 0, 0] = torch.linspace(
        -2, 2, 200
    )  # variance 1.35; of the second latent 0.0034; of the third 0
    model = Encoded(1, 1)
    assert count_active_latents(model, [(x[:150], None), (x[150:], None)]) == 1
    assert count_active_latents(model, [(x, None)], threshold=0.003) == 2 and model.training


# ------------------------------------------------------------------------------------------------
# Runs


@pytest.mark.parametrize(
    "options",
    [
        {"flows": 2},
        {"beta_mode": "anneal", "anneal_steps": 6},
        {"beta_mode": "cyclical", "cycles": 2},
        {"free_bits": 0.5},
        {"loss_mode": "ae", "network": "small", "latent_size": 2048},
    ],
)
def test_a_stopped_run_ends_bit_identical(options, images, tmp_path, monkeypatch):
    expected = start(tmp_path / "whole", images, **options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3, signal.SIGTERM)
        with pytest.raises(Interrupted):
            start(tmp_path / "parts", images, **options)
    assert start(tmp_path / "parts", images, resume=True, **options) == expected
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_early_stopping(images, tmp_path, monkeypatch):
    losses = iter([5.0, 3.0, 4.0, 3.5, 9.0, 9.0])
    validate = train.get_val_metrics
    monkeypatch.setattr(
        train, "get_val_metrics", lambda *args: validate(*args) | {"loss": next(losses)}
    )
    rows = start(tmp_path / "run", images, epochs=6, patience=2, eval_interval=10)
    assert [row["val_loss"] for row in rows] == [5.0, 3.0, 4.0, 3.5]
    assert (tmp_path / "run" / "epoch_3_samples.png").exists() and (
        tmp_path / "run" / "model.pt"
    ).exists()
    assert (
        len(start(tmp_path / "run", images, epochs=6, patience=2, resume=True)) == 4
    )  # it stays stopped
    assert len(start(tmp_path / "run", images, epochs=6, patience=4, resume=True)) == 6


def test_stopped_improving():
    rows = [{"val_loss": loss} for loss in (3.0, 2.0, 2.5, 2.0)]
    assert [train.stopped_improving(rows, patience) for patience in (None, 1, 2, 3)] == [
        False,
        True,
        True,
        False,
    ]
    assert not train.stopped_improving([], 1)


def test_the_small_autoencoder_is_the_report_s():
    model = SmallAE()
    shapes = [tuple(layer.weight.shape) for layer in model.modules() if hasattr(layer, "weight")]
    assert shapes == [(16, 3, 3, 3), (32, 16, 3, 3), (32, 16, 3, 3), (16, 3, 3, 3)]
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    code = model.encoder(x)
    assert code.shape == (2, model.latent_size) and model.decoder(code).shape == x.shape
    assert model.decoder(1e4 * code).abs().max() <= 1
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_147


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_each_neighbour_has_a_model_and_losses(name, images):
    settings = replace(NEIGHBOURS[name], batch_size=8)
    precision = train.choose_precision(torch.device("cpu"), amp_enabled=False)
    trainer = train.AutoencoderTrainer(images, settings, precision)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    rng = torch.Generator().manual_seed(0)
    for value, terms in (trainer.loss(trainer.model, x), trainer.val_loss(trainer.model, x, rng)):
        assert torch.isfinite(value) and "recon_loss" in terms


def test_the_annealed_run_rises_for_most_of_its_steps():
    settings = NEIGHBOURS["vae_latent128_anneal"]
    assert settings.num_epochs * math.ceil(50_000 / settings.batch_size) == 15_640
    assert settings.anneal_steps == 10_000


@pytest.mark.parametrize(
    "begun, now, name",
    [
        ({"free_bits": 0.5}, {}, "free_bits"),
        ({}, {"free_bits": 0.5}, "free_bits"),
        ({"flows": 2}, {"flows": 3}, "flows"),
        ({"beta_mode": "anneal", "anneal_steps": 5}, {"beta_mode": "anneal"}, "anneal_steps"),
    ],
)
def test_a_run_goes_on_with_its_own_settings_only(begun, now, name, images, tmp_path):
    start(tmp_path / "run", images, epochs=1, **begun)
    with pytest.raises(InputError, match=f"--{name} was"):
        start(tmp_path / "run", images, epochs=2, resume=True, **now)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"flows": 2, "loss_mode": "ae"}, "belong to a VAE"),
        ({"flows": 2, "free_bits": 0.5}, "exclude each other"),
        ({"network": "small"}, "small is an autoencoder"),
        ({"beta_mode": "sawtooth"}, "expected one of constant, linear, anneal, cyclical"),
        ({"network": "samll", "loss_mode": "ae"}, "got 'samll'"),
        ({"free_bits": -1}, "--free_bits: got -1, expected float >= 0"),
        ({"flows": -2}, "--flows: got -2, expected int >= 0 and <= 1000"),
        ({"beta_mode": "cyclical", "cycles": 0}, "expected int >= 1"),
        ({"beta_mode": "cyclical", "cycles": 5}, "at most half of the run's 8 steps"),
    ],
)
def test_settings_that_do_not_go_together(options, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", images, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "argv, message",
    [
        (
            ["--log_dir", "a", "--beta_mode", "cyclical", "--ratio", "1.5"],
            "expected float > 0 and <= 1",
        ),
        (["--log_dir", "a", "--anneal_steps", "5"], "--anneal_steps goes with --beta_mode anneal"),
        (["--log_dir", "a", "--cycles", "2"], "--cycles goes with --beta_mode cyclical"),
        (["--log_dir", "a", "--loss_mode", "ae", "--flows", "2"], "belong to a VAE"),
        (["vae_latent128_planar4", "--flows", "2"], "leave them out"),
        (["--log_dir", "a", "--patience", "0"], "expected int >= 1"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(argv, message, tmp_path, capsys):
    assert_refused(argv, message, tmp_path, capsys)


def test_neighbours_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "SYNTHETIC_IMAGES", (130, 10))
    names = ["vae_latent128_planar4", "vae_latent128_anneal"]
    monkeypatch.setattr("settings.PRESETS", {"ae_latent16": PRESETS["ae_latent16"]})
    command(
        "all", *names, "--dataset", "synthetic", "--num_epochs", "1", "--out_dir", str(tmp_path)
    )
    assert capsys.readouterr().out.count("validation at epoch 0") == 3
    state = torch.load(tmp_path / "vae_latent128_anneal_synthetic" / "state.pt", weights_only=True)
    assert state["settings"]["batch_size"] == 64 and state["settings"]["anneal_steps"] == 10_000
    assert "flows.3.u" in torch.load(
        tmp_path / "vae_latent128_planar4_synthetic" / "model.pt", weights_only=True
    )
