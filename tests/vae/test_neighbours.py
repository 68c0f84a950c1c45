"""Planar flows, schedules by step, free bits, early stopping, the small autoencoder."""

import math
from argparse import Namespace

import pytest
import torch
import train
from flows import PlanarFlow, PlanarVAE, planar_vae_loss
from helpers import command, start
from logger import stopped_improving
from losses import free_bits_loss, kl_divergence, vae_loss
from options import BETA_MODES, arguments_of, get_args
from presets import NEIGHBOURS, PRESETS
from schedules import anneal_beta_scheduler, beta_schedule, cyclical_beta_scheduler
from small_ae import SmallAE
from torch.distributions import Normal
from utils import count_active_latents, preprocess_data, vis_recons


def bent_flow(latent_size, seed=0):
    torch.manual_seed(seed)
    flow = PlanarFlow(latent_size).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=1.5)
    return flow


@pytest.mark.parametrize("seed", range(3))
def test_log_det_is_that_of_the_jacobian(seed):
    flow, z = bent_flow(4, seed), torch.randn(6, 4, dtype=torch.float64)
    moved, log_det = flow(z)
    assert (moved - z).norm(dim=1).min() > 1e-3  # not the identity
    for point, value in zip(z, log_det):
        jacobian = torch.autograd.functional.jacobian(lambda one: flow(one[None])[0][0], point)
        torch.testing.assert_close(value, torch.linalg.slogdet(jacobian).logabsdet)


def test_a_flow_begins_as_the_identity():
    torch.manual_seed(0)
    z = torch.randn(5, 16)
    moved, log_det = PlanarFlow(16)(z)
    torch.testing.assert_close(moved, z, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [-200.0, -2.0, 0.0, 3.0])
def test_a_flow_is_invertible_whatever_u_is(size):
    """Along w it is increasing: w^T u^ >= -1; and nearly flat it stays finite in float32."""
    flow = bent_flow(3)
    with torch.no_grad():
        flow.u.copy_(size * flow.w / flow.w.square().sum())
        flow.b.zero_()
    steps = torch.linspace(-3, 3, 400, dtype=torch.float64)
    moved, log_det = flow(steps.unsqueeze(1) * flow.w.detach())
    assert ((moved @ flow.w).diff() >= -1e-12).all() and torch.isfinite(log_det).all()
    moved, log_det = flow.float()(torch.zeros(1, 3))  # h = 0: the slope alone
    (moved.sum() + log_det.sum()).backward()
    assert torch.isfinite(log_det).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in flow.parameters())


def test_the_kl_term_is_exact_for_narrow_posteriors():
    """log q(z_0) comes from the noise: from z_0 - mu it would be lost to rounding."""
    torch.manual_seed(0)
    model = PlanarVAE(64, num_flows=1)
    torch.nn.init.zeros_(model.encoder.fc.weight)
    with torch.no_grad():
        model.encoder.fc.bias.copy_(torch.tensor([2.0, -18.0]).repeat_interleave(64))
    torch.manual_seed(0)
    _, terms = planar_vae_loss(model, torch.zeros(8, 3, 32, 32))
    noise = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    expected = (18 - 0.5 * noise.square() + 0.5 * 4).sum(dim=1).mean()
    assert terms["kl_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_identity_flows_leave_the_elbo_in_expectation():
    torch.manual_seed(0)
    model = PlanarVAE(6, num_flows=3)
    torch.nn.init.normal_(model.encoder.fc.bias)  # a posterior that is not the prior
    x = (torch.rand(2, 3, 32, 32) * 2 - 1).repeat(250, 1, 1, 1)
    found = []
    for loss in (vae_loss, planar_vae_loss):
        torch.manual_seed(1)  # the same noise
        with torch.no_grad():
            found.append(loss(model, x))
    (_, plain), (total, terms) = found
    assert list(terms) == ["recon_loss", "kl_loss"]
    torch.testing.assert_close(terms["recon_loss"], plain["recon_loss"])
    assert float(terms["kl_loss"]) == pytest.approx(float(plain["kl_loss"]), rel=0.1)
    assert float(terms["kl_loss"]) != float(plain["kl_loss"])  # it is an estimate
    assert float(total) == pytest.approx(float(terms["recon_loss"] + terms["kl_loss"]))


def test_the_kl_of_bent_flows_is_that_of_the_density():
    """log q(z_K) by the change of variables, in one dimension, against a numerical derivative."""
    torch.manual_seed(0)
    model = PlanarVAE(1, num_flows=1).double()
    flow = model.flows[0] = bent_flow(1, seed=3)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64) * 2 - 1
    mu, log_std = (output.double() for output in model.encoder(x))
    torch.manual_seed(2)
    _, terms = planar_vae_loss(model, x)
    noise = torch.randn(1, 1, generator=torch.Generator().manual_seed(2)).double()
    z0, step = (mu + log_std.exp() * noise).detach(), 1e-6
    slope = (flow(z0 + step)[0] - flow(z0 - step)[0]) / (2 * step)
    log_q = Normal(mu, log_std.exp()).log_prob(z0) - slope.abs().log()
    expected = (log_q - Normal(0.0, 1.0).log_prob(flow(z0)[0])).squeeze().float()
    torch.testing.assert_close(terms["kl_loss"].float(), expected, rtol=1e-4, atol=1e-5)


