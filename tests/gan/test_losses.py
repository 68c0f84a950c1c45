"""Each loss against numbers worked out by hand from its paper's equation."""

import math
import runpy

import pytest
import q1_3
import q1_4
import q1_5
import torch

REAL = torch.tensor([[0.0], [2.0]])
FAKE = torch.tensor([[-1.0], [1.0]])


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


def test_gan_is_algorithm_1_on_logits():
    expected = -(math.log(sigmoid(0)) + math.log(sigmoid(2))) / 2
    expected -= (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(1))) / 2
    assert float(q1_3.compute_discriminator_loss(REAL, FAKE, None, None, 10)) == pytest.approx(
        expected, rel=1e-6
    )
    non_saturating = -(math.log(sigmoid(-1)) + math.log(sigmoid(1))) / 2
    assert float(q1_3.compute_generator_loss(FAKE)) == pytest.approx(non_saturating, rel=1e-6)


def test_gan_loss_is_finite_for_any_score():
    extreme = torch.tensor([[-1e4], [1e4]])
    assert float(
        q1_3.compute_discriminator_loss(extreme, extreme, None, None, 10)
    ) == pytest.approx(1e4)
    assert float(q1_3.compute_generator_loss(extreme)) == pytest.approx(5e3)


def test_lsgan_is_equation_2_with_its_halves():
    # 1/2 mean((0-1)^2, (2-1)^2) + 1/2 mean((-1)^2, 1^2) = 1/2 + 1/2
    assert float(q1_4.compute_discriminator_loss(REAL, FAKE, None, None, 10)) == 1.0
    # 1/2 mean((-1-1)^2, (1-1)^2) = 1
    assert float(q1_4.compute_generator_loss(FAKE)) == 1.0


def test_wgan_gp_with_a_critic_of_known_gradient():
    # D(x) = a * x[0] + b * x[1] has the gradient (a, b): norm 5 for one image, 13 for the other.
    slopes = torch.tensor([[3.0, 4.0], [5.0, 12.0]])
    interp = torch.zeros(2, 3, 2, 2, requires_grad=True)
    discrim_interp = (interp[:, 0, 0, :] * slopes).sum(dim=1, keepdim=True)
    loss = q1_5.compute_discriminator_loss(REAL, FAKE, discrim_interp, interp, 10)
    # E[D(fake)] - E[D(real)] = 0 - 1, penalty = mean((5-1)^2, (13-1)^2) = 80
    assert float(loss) == pytest.approx(-1 + 10 * 80)
    assert float(q1_5.compute_discriminator_loss(REAL, FAKE, None, None, 10)) == -1.0
    assert float(q1_5.compute_generator_loss(FAKE)) == 0.0
    assert float(q1_5.compute_generator_loss(REAL)) == -1.0


def test_wgan_gp_penalty_can_be_differentiated():
    weight = torch.tensor(3.0, requires_grad=True)
    interp = torch.ones(4, 3, 2, 2, requires_grad=True)
    discrim_interp = (weight * interp[:, 0, 0, 0]).unsqueeze(1)  # gradient norm |weight|
    zero = torch.zeros(4, 1)
    q1_5.compute_discriminator_loss(zero, zero, discrim_interp, interp, 10).backward()
    assert float(weight.grad) == pytest.approx(10 * 2 * (3 - 1))


@pytest.mark.parametrize("question, interpolates", [(q1_3, False), (q1_4, False), (q1_5, True)])
def test_only_wgan_gp_asks_for_interpolates(question, interpolates, monkeypatch):
    """In the line below its formulas, where a script hands its losses over."""
    import main

    asked = []
    monkeypatch.setattr(main, "run", lambda args, losses: asked.append(losses))
    monkeypatch.setattr("sys.argv", ["a script"])
    runpy.run_path(question.__file__, run_name="__main__")
    assert [losses.interpolates for losses in asked] == [interpolates]
    assert asked[0].discriminator.__name__ == "compute_discriminator_loss"
    assert asked[0].generator.__name__ == "compute_generator_loss"
