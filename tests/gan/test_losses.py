"""Each loss against numbers worked out by hand from its paper's equation."""

import math

import pytest
import q1_3
import q1_4
import q1_5
import torch

# Neither side is symmetric about 0 or 1, alone or together: a sign or a target turned shows.
REAL = torch.tensor([[0.0], [2.0]])
FAKE = torch.tensor([[-1.0], [1.5]])


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


def test_gan_is_algorithm_1_on_logits():
    expected = -(math.log(sigmoid(0)) + math.log(sigmoid(2))) / 2
    expected -= (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(1.5))) / 2
    got = float(q1_3.compute_discriminator_loss(REAL, FAKE, None, None, 10))
    assert got == pytest.approx(expected, rel=1e-6)
    non_saturating = -(math.log(sigmoid(-1)) + math.log(sigmoid(1.5))) / 2
    assert float(q1_3.compute_generator_loss(FAKE)) == pytest.approx(non_saturating, rel=1e-6)


def test_gan_loss_is_finite_for_any_score():
    extreme = torch.tensor([[-1e4], [1e4]])
    loss = q1_3.compute_discriminator_loss(extreme, extreme, None, None, 10)
    assert float(loss) == pytest.approx(1e4)
    assert float(q1_3.compute_generator_loss(extreme)) == pytest.approx(5e3)


def test_lsgan_is_equation_2_with_its_halves():
    # 1/2 mean((0-1)^2, (2-1)^2) + 1/2 mean((-1)^2, 1.5^2) = 1/2 + 3.25 / 4
    assert float(q1_4.compute_discriminator_loss(REAL, FAKE, None, None, 10)) == 1.3125
    # 1/2 mean((-1-1)^2, (1.5-1)^2) = 4.25 / 4
    assert float(q1_4.compute_generator_loss(FAKE)) == 1.0625


def test_wgan_gp_with_a_critic_of_known_gradient():
    # D(x) = a * x[0] + b * x[1] has the gradient (a, b): norm 5 for one image, 13 for the other.
    slopes = torch.tensor([[3.0, 4.0], [5.0, 12.0]])
    interp = torch.zeros(2, 3, 2, 2, requires_grad=True)
    discrim_interp = (interp[:, 0, 0, :] * slopes).sum(dim=1, keepdim=True)
    loss = q1_5.compute_discriminator_loss(REAL, FAKE, discrim_interp, interp, 10)
    # E[D(fake)] - E[D(real)] = 0.25 - 1, penalty = mean((5-1)^2, (13-1)^2) = 80
    assert float(loss) == pytest.approx(-0.75 + 10 * 80)
    assert float(q1_5.compute_discriminator_loss(REAL, FAKE, None, None, 10)) == -0.75
    assert float(q1_5.compute_generator_loss(FAKE)) == -0.25


def test_wgan_gp_penalty_can_be_differentiated():
    weight = torch.tensor(3.0, requires_grad=True)
    interp = torch.ones(4, 3, 2, 2, requires_grad=True)
    discrim_interp = (weight * interp[:, 0, 0, 0]).unsqueeze(1)  # gradient norm |weight|
    zero = torch.zeros(4, 1)
    q1_5.compute_discriminator_loss(zero, zero, discrim_interp, interp, 10).backward()
    assert float(weight.grad) == pytest.approx(10 * 2 * (3 - 1))


def test_the_penalty_is_two_sided():
    """A gradient below 1 costs as one above it."""
    interp = torch.ones(1, 3, 2, 2, requires_grad=True)
    flat = (0.25 * interp[:, 0, 0, 0]).unsqueeze(1)
    zero = torch.zeros(1, 1)
    loss = q1_5.compute_discriminator_loss(zero, zero, flat, interp, 2)
    assert float(loss) == pytest.approx(2 * 0.75**2)