def test_reconstructions_go_through_the_flows(tmp_path, real_pictures):
    torch.manual_seed(0)
    model = PlanarVAE(6, num_flows=2)
    for flow in model.flows:
        torch.nn.init.normal_(flow.u, std=2.0)
    grey = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    grid = vis_recons(model, grey, tmp_path / "recons.png")
    cells = [grid[:, 8:136, 8 + 142 * n : 136 + 142 * n] for n in (1, 3, 5)]  # inside frames
    shown = torch.stack([cell[:, ::4, ::4] for cell in cells])  # zoomed by 4
    with torch.no_grad():
        mu, _ = model.encoder(preprocess_data(grey))
        both = (model.decoder(z).add(1).div(2).clamp(0, 1) for z in (model.transform(mu)[0], mu))
        expected, without = both
    torch.testing.assert_close(shown, expected)
    assert not torch.allclose(expected, without, atol=1e-4)


# ------------------------------------------------------------------------------------------------
# Schedules, free bits, active latents


def test_annealing_and_cycles_at_known_steps():
    beta = anneal_beta_scheduler(10_000, 0.8)
    assert [beta(step) for step in (0, 2_500, 5_000, 10_000, 50_000)] == [0, 0.2, 0.4, 0.8, 0.8]
    beta = cyclical_beta_scheduler(800, cycles=4, ratio=0.5, target_val=2)
    steps = {0: 0, 25: 0.5, 50: 1, 100: 2, 199: 2, 200: 0, 250: 1, 650: 1, 799: 2}
    assert {step: beta(step) for step in steps} == steps
    assert cyclical_beta_scheduler(100, cycles=1, ratio=1)(50) == 0.5
    with pytest.raises(ValueError, match="anneal_steps"):
        anneal_beta_scheduler(0)
    for bad in ((0, 1, 0.5), (10, 0, 0.5), (10, 2, 0), (10, 2, 1.5)):
        with pytest.raises(ValueError, match="cyclical_beta_scheduler"):
            cyclical_beta_scheduler(*bad)


def test_schedules_by_epoch_and_by_step():
    options = Namespace(anneal_steps=100, cycles=2, ratio=0.5)
    by = {mode: beta_schedule(mode, 10, 1, 20, options) for mode in BETA_MODES}
    assert [by["constant"](epoch) for epoch in (0, 9)] == [1, 1]
    assert [by["linear"](epoch) for epoch in (0, 5)] == [0, 0.5]
    assert [by["anneal"](epoch)(50) for epoch in (0, 9)] == [0.5, 0.5]
    assert [by["cyclical"](epoch)(125) for epoch in (0, 9)] == [0.5, 0.5]  # half way up the second


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
    loss, _ = free_bits_loss(model, x, free_bits=0.0)
    torch.testing.assert_close(loss, kl_divergence(*model.code))


