"""An embedded data set: small painted birds, so that a run needs no download.

python gan/q1_5.py --dataset synthetic
"""

import torch


def draw_birds(count, generator, resolution=32):
    """`count` birds against the sky: uint8 (count, 3, resolution, resolution) in [0, 255].

    Every call goes on where the last one stopped in `generator` (a CPU one), so birds never run out
    and a seed fixes them all. Shapes are drawn as smooth masks, so edges are anti-aliased.
    """
    chunks = [_draw(min(500, count - start), generator, resolution) for start in range(0, count, 500)]
    return torch.cat(chunks)


def _draw(n, generator, resolution):
    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, 1, 1, generator=generator)

    centres = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")  # the picture spans [-1, 1] both ways
    x = x * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)  # half of the birds face left

    def cover(distance):
        """Signed distance (negative inside) to a coverage in [0, 1], one pixel wide at the edge."""
        return torch.sigmoid(-distance * resolution * 1.5).unsqueeze(1)

    def ellipse(cx, cy, rx, ry, angle):
        u = (x - cx) * angle.cos() + (y - cy) * angle.sin()
        v = -(x - cx) * angle.sin() + (y - cy) * angle.cos()
        return cover(((u / rx).square() + (v / ry).square()).sqrt().sub(1) * torch.minimum(rx, ry))

    def paint(picture, mask, colour):
        return picture * (1 - mask) + colour * mask

    # Sky (or leaves) as a vertical gradient with a few soft clouds, and a branch under the bird.
    top, bottom = uniform(0.2, 0.9, 3), uniform(0.3, 1.0, 3)
    weather = uniform(0, 1) < 0.6
    top[:, 2:] = torch.where(weather.unsqueeze(1), top[:, 2:].clamp(min=0.7), top[:, 2:] * 0.5)
    height = ((y + 1) / 2).expand(n, 1, resolution, resolution)
    picture = top * (1 - height) + bottom * height
    for _ in range(2):
        cloud = ellipse(
            uniform(-1, 1), uniform(-1, 1), uniform(0.2, 0.8), uniform(0.1, 0.3), uniform(-0.3, 0.3)
        )
        picture = paint(picture, 0.5 * cloud, uniform(0.5, 1.0, 3))
    slope, level = uniform(-0.3, 0.3), uniform(0.55, 0.9)
    branch = cover((y - level - slope * x).abs() - uniform(0.03, 0.08))
    picture = paint(picture, branch * (uniform(0, 1) < 0.7).unsqueeze(1), uniform(0.15, 0.4, 3))

    # The bird: tail, body, belly, wing, head, beak, eye; positions follow the body's.
    cx, cy, size, tilt = uniform(-0.25, 0.15), uniform(-0.05, 0.2), uniform(0.35, 0.55), uniform(-0.5, 0.3)
    plumage, second = uniform(0.05, 0.95, 3), uniform(0.05, 0.95, 3)
    back_x, back_y = cx - size * tilt.cos(), cy - size * tilt.sin()
    front_x, front_y = cx + size * 0.8 * tilt.cos(), cy + size * 0.8 * tilt.sin() - size * 0.45
    picture = paint(picture, ellipse(back_x, back_y, size * 0.6, size * 0.16, tilt), plumage * 0.6)
    picture = paint(picture, ellipse(cx, cy, size, size * 0.55, tilt), plumage)
    picture = paint(picture, 0.8 * ellipse(cx + 0.1, cy + size * 0.25, size * 0.6, size * 0.25, tilt), second)
    beak_length, half_width = size * uniform(0.5, 0.9), size * 0.14
    along = ((x - front_x) / beak_length).clamp(-1, 2)
    beak = cover(torch.maximum((y - front_y).abs() - half_width * (1 - along), -along * beak_length))
    picture = paint(picture, beak, uniform(0.5, 1.0, 3) * torch.tensor([1.0, 0.7, 0.2]).view(3, 1, 1))
    head = size * uniform(0.35, 0.45)
    picture = paint(picture, ellipse(front_x, front_y, head, head, tilt), plumage * 0.4 + second * 0.6)
    wing = ellipse(cx - size * 0.2, cy - size * 0.1, size * 0.65, size * 0.25, tilt + uniform(-0.7, 0.2))
    picture = paint(picture, wing, plumage * uniform(0.3, 0.7, 1))
    eye = head * 0.25
    picture = paint(
        picture, ellipse(front_x + head * 0.3, front_y - head * 0.2, eye, eye, tilt), torch.zeros(3, 1, 1)
    )
    return picture.clamp(0, 1).mul(255).round().to(torch.uint8)
