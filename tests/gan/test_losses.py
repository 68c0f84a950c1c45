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


def log_d(score):
    """log D(x), D = sigmoid(score); log(1 - D(x)) is that of -score."""
    return -math.log(1 + math.exp(-score))


def test_gan_is_algorithm_1_on_logits_and_finite():
    expected = -(log_d(0) + log_d(2) + log_d(1) + log_d(-1.5)) / 2
    got = float(q1_3.compute_discriminator_loss(REAL, FAKE, None, None, 10))
    assert got == pytest.approx(expected, rel=1e-6)
    non_saturating = -(log_d(-1) + log_d(1.5)) / 2
    assert float(q1_3.compute_generator_loss(FAKE)) == pytest.approx(non_saturating, rel=1e-6)
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
    """The penalty is two-sided, per image, and can be differentiated."""
    # D(x) = a * x[0] + b * x[1] has the gradient (a, b): norms 5, 13 and, below 1, 0.25.
    slopes = torch.tensor([[3.0, 4.0], [5.0, 12.0], [0.25, 0.0]], requires_grad=True)
    interp = torch.zeros(3, 3, 2, 2, requires_grad=True)
    discrim_interp = (interp[:, 0, 0, :] * slopes).sum(dim=1, keepdim=True)
    loss = q1_5.compute_discriminator_loss(REAL, FAKE, discrim_interp, interp, 2)
    # E[D(fake)] - E[D(real)] = 0.25 - 1, penalty = mean((5-1)^2, (13-1)^2, (0.25-1)^2)
    assert float(loss.detach()) == pytest.approx(-0.75 + 2 * (16 + 144 + 0.5625) / 3)
    loss.backward()  # 2 (norm - 1) times the direction, of each image
    slopes_of_slopes = 2 * 2 / 3 * torch.tensor([[2.4, 3.2], [60 / 13, 144 / 13], [-0.75, 0.0]])
    torch.testing.assert_close(slopes.grad, slopes_of_slopes)
    assert float(q1_5.compute_discriminator_loss(REAL, FAKE, None, None, 10)) == -0.75
    assert float(q1_5.compute_generator_loss(FAKE)) == -0.25