def test_active_latents():
    class Encoded(torch.nn.Linear):
        def encoder(self, x):
            first = x[:, :1, 0, 0]
            mu = torch.cat([first, 0.1 * first, 0 * first + 3.0], dim=1)
            return mu, mu

    x = torch.zeros(200, 3, 2, 2)
    x[:, 0, 0, 0] = torch.linspace(0, 1, 200)  # as a loader gives them; variance 0.34 in [-1, 1]
    model = Encoded(1, 1)
    assert count_active_latents(model, [(x[:150], None), (x[150:], None)]) == 1
    assert count_active_latents(model, [(x, None)], threshold=0.003) == 2 and model.training


# ------------------------------------------------------------------------------------------------
# Runs


def test_early_stopping(images, tmp_path, monkeypatch):
    """Patience is a number of epochs without a better validation loss."""
    for losses, stopped in (((3.0, 2.0, 2.5, 2.6), [True, True, False, False]), ((), [False] * 4)):
        rows = [{"val_loss": loss} for loss in losses]
        assert [stopped_improving(rows, n) for n in (1, 2, 3, None)] == stopped
    losses, validate = iter([5.0, 3.0, 4.0, 3.5, 9.0, 9.0]), train.get_val_metrics
    known = lambda *a, **k: validate(*a, **k) | {"loss": next(losses)}
    monkeypatch.setattr(train, "get_val_metrics", known)
    rows = start(tmp_path / "run", images, "--patience", 2, epochs=6, eval_interval=10)
    assert [row["val_loss"] for row in rows] == [5.0, 3.0, 4.0, 3.5]
    assert (tmp_path / "run/epoch_3_samples.png").exists() and (tmp_path / "run/model.pt").exists()
    again = ["--resume", "--patience"]
    assert len(start(tmp_path / "run", images, *again, 2, epochs=6)) == 4  # it stays stopped
    assert len(start(tmp_path / "run", images, *again, 4, epochs=6)) == 6


def test_the_small_autoencoder_is_the_report_s():
    model, x = SmallAE(), torch.rand(2, 3, 32, 32) * 2 - 1
    shapes = [tuple(layer.weight.shape) for layer in model.modules() if hasattr(layer, "weight")]
    assert shapes == [(16, 3, 3, 3), (32, 16, 3, 3), (32, 16, 3, 3), (16, 3, 3, 3)]
    code = model.encoder(x)
    assert code.shape == (2, model.latent_size) and model.decoder(code).shape == x.shape
    assert model.decoder(1e4 * code).abs().max() <= 1
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_147


def test_neighbours_by_name(tmp_path, small, monkeypatch, capsys):
    annealed, options = arguments_of("vae_latent128_anneal", get_args("", ["vae_latent128_anneal"]))
    assert annealed["num_epochs"] * math.ceil(50_000 / annealed["batch_size"]) == 15_640
    assert options.anneal_steps == 10_000  # it rises for most of its steps
    monkeypatch.setattr("options.PRESETS", {"ae_latent16": PRESETS["ae_latent16"]})
    short = ["--dataset", "synthetic", "--num_epochs", 1, "--batch_size", 3]
    command("all", *NEIGHBOURS, *short, "--out_dir", tmp_path)
    assert capsys.readouterr().out.count("validation at epoch 0") == 1 + len(NEIGHBOURS)

    def stored(name, file="state.pt"):
        return torch.load(tmp_path / f"{name}_synthetic" / file, weights_only=True)

    found = {name: stored(name)["settings"] for name in NEIGHBOURS}
    assert found["vae_latent128_anneal"]["beta_mode"] == "anneal"
    assert found["vae_latent128_free_bits0.5"]["free_bits"] == 0.5
    assert found["ae_small"]["network"] == "small"
    assert found["vae_latent128_cyclical"]["beta_mode"] == "cyclical"
    assert "flows.3.u" in stored("vae_latent128_planar4", "model.pt")
