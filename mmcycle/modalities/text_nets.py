"""Networks that read and write the bytes of a text in their order: one-dimensional, and aware of the place.

Letters: B batch, L bytes of a text, l places of a latent (L / 4), D channels of a latent (4 * width).
"""
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mmcycle.modalities.text import BITS

HEIGHT = 2          # rows of a latent: trunks look at neighbours in both directions
KERNEL = 5          # bytes, about a short word


class TextEncoder(nn.Module):
    """(B, 8, H, W) -> [latent (B, D, 2, l / 2)]: the order of the text, cut in two rows."""

    def __init__(self, width: int, length: int):
        super().__init__()
        self.stem = nn.Conv1d(BITS, width, KERNEL, padding=KERNEL // 2)
        self.places = nn.Parameter(torch.randn(width, length) * width**-0.5)
        self.body = nn.Sequential(
            _Mix(width), _step(width, 2 * width, 2), _Mix(2 * width), _step(2 * width, 4 * width, 2), _Mix(4 * width)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.body(self.stem(rearrange(x, "b c h w -> b c (h w)")) + self.places)
        return [rearrange(z, "b d (h w) -> b d h w", h=HEIGHT)]


class TextDecoder(nn.Module):
    """[latent (B, D, 2, l / 2), ...] -> (B, 8, H, W) in [-1, 1]."""

    def __init__(self, width: int, shape: tuple[int, int, int]):
        super().__init__()
        _, self.rows, columns = shape
        length = self.rows * columns
        self.places = nn.Parameter(torch.randn(4 * width, length // 4) * width**-0.5)
        self.body = nn.Sequential(
            _Mix(4 * width), nn.Upsample(scale_factor=2), _step(4 * width, 2 * width), _Mix(2 * width),
            nn.Upsample(scale_factor=2), _step(2 * width, width),
        )
        self.fine = nn.Parameter(torch.randn(width, length) * width**-0.5)
        self.head = nn.Sequential(_Mix(width), nn.Conv1d(width, BITS, KERNEL, padding=KERNEL // 2))

    def forward(self, features: list[Tensor]) -> Tensor:
        z = self.body(rearrange(features[0], "b d h w -> b d (h w)") + self.places)
        return rearrange(bits(self.head(z + self.fine)), "b c (h w) -> b c h w", h=self.rows)


class TextDiscriminator(nn.Module):
    """(B, 8, H, W) -> one score for each overlapping piece of the text, (B, 1, 1, l')."""

    def __init__(self, width: int, layers: int, length: int):
        super().__init__()
        widths = [width * min(2**n, 8) for n in range(layers + 1)]
        self.stem = spectral_norm(nn.Conv1d(BITS, width, KERNEL, padding=KERNEL // 2))
        self.places = nn.Parameter(torch.randn(width, length) * width**-0.5)
        steps = [nn.LeakyReLU(0.2)]
        for c, d in zip(widths, widths[1:]):
            steps += [spectral_norm(nn.Conv1d(c, d, KERNEL, 2, KERNEL // 2)), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*steps, spectral_norm(nn.Conv1d(widths[-1], 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.body(self.stem(rearrange(x, "b c h w -> b c (h w)")) + self.places)
        return rearrange(scores, "b c l -> b c 1 l")


def bits(z: Tensor) -> Tensor:
    """What is known of bits whose log-odds are z: tanh(z / 2), the mean of -1 and 1.

    Under L1 to true bits it is taught as by cross-entropy. A plain tanh teaches the bit that most texts have, and then
    nothing: where it is sure, it is deaf. So one text came of every picture, the middle of all.
    """
    return _Bits.apply(z) if torch.is_grad_enabled() else torch.tanh(z / 2)


class _Bits(torch.autograd.Function):
    """The gradient g of L1 at y is -t for a true bit t; that of cross-entropy is (y - t) / 2 = (g + |g| y) / 2.

    It is not linear in g: the sum over losses of one output counts as one loss.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z: Tensor) -> Tensor:
        y = torch.tanh(z / 2)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return (g + g.abs() * y) / 2


def _step(c: int, d: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(c, d, KERNEL, stride, KERNEL // 2), nn.GroupNorm(1, d), nn.ReLU())


class _Mix(nn.Module):
    """z + what its neighbours say of it."""

    def __init__(self, d: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(1, d), nn.ReLU(), nn.Conv1d(d, d, KERNEL, padding=KERNEL // 2), nn.GroupNorm(1, d), nn.ReLU(),
            nn.Conv1d(d, d, KERNEL, padding=KERNEL // 2),
        )

    def forward(self, z: Tensor) -> Tensor:
        return z + self.body(z)
