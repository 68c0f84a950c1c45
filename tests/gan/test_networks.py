"""Pins the layers to torch's own, the parameter counts, and that images do not mix."""

import pytest
import torch
import torch.nn.functional as F
from helpers import TinyGenerator
from networks import (
    Discriminator,
    DownSampleConv2D,
    Generator,
    ResBlock,
    ResBlockDown,
    ResBlockUp,
    UpSampleConv2D,
    reestimate_statistics,
)


@pytest.mark.parametrize("kernel_size, padding", [(3, 1), (1, 0), (3, 0)])
@pytest.mark.parametrize("factor", [2, 3])
def test_upsampling_is_nearest_neighbour(kernel_size, padding, factor):
    layer = UpSampleConv2D(5, kernel_size, n_filters=7, upscale_factor=factor, padding=padding)
    x = torch.randn(2, 5, 6, 6)
    expected = layer.conv(F.interpolate(x, scale_factor=factor, mode="nearest"))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    # Spelled out: pixel (r, c) of the large map is pixel (r // factor, c // factor) of the small.
    rows = torch.arange(6 * factor) // factor
    torch.testing.assert_close(
        layer(x), layer.conv(x[:, :, rows][:, :, :, rows]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kernel_size, padding", [(3, 1), (1, 0)])
def test_downsampling_is_mean_pooling(kernel_size, padding):
    layer = DownSampleConv2D(3, kernel_size, n_filters=7, padding=padding)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(layer(x), layer.conv(F.avg_pool2d(x, 2)))
    spelled_out = (
        x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
    ) / 4
    torch.testing.assert_close(layer(x), layer.conv(spelled_out))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts():
    assert parameters(Generator()) == 1_204_099
    assert parameters(Discriminator()) == 1_053_825


def test_module_names_of_the_handout():
    generator = {name.split(".")[0] for name in Generator().state_dict()}
    assert generator == {"dense", "layers"}
    assert {"layers.0.upsample_residual.conv.weight", "layers.0.layers.5.conv.weight"} <= set(
        Generator().state_dict()
    )
    assert {"layers.0.downsample_residual.conv.weight", "dense.weight"} <= set(
        Discriminator().state_dict()
    )
    assert "layers.0.layers.2.bias" not in Generator().state_dict()  # this convolution has no bias


@pytest.mark.parametrize("block, size", [(ResBlockUp, 16), (ResBlockDown, 4), (ResBlock, 8)])
def test_block_shapes(block, size):
    assert block(6, n_filters=6)(torch.randn(2, 6, 8, 8)).shape == (2, 6, size, size)


def test_residual_paths_add_up():
    block = ResBlock(4, n_filters=4)
    x = torch.randn(2, 4, 8, 8)
    before = x.clone()
    torch.testing.assert_close(block(x), x + block.layers(x))
    assert torch.equal(x, before)  # nothing is done in place
    down = ResBlockDown(4, n_filters=4)
    torch.testing.assert_close(down(x), down.layers(x) + down.downsample_residual(x))
    up = ResBlockUp(4, n_filters=4).eval()
    torch.testing.assert_close(up(x), up.layers(x) + up.upsample_residual(x))


@pytest.mark.parametrize(
    "block, layers",
    [
        (ResBlockUp, "BatchNorm2d ReLU Conv2d BatchNorm2d ReLU UpSampleConv2D"),
        (ResBlockDown, "ReLU Conv2d ReLU DownSampleConv2D"),
        (ResBlock, "ReLU Conv2d ReLU Conv2d"),
        (Generator, "ResBlockUp ResBlockUp ResBlockUp BatchNorm2d ReLU Conv2d Tanh"),
        (Discriminator, "ResBlockDown ResBlockDown ResBlock ResBlock ReLU"),
    ],
)
def test_layers_in_the_handouts_order(block, layers):
    module = block() if block in (Generator, Discriminator) else block(4)
    assert [type(layer).__name__ for layer in module.layers] == layers.split()


def test_generator_output():
    gen = Generator()
    images = gen(3)
    assert images.shape == (3, 3, 32, 32) and images.dtype == torch.float32
    assert -1 <= images.min() and images.max() <= 1
    z = torch.randn(2, 128)
    torch.testing.assert_close(
        gen.eval().forward_given_samples(z)[:1],
        gen.forward_given_samples(z[:1]),
        rtol=1e-4,
        atol=1e-5,
    )
    assert Generator(starting_image_size=2)(2).shape == (2, 3, 16, 16)


def test_generator_latents_are_normal_and_float32_under_autocast():
    seen = []
    gen = Generator()
    gen.dense.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        gen(4)
    assert seen[0].dtype == torch.float32 and seen[0].shape == (4, 128)
    gen(400)
    moments = torch.stack([seen[1].mean(), seen[1].std(), (seen[1].abs() < 1).float().mean()])
    torch.testing.assert_close(
        moments, torch.tensor([0.0, 1.0, 0.6827]), atol=0.02, rtol=0
    )  # normal


def test_a_score_depends_on_its_own_image_alone():
    torch.manual_seed(0)
    disc = Discriminator()
    x = torch.randn(8, 3, 32, 32)
    before = disc(x)
    assert before.shape == (8, 1)
    changed = x.clone()
    changed[3] += 1
    after = disc(changed)
    others = torch.arange(8) != 3
    torch.testing.assert_close(after[others], before[others])
    assert (after[3] - before[3]).abs() > 1e-3


def test_scores_are_summed_over_the_map():
    disc = Discriminator()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(disc(x), disc.dense(disc.layers(x).sum(dim=(2, 3))))


def test_channels_last_survives_every_block():
    gen = Generator().to(memory_format=torch.channels_last)
    disc = Discriminator().to(memory_format=torch.channels_last)
    layouts = []
    for module in (*gen.layers, *disc.layers):
        module.register_forward_hook(
            lambda module, inputs, output: layouts.append(
                output.is_contiguous(memory_format=torch.channels_last)
            )
        )
    disc(gen(2))
    assert len(layouts) == len(gen.layers) + len(disc.layers) and all(layouts)


def test_reestimated_statistics_are_those_of_the_weights_now():
    """Whatever was there before; nothing else changes, and pictures are those of a large batch."""
    torch.manual_seed(0)
    gen = TinyGenerator().eval()
    for parameter in gen.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    weights = [parameter.clone() for parameter in gen.parameters()]
    with pytest.raises(AssertionError):  # the statistics that it begins with are far off
        compare_with_a_large_batch(gen)
    reestimate_statistics(gen, batches=8)
    compare_with_a_large_batch(gen)
    assert not gen.training and all(map(torch.equal, gen.parameters(), weights))
    assert all(m.momentum == 0.1 for m in gen.modules() if isinstance(m, torch.nn.BatchNorm2d))
    reestimate_statistics(torch.nn.Linear(2, 2))  # nothing to do
    reestimate_statistics(gen, batches=3, size=4)  # plain means over few batches
    means, rng = [], torch.Generator().manual_seed(0)
    gen.norm.register_forward_pre_hook(lambda norm, args: means.append(args[0].mean()))
    with torch.no_grad():
        for _ in range(3):
            gen.forward_given_samples(torch.randn(4, 128, generator=rng))
    torch.testing.assert_close(gen.norm.running_mean[0], torch.stack(means).mean())


def compare_with_a_large_batch(gen):
    z = torch.randn(512, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        shown = gen.forward_given_samples(z[:4])
        gen.train()
        buffers = {name: value.clone() for name, value in gen.state_dict().items()}
        expected = gen.forward_given_samples(z)[:4]
        gen.load_state_dict(buffers)
        gen.eval()
    assert (shown - expected).abs().mean() < 0.05
