"""Shapes and parameter counts of every module, worked out from the assignment's layer table."""

import pytest
import torch
from model import AEModel, Decoder, Encoder, VAEEncoder

SHAPE = (3, 32, 32)
CONVS = (3 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (64 * 9 + 1) * 128 + (128 * 9 + 1) * 256
DECONVS = (128 * 16 + 1) * 128 + (128 * 16 + 1) * 64 + (64 * 16 + 1) * 32 + (32 * 9 + 1) * 3


@pytest.mark.parametrize("latents", [16, 128])
def test_parameter_counts(latents):
    head = 4096 * latents + latents
    for module, expected in (
        (Encoder(SHAPE, latents), CONVS + head),
        (VAEEncoder(SHAPE, latents), CONVS + 2 * head),
        (Decoder(latents, SHAPE), DECONVS + 2048 * latents + 2048),
    ):
        assert sum(parameter.numel() for parameter in module.parameters()) == expected


def test_shapes():
    encoder, decoder, x = Encoder(SHAPE, 16), Decoder(16, SHAPE), torch.randn(2, *SHAPE)
    assert encoder(x).shape == (2, 16) and decoder(torch.randn(2, 16)).shape == x.shape
    mu, log_std = VAEEncoder(SHAPE, 16)(x)
    assert mu.shape == log_std.shape == (2, 16) and decoder.base_size == (128, 4, 4)
    sizes = []
    for layers, given in ((encoder.convs, x), (decoder.deconvs, torch.randn(2, 128, 4, 4))):
        for layer in layers:
            given = layer(given)
            sizes.append(tuple(given.shape[1:]))
    assert sizes[0:7:2] == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert sizes[8::2] == [(128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 32, 32)]


def test_a_relu_stands_between_the_layers_and_before_the_decoders_first():
    """Without the decoder's first one the losses end below the published ones."""
    encoder = "Conv2d ReLU Conv2d ReLU Conv2d ReLU Conv2d"
    decoder = "ReLU ConvTranspose2d ReLU ConvTranspose2d ReLU ConvTranspose2d ReLU Conv2d"
    model = AEModel(True, 16)
    assert [type(layer).__name__ for layer in model.encoder.convs] == encoder.split()
    assert [type(layer).__name__ for layer in model.decoder.deconvs] == decoder.split()


def test_the_first_half_of_the_head_is_the_mean():
    encoder = VAEEncoder(SHAPE, 4)
    torch.nn.init.zeros_(encoder.fc.weight)
    encoder.fc.bias.data = torch.arange(8.0)
    mu, log_std = encoder(torch.randn(1, *SHAPE))
    assert mu.tolist() == [[0, 1, 2, 3]] and log_std.tolist() == [[4, 5, 6, 7]]


def test_model_and_editions():
    model, wide = AEModel(True, 32), AEModel(False, 32, base_channels=256)
    assert isinstance(model.encoder, VAEEncoder) and model.latent_size == 32
    assert type(wide.encoder) is Encoder and wide.decoder.base_size == (256, 4, 4)
    assert wide.decoder(torch.randn(1, 32)).shape == (1, *SHAPE)
    with pytest.raises(ValueError, match="input_shape"):
        AEModel(False, 32, input_shape=(32, 32))


def test_images_do_not_mix_and_channels_last_survives():
    torch.manual_seed(0)
    model, layouts = AEModel(False, 16).to(memory_format=torch.channels_last), []

    def keep(layer, inputs, output):
        layouts.append(output.is_contiguous(memory_format=torch.channels_last))

    for layer in (*model.encoder.convs, *model.decoder.deconvs):
        layer.register_forward_hook(keep)
    x = torch.randn(4, *SHAPE).contiguous(memory_format=torch.channels_last)
    before = model.decoder(model.encoder(x))
    assert len(layouts) == 15 and all(layouts)
    x[2] += 10
    after, others = model.decoder(model.encoder(x)), torch.tensor([0, 1, 3])
    torch.testing.assert_close(after[others], before[others])
    assert (after[2] - before[2]).abs().max() > 1e-3
