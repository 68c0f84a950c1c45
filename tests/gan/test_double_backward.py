"""The discriminator's layers are torch's, to any order of differentiation, and send no zeros."""

import double_backward
import pytest
import q1_5
import torch
from networks import Discriminator
from torch import nn
from torch.autograd import grad, gradcheck, gradgradcheck

X = torch.randn(1, 2, 4, 6, dtype=torch.double, requires_grad=True)
LAYERS = {
    "convolution": double_backward.Conv2d(2, 2, 3, padding=1).double(),
    "1x1, no bias": double_backward.Conv2d(2, 3, 1, bias=False).double(),
    "relu": double_backward.ReLU(),
    "pooling": lambda x: double_backward.avg_pool2d(x, 2),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_gradients_and_theirs(layer):
    assert gradcheck(layer, (X,)) and gradgradcheck(layer, (X,))
    weights = dict(layer.named_parameters()) if isinstance(layer, nn.Module) else {}
    of_weights = lambda *w: torch.func.functional_call(layer, dict(zip(weights, w)), (X,))
    if weights:
        assert gradcheck(of_weights, (*weights.values(),))
        assert gradgradcheck(of_weights, (*weights.values(),))


def plain():
    """The same with torch's own layers."""
    torch.manual_seed(0)
    disc = Discriminator()
    theirs = {double_backward.Conv2d: nn.Conv2d, double_backward.ReLU: nn.ReLU}
    for module in disc.modules():
        module.__class__ = theirs.get(type(module), type(module))
    return disc


def penalty_gradients(disc, dtype=None):
    x = torch.linspace(-1, 1, 2 * 3072).view(2, 3, 32, 32).requires_grad_()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        scores = disc(x).float()
    zero = torch.zeros(2, 1)
    q1_5.compute_discriminator_loss(zero, zero, scores, x, 10).backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in disc.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("dtype, tolerance", [(None, 1e-5), (torch.bfloat16, 0.05)])
def test_the_penalty_has_torchs_gradients(dtype, tolerance):
    torch.manual_seed(0)
    disc, other = Discriminator(), plain()
    assert disc.state_dict().keys() == other.state_dict().keys()
    ours, theirs = penalty_gradients(disc, dtype), penalty_gradients(other, dtype)
    assert float((ours - theirs).norm() / theirs.norm()) < tolerance


def test_no_pass_of_zeros_goes_through_the_network():
    """Its backward pass differentiates the gradient alone, not the activations once more."""
    counts = []
    for disc in (Discriminator(), plain()):
        x = torch.rand(2, 3, 32, 32).requires_grad_()
        (slope,) = grad(disc(x).sum(), x, create_graph=True)
        loss = slope.square().sum()
        with torch.profiler.profile() as profile:
            loss.backward()
        names = [event.name for event in profile.events()]
        counts.append(sum("conv" in name and "overrideable" not in name for name in names))
    assert counts[0] < counts[1]


def test_what_is_asked_for_decides():
    """Weights named in `autograd.grad` get their gradient, with create_graph too."""
    torch.manual_seed(0)
    ours = double_backward.Conv2d(2, 3, 3, padding=1)
    theirs = nn.Conv2d(2, 3, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 2, 5, 6, requires_grad=True)
    for asked in (["x"], ["weight"], ["x", "weight", "bias"]):
        found = []
        for layer in (ours, theirs):
            wanted = [x if name == "x" else getattr(layer, name) for name in asked]
            found.append(grad(layer(x).square().sum(), wanted, create_graph=True))
        for got, expected in zip(*found):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_under_compilation():
    layer = nn.Sequential(double_backward.Conv2d(2, 3, 3, padding=1), double_backward.ReLU())
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(2, 2, 5, 6, requires_grad=True)
    torch.testing.assert_close(grad(compiled(x).sum(), x)[0], grad(layer(x).sum(), x)[0])
