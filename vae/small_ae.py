"""The small autoencoder of a neighbouring report: two convolutions down, two transposed ones up."""

from torch import nn

LATENT_SHAPE = (32, 8, 8)


class SmallAE(nn.Module):
    """(B, 3, 32, 32) in [-1, 1] -> latents (B, 2048) -> (B, 3, 32, 32) in [-1, 1].

    10,147 parameters. There is no bottleneck to speak of: 3,072 numbers become 2,048.
    """

    latent_size = 32 * 8 * 8

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=3, stride=2, padding=1),  # (B, 16, 16, 16)
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1),  # (B, 32, 8, 8)
            nn.ReLU(),
            nn.Flatten(),
        )
        self.decoder = nn.Sequential(
            nn.Unflatten(1, LATENT_SHAPE),
            nn.ConvTranspose2d(32, 16, kernel_size=3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 3, kernel_size=3, stride=2, padding=1, output_padding=1),
            nn.Tanh(),
        )
