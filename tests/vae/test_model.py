"""Shapes and parameter counts of every module, worked out from the assignment's layer table."""

import pytest
import torch
from model import AEModel, Decoder, Encoder, VAEEncoder
from torch import nn


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


ENCODER_CONVS = (3 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (64 * 9 + 1) * 128 + (128 * 9 + 1) * 256
DECODER_DECONVS = (
    (128 * 16 * 128 + 128) + (128 * 16 * 64 + 64) + (64 * 16 * 32 + 32) + (32 * 9 * 3 + 3)
)


@pytest.mark.parametrize("latents", [16, 128])
def test_parameter_counts(latents):
    assert parameters(Encoder((3, 32, 32), latents)) == ENCODER_CONVS + 4096 * latents + latents
    assert parameters(VAEEncoder((3, 32, 32), latents)) == ENCODER_CONVS + 2 * (
        4096 * latents + latents
    )
    assert parameters(Decoder(latents, (3, 32, 32))) == DECODER_DECONVS + 2048 * latents + 2048


def test_shapes():
    x = torch.randn(2, 3, 32, 32)
    assert Encoder((3, 32, 32), 16)(x).shape == (2, 16)
    mu, log_std = VAEEncoder((3, 32, 32), 16)(x)
    assert mu.shape == log_std.shape == (2, 16)
    decoder = Decoder(16, (3, 32, 32))
    assert decoder.base_size == (128, 4, 4) and decoder(torch.randn(2, 16)).shape == (2, 3, 32, 32)
    sizes = []
    for layer in Encoder((3, 32, 32), 16).convs:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[::2] == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    z = torch.randn(2, 128, 4, 4)
    sizes = []
    for layer in decoder.deconvs:
        z = layer(z)
        sizes.append(tuple(z.shape[1:]))
    assert sizes[1::2] == [(128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 32, 32)]


def test_a_relu_stands_between_the_layers_and_before_the_decoders_first():
    """Without the decoder's first one the losses end below the published ones."""
    encoder = "Conv2d ReLU Conv2d ReLU Conv2d ReLU Conv2d"
    decoder = "ReLU ConvTranspose2d ReLU ConvTranspose2d ReLU ConvTranspose2d ReLU Conv2d"
    model = AEModel(True, 16)
    assert [type(layer).__name__ for layer in model.encoder.convs] == encoder.split()
    assert [type(layer).__name__ for layer in model.decoder.deconvs] == decoder.split()
    assert isinstance(model.decoder.deconvs[1], nn.ConvTranspose2d)


def test_the_first_half_of_the_head_is_the_mean():
    encoder = VAEEncoder((3, 32, 32), 4)
    torch.nn.init.zeros_(encoder.fc.weight)
    encoder.fc.bias.data = torch.arange(8.0)
    mu, log_std = encoder(torch.randn(1, 3, 32, 32))
    assert mu.tolist() == [[0, 1, 2, 3]] and log_std.tolist() == [[4, 5, 6, 7]]


def test_model_and_editions():
    model = AEModel(True, 32)
    assert isinstance(model.encoder, VAEEncoder) and model.latent_size == 32
    assert type(AEModel(False, 32).encoder) is Encoder
    wide = AEModel(False, 32, base_channels=256)
    assert wide.decoder.base_size == (256, 4, 4) and wide.decoder(torch.randn(1, 32)).shape == (
        1,
        3,
        32,
        32,
    )
    with pytest.raises(ValueError, match="input_shape"):
        AEModel(False, 32, input_shape=(32, 32))


def test_images_do_not_mix():
    torch.manual_seed(0)
    model = AEModel(False, 16)
    x = torch.randn(4, 3, 32, 32)
    before = model.decoder(model.encoder(x))
    x[2] += 10
    after = model.decoder(model.encoder(x))
    others = torch.tensor([0, 1, 3])
    torch.testing.assert_close(after[others], before[others])
    assert (after[2] - before[2]).abs().max() > 1e-3


def test_channels_last_survives_every_layer():
    model = AEModel(False, 16).to(memory_format=torch.channels_last)
    layouts = []
    for layer in (*model.encoder.convs, *model.decoder.deconvs):
        layer.register_forward_hook(
            lambda layer, inputs, output: layouts.append(
                output.is_contiguous(memory_format=torch.channels_last)
            )
        )
    model.decoder(
        model.encoder(torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    )
    assert len(layouts) == 15 and all(layouts)
