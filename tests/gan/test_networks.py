"""Pins the layers to torch's own, the parameter counts, and that images do not mix."""

import networks
import pytest
import torch
from helpers import TinyGenerator
from networks import Discriminator, Generator, reestimate_statistics
from torch.testing import assert_close


@pytest.mark.parametrize("kernel_size, padding", [(3, 1), (1, 0), (3, 0)])
@pytest.mark.parametrize("factor", [2, 3])
def test_upsampling_is_nearest_neighbour(kernel_size, padding, factor):
    layer = networks.UpSampleConv2D(5, kernel_size, 7, factor, padding)
    x = torch.randn(2, 5, 6, 6)
    # Spelled out: pixel (r, c) of the large map is pixel (r // factor, c // factor) of the small.
    rows = torch.arange(6 * factor) // factor
    assert_close(layer(x), layer.conv(x[:, :, rows][:, :, :, rows]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel_size, padding", [(3, 1), (1, 0)])
def test_downsampling_is_mean_pooling(kernel_size, padding):
    layer = networks.DownSampleConv2D(3, kernel_size, n_filters=7, padding=padding)
    x = torch.randn(2, 3, 8, 8)
    four = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    assert_close(layer(x), layer.conv(sum(four) / 4))


def test_parameters_and_the_handouts_names_and_order():
    gen, disc = Generator(), Discriminator()
    for net, count, residual, layers in (
        (gen, 1_204_099, "up", "ResBlockUp ResBlockUp ResBlockUp BatchNorm2d ReLU Conv2d Tanh"),
        (disc, 1_053_825, "down", "ResBlockDown ResBlockDown ResBlock ResBlock ReLU"),
    ):
        assert sum(p.numel() for p in net.parameters()) == count
        assert [type(layer).__name__ for layer in net.layers] == layers.split()
        assert {name.split(".")[0] for name in net.state_dict()} == {"dense", "layers"}
        assert f"layers.0.{residual}sample_residual.conv.weight" in net.state_dict()
    assert "layers.0.layers.5.conv.weight" in gen.state_dict()
    assert "layers.0.layers.2.bias" not in gen.state_dict()  # this convolution has no bias


BLOCKS = [
    ("ResBlockUp", "BatchNorm2d ReLU Conv2d BatchNorm2d ReLU UpSampleConv2D", 16),
    ("ResBlockDown", "ReLU Conv2d ReLU DownSampleConv2D", 4),
    ("ResBlock", "ReLU Conv2d ReLU Conv2d", 8),
]


@pytest.mark.parametrize("block, layers, size", BLOCKS)
def test_blocks(block, layers, size):
    block = getattr(networks, block)(6, n_filters=6).eval()
    assert [type(layer).__name__ for layer in block.layers] == layers.split()
    x = torch.randn(2, 6, 8, 8)
    before, (_, *residual) = x.clone(), block.children()
    assert block(x).shape == (2, 6, size, size)
    assert_close(block(x), block.layers(x) + (residual[0](x) if residual else x))
    assert torch.equal(x, before)  # nothing is done in place


def test_generator_output():
    gen, z = Generator(), torch.randn(2, 128)
    images = gen(3)
    assert images.shape == (3, 3, 32, 32) and images.dtype == torch.float32
    assert -1 <= images.min() and images.max() <= 1
    alone = gen.eval().forward_given_samples(z[:1])
    assert_close(gen.forward_given_samples(z)[:1], alone, rtol=1e-4, atol=1e-5)
    assert Generator(starting_image_size=2)(2).shape == (2, 3, 16, 16)


def test_generator_latents_are_normal_and_float32_under_autocast():
    seen, gen = [], Generator()
    gen.dense.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        gen(4)
    assert seen[0].dtype == torch.float32 and seen[0].shape == (4, 128)
    gen(400)
    moments = torch.stack([seen[1].mean(), seen[1].std(), (seen[1].abs() < 1).float().mean()])
    assert_close(moments, torch.tensor([0.0, 1.0, 0.6827]), atol=0.02, rtol=0)  # normal


def test_a_score_is_of_its_own_image_and_sums_over_the_map():
    torch.manual_seed(0)
    disc, x = Discriminator(), torch.randn(8, 3, 32, 32)
    before = disc(x)
    assert before.shape == (8, 1)
    assert_close(before, disc.dense(disc.layers(x).sum(dim=(2, 3))))
    x[3] += 1
    after, others = disc(x), torch.arange(8) != 3
    assert_close(after[others], before[others])
    assert (after[3] - before[3]).abs() > 1e-3


def test_channels_last_survives_every_block():
    nets = [net().to(memory_format=torch.channels_last) for net in (Generator, Discriminator)]
    layouts, kind = [], torch.channels_last
    keep = lambda module, inputs, output: layouts.append(output.is_contiguous(memory_format=kind))
    for module in (*nets[0].layers, *nets[1].layers):
        module.register_forward_hook(keep)
    nets[1](nets[0](2))
    assert len(layouts) == 12 and all(layouts)


def test_reestimated_statistics_are_plain_means_of_the_weights_now():
    """Whatever was there before; nothing else changes."""
    gen = TinyGenerator().eval()
    weights = [parameter.clone() for parameter in gen.parameters()]
    gen.norm.running_mean.fill_(9.0)
    reestimate_statistics(gen, batches=3, size=4)
    assert not gen.training and all(map(torch.equal, gen.parameters(), weights))
    assert gen.norm.momentum == 0.1
    reestimate_statistics(torch.nn.Linear(2, 2))  # nothing to do
    seen, rng = [], torch.Generator().manual_seed(0)
    gen.norm.register_forward_pre_hook(lambda norm, args: seen.append(args[0]))
    with torch.no_grad():
        for _ in range(3):
            gen.forward_given_samples(torch.randn(4, 128, generator=rng))
    assert_close(gen.norm.running_mean[0], torch.stack([x.mean() for x in seen]).mean())
    assert_close(gen.norm.running_var[0], torch.stack([x.var() for x in seen]).mean())
