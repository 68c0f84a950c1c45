"""Planar flows, schedules by step, free bits, early stopping, the small autoencoder."""

import math
import signal
from argparse import Namespace

import pytest
import torch
import train
from flows import PlanarFlow, PlanarVAE, planar_vae_loss
from helpers import command, interrupt_after, same, start
from logger import stopped_improving
from losses import free_bits_loss, kl_divergence, vae_loss
from options import BETA_MODES, arguments_of, get_args
from presets import NEIGHBOURS, PRESETS
from schedules import anneal_beta_scheduler, beta_schedule, cyclical_beta_scheduler
from small_ae import SmallAE
from utils import count_active_latents, preprocess_data, vis_recons

from common import InputError, Interrupted


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
    torch.manual_seed(0)
    _, terms = planar_vae_loss(model, x)
    noise = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    expected = (18 - 0.5 * noise.square() + 0.5 * 4).sum(dim=1).mean()
    assert terms["kl_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_identity_flows_leave_the_elbo_in_expectation():
    torch.manual_seed(0)
    model = PlanarVAE(6, num_flows=3)
    torch.nn.init.normal_(model.encoder.fc.bias)  # a posterior that is not the prior
    x = (torch.rand(2, 3, 32, 32) * 2 - 1).repeat(500, 1, 1, 1)
    with torch.no_grad():
        torch.manual_seed(1)
        plain, plain_terms = vae_loss(model, x)
        torch.manual_seed(1)
        loss, terms = planar_vae_loss(model, x)
    assert list(terms) == ["recon_loss", "kl_loss"]
    torch.testing.assert_close(terms["recon_loss"], plain_terms["recon_loss"])  # the same noise
    assert float(terms["kl_loss"]) == pytest.approx(float(plain_terms["kl_loss"]), rel=0.1)
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
    torch.manual_seed(2)
    _, terms = planar_vae_loss(model, x)
    noise = torch.randn(1, 1, generator=generator).double()
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


def test_schedules_by_epoch_and_by_step():
    options = Namespace(anneal_steps=100, cycles=2, ratio=0.5)
    by = {mode: beta_schedule(mode, 10, 1, 20, options) for mode in BETA_MODES}
    assert [by["constant"](epoch) for epoch in (0, 9)] == [1, 1]
    assert [by["linear"](epoch) for epoch in (0, 5)] == [0, 0.5]
    assert [by["anneal"](epoch)(50) for epoch in (0, 9)] == [0.5, 0.5]
    assert [by["cyclical"](epoch)(125) for epoch in (0, 9)] == [0.5, 0.5]  # half way up the second


def test_the_schedule_is_read_before_every_step(images, tmp_path, monkeypatch):
    """Steps 0, 1, ... of the whole run, whatever was resumed."""
    seen = []

    def record(model, x, beta):
        seen.append(beta)
        return vae_loss(model, x, beta)

    monkeypatch.setattr(train, "vae_loss", record)
    anneal = ["--beta_mode", "anneal", "--anneal_steps", 16]
    start(tmp_path / "run", images, *anneal, epochs=1, beta_mode="anneal")
    rows = start(tmp_path / "run", images, *anneal, "--resume", epochs=2, beta_mode="anneal")
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


def test_reconstructions_go_through_the_flows(tmp_path, real_pictures):
    torch.manual_seed(0)
    model = PlanarVAE(6, num_flows=2)
    for flow in model.flows:
        torch.nn.init.normal_(flow.u, std=2.0)
    grey = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    x = preprocess_data(grey)
    grid = vis_recons(model, grey, tmp_path / "recons.png")
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
                [x[:, 0, 0, 0], 0.1 * x[:, 0, 0, 0], torch.full((len(x),), 3.0)], dim=1
            )
            return mu, mu

    x = torch.zeros(200, 3, 2, 2)
    x[:, 0, 0, 0] = torch.linspace(0, 1, 200)  # as a loader gives them; variance 0.34 in [-1, 1]
    model = Encoded(1, 1)
    assert count_active_latents(model, [(x[:150], None), (x[150:], None)]) == 1
    assert count_active_latents(model, [(x, None)], threshold=0.003) == 2 and model.training


# ------------------------------------------------------------------------------------------------
# Runs


@pytest.mark.parametrize(
    "argv, options",
    [
        (["--flows", 2], {}),
        (["--anneal_steps", 6], {"beta_mode": "anneal"}),
        (["--cycles", 2], {"beta_mode": "cyclical"}),
        (["--free_bits", 0.5], {}),
    ],
)
def test_a_stopped_run_ends_bit_identical(argv, options, images, tmp_path, monkeypatch):
    argv = [*argv, *(["--beta_mode", options["beta_mode"]] if options else [])]
    expected = start(tmp_path / "whole", images, *argv, **options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3, signal.SIGTERM)
        with pytest.raises(Interrupted):
            start(tmp_path / "parts", images, *argv, **options)
    assert start(tmp_path / "parts", images, *argv, "--resume", **options) == expected
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_patience_is_a_number_of_epochs():
    rows = [{"val_loss": loss} for loss in (3.0, 2.0, 2.5, 2.6)]
    assert [stopped_improving(rows, n) for n in (1, 2, 3, None)] == [True, True, False, False]


def test_early_stopping(images, tmp_path, monkeypatch):
    losses = iter([5.0, 3.0, 4.0, 3.5, 9.0, 9.0])
    validate = train.get_val_metrics
    monkeypatch.setattr(
        train, "get_val_metrics", lambda *a, **k: validate(*a, **k) | {"loss": next(losses)}
    )
    rows = start(tmp_path / "run", images, "--patience", 2, epochs=6, eval_interval=10)
    assert [row["val_loss"] for row in rows] == [5.0, 3.0, 4.0, 3.5]
    assert (tmp_path / "run/epoch_3_samples.png").exists() and (tmp_path / "run/model.pt").exists()
    again = ["--resume", "--patience"]
    assert len(start(tmp_path / "run", images, *again, 2, epochs=6)) == 4  # it stays stopped
    assert len(start(tmp_path / "run", images, *again, 4, epochs=6)) == 6


def test_stopped_improving():
    rows = [{"val_loss": loss} for loss in (3.0, 2.0, 2.5, 2.0)]
    assert [stopped_improving(rows, patience) for patience in (None, 1, 2, 3)] == [
        False,
        True,
        True,
        False,
    ]
    assert not stopped_improving([], 1)


def test_the_small_autoencoder_is_the_report_s():
    model = SmallAE()
    shapes = [tuple(layer.weight.shape) for layer in model.modules() if hasattr(layer, "weight")]
    assert shapes == [(16, 3, 3, 3), (32, 16, 3, 3), (32, 16, 3, 3), (16, 3, 3, 3)]
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    code = model.encoder(x)
    assert code.shape == (2, model.latent_size) and model.decoder(code).shape == x.shape
    assert model.decoder(1e4 * code).abs().max() <= 1
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_147


def test_the_annealed_run_rises_for_most_of_its_steps():
    args = get_args("", ["vae_latent128_anneal"])
    arguments, options = arguments_of("vae_latent128_anneal", args)
    assert arguments["num_epochs"] * math.ceil(50_000 / arguments["batch_size"]) == 15_640
    assert options.anneal_steps == 10_000


def test_more_cycles_than_steps(images, tmp_path):
    argv = ["--beta_mode", "cyclical", "--cycles", 5]
    with pytest.raises(InputError, match="at most half of the run's 8 steps"):
        start(tmp_path / "run", images, *argv, beta_mode="cyclical")
    assert not (tmp_path / "run").exists()


def test_neighbours_by_name(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setattr("options.PRESETS", {"ae_latent16": PRESETS["ae_latent16"]})
    options = ["--dataset", "synthetic", "--num_epochs", 1, "--batch_size", 3]
    command("all", *NEIGHBOURS, *options, "--out_dir", tmp_path)
    assert capsys.readouterr().out.count("validation at epoch 0") == 1 + len(NEIGHBOURS)
    found = {
        name: torch.load(tmp_path / f"{name}_synthetic/state.pt", weights_only=True)["settings"]
        for name in NEIGHBOURS
    }
    anneal, bits = found["vae_latent128_anneal"], found["vae_latent128_free_bits0.5"]
    assert anneal["beta_mode"] == "anneal" and anneal["anneal_steps"] == 10_000
    assert bits["free_bits"] == 0.5 and found["ae_small"]["network"] == "small"
    assert found["vae_latent128_cyclical"]["beta_mode"] == "cyclical"
    planar = torch.load(tmp_path / "vae_latent128_planar4_synthetic/model.pt", weights_only=True)
    assert "flows.3.u" in planar
