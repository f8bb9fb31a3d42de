"""Encoders, trunks, decoders and discriminators: modules that know only shapes.

Letters: B batch, C channels of a sample, D channels of a latent, H W sample size, h w latent size (h = H / stride).
A generator is decoder_b(trunk(encoder_a(x))): encoders know one domain, decoders the other, the trunk sees both.
Features are lists, coarsest first: [latent, finer, ..., finest]; the trunk changes the latent alone.
"""
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from mmcycle.core.bilateral import WHOLE, BilateralDecoder, BilateralEncoder, BilateralTrunk, Window
from mmcycle.core.heads import Head
from mmcycle.core.moments import SharedMoments
from mmcycle.core.settings import Networks

STRIDE = {"resnet": 4, "unet": 16, "light": 8, "bilateral": 8}      # sample size / latent size


def encoder(channels: int, networks: Networks, wraps: bool = False) -> nn.Module:
    """(B, C, H, W) in [-1, 1] -> [latent (B, 4 * width, H / stride, W / stride), finer features ...]."""
    if networks.generator == "bilateral":
        return BilateralEncoder(channels, networks.width, wraps)
    return initialised(_encoder(channels, networks, wraps))


def decoder(channels: int, networks: Networks, skips: bool, wraps: bool = False) -> nn.Module:
    """[latent, finer features ...] -> (B, C, H, W) in [-1, 1]; without `skips` only the latent is read."""
    if networks.generator == "bilateral":
        return BilateralDecoder(4 * networks.width, channels, wraps)
    return initialised(_decoder(channels, networks, skips, wraps))


def trunk(networks: Networks, source: tuple[int, int], target: tuple[int, int], wraps: bool = False) -> nn.Module:
    """latent (B, D, *source) -> latent (B, D, *target): the only network that sees two domains."""
    if networks.generator == "bilateral":
        return BilateralTrunk(4 * networks.width, networks.blocks, wraps)
    return initialised(Trunk(networks, source, target, wraps))


def discriminator(channels: int, networks: Networks, wraps: bool = False) -> nn.Module:
    """(B, C, H, W) -> one score for each overlapping patch, (B, 1, h, w)."""
    width, layers, norm = networks.discriminator_width, networks.discriminator_layers, networks.discriminator_norm
    return initialised(PatchDiscriminator(channels, width, layers, norm, wraps))


def initialised(network: nn.Module) -> nn.Module:
    """The network, with convolution weights from N(0, 0.02) and zero bias (Zhu et al. 2017, section 7.1).

    They come from torch's global generator. Layers under spectral norm keep their own draw: the norm fixes their scale.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not is_parametrized(module):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _encoder(channels: int, networks: Networks, wraps: bool) -> nn.Module:
    w = networks.width
    if networks.generator == "light":
        stem = nn.Sequential(nn.PixelUnshuffle(2), Conv(4 * channels, w, 3, wraps=wraps))
        return Encoder(stem, (w, 2 * w, 4 * w), wraps)
    stem = Conv(channels, w, 7, wraps=wraps)
    deeper = (4 * w, 4 * w) if networks.generator == "unet" else ()
    return Encoder(stem, (w, 2 * w, 4 * w, *deeper), wraps)


def _decoder(channels: int, networks: Networks, skips: bool, wraps: bool) -> nn.Module:
    w = networks.width
    if networks.generator == "light":
        thin = max(w // 4, 8)                           # full resolution is dear: few channels there
        head = nn.Sequential(
            Conv(w, thin, 3, wraps=wraps), nn.Upsample(scale_factor=2), Pad(2, wraps), nn.Conv2d(thin, channels, 5)
        )
        return Decoder((4 * w, 2 * w, w), head, networks.upsample, "add" if skips else "", wraps)
    head = nn.Sequential(Pad(3, wraps), nn.Conv2d(w, channels, 7))
    if networks.generator == "unet":
        return Decoder((4 * w, 4 * w, 4 * w, 2 * w, w), head, networks.upsample, "concatenate" if skips else "", wraps)
    return Decoder((4 * w, 2 * w, w), head, networks.upsample, "", wraps)


def uses_skips(networks: Networks, source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Encoder features may pass beside the trunk only where both domains share one grid."""
    return networks.generator != "resnet" and source[-2:] == target[-2:]


class Generator(nn.Module):
    """Translate one domain to another: (B, *shape_a) -> (B, *shape_b). A head without parts has no other network."""

    def __init__(
        self, encoder: nn.Module | None, trunk: nn.Module | None, decoder: nn.Module | None, residual: bool = False,
        head: Head | None = None,
    ):
        super().__init__()
        self.encoder, self.trunk, self.decoder, self.head = encoder, trunk, decoder, head
        self.residual = residual

    def forward(self, x: Tensor, style: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
        """style (B, S) and rng are the head's: without them the styles are drawn from memory and chance is fixed."""
        parts = self.decode(x)
        if self.head is None:
            return parts
        rng = rng or torch.Generator().manual_seed(0)
        style = self.head.draw(len(x), rng) if style is None else style
        return self.head(x, self.head.plan(x, parts, style), rng)

    def decode(self, x: Tensor) -> Tensor:
        """The translation where there is no head, else the head's parts (B, P, H, W)."""
        if self.encoder is None:
            return x.new_zeros(len(x), 0, *x.shape[2:])
        latent, *finer = self.encoder(x)
        y = self.decoder([self.trunk(latent), *finer])
        return move(x, y) if self.residual and self.head is None else y

    def recolour(self, x: Tensor, full: Tensor, window: Window = WHOLE) -> Tensor:
        """What a bilateral generator finds on x (B, C, h, w), done to another resolution of it, (B, C, H, W)."""
        latent, _ = self.encoder(x)
        return move(full, self.decoder([self.trunk(latent), full], window))

    @property
    def recolours(self) -> bool:
        """Whether all that it can do is `recolour`."""
        return isinstance(self.decoder, BilateralDecoder)

    def look(self, like: Tensor) -> Tensor | None:
        """The styles (B, S) of samples of the target domain, None where there are none."""
        return None if self.head is None else self.head.look(like)


def move(x: Tensor, change: Tensor) -> Tensor:
    """Go from x the share |change| of the way to +1 (change > 0) or to -1 (change < 0); all stays in [-1, 1]."""
    return x + change * (1 - change.sign() * x)


class Encoder(nn.Module):
    """A stem and halvings; returns every stage's features, coarsest first."""

    def __init__(self, stem: nn.Module, channels: tuple[int, ...], wraps: bool):
        super().__init__()
        halvings = (Conv(c, d, 3, stride=2, wraps=wraps) for c, d in zip(channels, channels[1:]))
        self.stages = nn.ModuleList([stem, *halvings])

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.insert(0, x)
        return features


class Decoder(nn.Module):
    """Doublings and a head; `merge` says how the encoder's finer features come in: "add", "concatenate" or not ("")."""

    def __init__(self, channels: tuple[int, ...], head: nn.Module, upsample: str, merge: str, wraps: bool):
        super().__init__()
        self.merge = merge
        widen = 2 if merge == "concatenate" else 1
        sources = [channels[0], *(widen * c for c in channels[1:-1])]
        self.doublings = nn.ModuleList(_doubling(c, d, upsample, wraps) for c, d in zip(sources, channels[1:]))
        self.mix = Conv(widen * channels[-1], channels[-1], 3, wraps=wraps) if merge == "concatenate" else nn.Identity()
        self.head = head

    def forward(self, features: list[Tensor]) -> Tensor:
        z, *finer = features
        skips = finer if self.merge else [None] * len(self.doublings)       # own encoders may give the latent alone
        for doubling, skip in zip(self.doublings, skips, strict=True):
            z = doubling(z)
            if self.merge == "add":
                z = z + skip
            elif self.merge == "concatenate":
                z = torch.cat([z, skip], dim=1)
        return torch.tanh(self.head(self.mix(z)))


def _doubling(c: int, d: int, upsample: str, wraps: bool) -> nn.Module:
    if upsample == "resize":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), Conv(c, d, 3, wraps=wraps))
    return nn.Sequential(Transposed(c, d, wraps), InstanceNorm(), nn.ReLU(inplace=True))


class Transposed(nn.ConvTranspose2d):
    """A learned doubling of both sides; where the grid wraps, the last column reaches the first."""

    def __init__(self, c: int, d: int, wraps: bool):
        super().__init__(c, d, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.wraps = wraps

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 1, 0, 0), mode="circular"))[..., 2:-2] if self.wraps else super().forward(x)


class Conv(nn.Sequential):
    """Padding, convolution, instance norm, ReLU: one step of every generator. No bias: the norm would remove it."""

    def __init__(self, d_in: int, d_out: int, kernel: int, stride: int = 1, wraps: bool = False, active: bool = True):
        super().__init__(
            Pad(kernel // 2, wraps),
            nn.Conv2d(d_in, d_out, kernel, stride, bias=False),
            InstanceNorm(),
            nn.ReLU(inplace=True) if active else nn.Identity(),
        )


class Pad(nn.Module):
    """Reflect at the borders; where the grid wraps, let the last column touch the first.

    An even kernel leaves out a column; `missing` gives it back where the grid wraps, so that the result wraps too.
    """

    def __init__(self, size: int, wraps: bool = False, border: str = "reflect", missing: int = 0):
        super().__init__()
        self.size, self.wraps, self.border, self.missing = size, wraps, border, missing

    def forward(self, x: Tensor) -> Tensor:
        s = self.size
        if s == 0:
            return x
        if not self.wraps:
            return F.pad(x, (s, s, s, s), mode=self.border)
        return F.pad(F.pad(x, (s, s + self.missing, 0, 0), mode="circular"), (0, 0, s, s), mode=self.border)


class InstanceNorm(nn.Module):
    """Normalise each channel of each sample (Ulyanov et al. 2016), without affine parameters.

    `moments` is None, or what a tiled translation shares between its tiles (see generate/tiles.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.moments: SharedMoments | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x) if self.moments is None else self.moments.normalise(x)


class Residual(nn.Module):
    """z + two 3x3 convolutions (Johnson et al. 2016): the block of the reference ResNet generator."""

    def __init__(self, d: int, wraps: bool):
        super().__init__()
        self.body = nn.Sequential(Conv(d, d, 3, wraps=wraps), Conv(d, d, 3, wraps=wraps, active=False))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.body(z)


class Bottleneck(nn.Module):
    """z + (1x1 to half the channels, 3x3, 1x1 back) (He et al. 2016): a fifth of the arithmetic of `Residual`."""

    def __init__(self, d: int, wraps: bool):
        super().__init__()
        self.body = nn.Sequential(
            Conv(d, d // 2, 1), Conv(d // 2, d // 2, 3, wraps=wraps), Conv(d // 2, d, 1, active=False)
        )

    def forward(self, z: Tensor) -> Tensor:
        return z + self.body(z)


class Trunk(nn.Sequential):
    """latent (B, D, *source) -> latent (B, D, *target): the only network that sees two domains."""

    def __init__(self, networks: Networks, source: tuple[int, int], target: tuple[int, int], wraps: bool = False):
        d = 4 * networks.width
        block = Bottleneck if networks.generator == "light" else Residual
        bridge = [] if source == target else [Regrid(d, source, target)]
        super().__init__(*bridge, *(block(d, wraps) for _ in range(networks.blocks)))


class Regrid(nn.Module):
    """Move a latent to another grid: each target cell attends over all source cells (Vaswani et al. 2017, eq. 1).

    (B, D, *source) -> (B, D, *target). The learned places fix both grids, so whole recordings must have them.
    """

    def __init__(self, d: int, source: tuple[int, int], target: tuple[int, int], heads: int = 4):
        super().__init__()
        self.source, self.target = source, target
        self.seats = nn.Parameter(torch.randn(target[0] * target[1], d) * d**-0.5)
        self.places = nn.Parameter(torch.randn(source[0] * source[1], d) * d**-0.5)
        self.attend = nn.MultiheadAttention(d, heads, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        if tuple(z.shape[-2:]) != self.source:
            raise ValueError(f"this model carries latents of {self.source} to another grid; got {tuple(z.shape[-2:])}")
        cells = rearrange(z, "b d h w -> b (h w) d")
        seats = self.seats.expand(len(z), -1, -1)
        moved, _ = self.attend(seats, cells + self.places, cells, need_weights=False)
        return rearrange(moved, "b (h w) d -> b d h w", h=self.target[0])


class PatchDiscriminator(nn.Sequential):
    """PatchGAN (Isola et al. 2017): (B, C, H, W) -> scores (B, 1, h, w).

    norm "spectral" (Miyato et al. 2018) bounds every layer and keeps the sample's own brightness and contrast, which
    "instance" removes.
    """

    def __init__(self, channels: int, width: int, layers: int, norm: str, wraps: bool = False):
        widths = [channels, *(width * min(2**n, 8) for n in range(layers + 1))]
        steps: list[nn.Module] = []
        for n, (c, d) in enumerate(zip(widths, widths[1:])):
            normed = norm == "instance" and n > 0
            stride = 2 if n < layers else 1
            steps += [Pad(1, wraps, "constant", missing=2 - stride), nn.Conv2d(c, d, 4, stride, bias=not normed)]
            steps += [nn.InstanceNorm2d(d)] if normed else []
            steps += [nn.LeakyReLU(0.2, inplace=True)]
        steps += [Pad(1, wraps, "constant", missing=1), nn.Conv2d(widths[-1], 1, 4)]
        if norm == "spectral":
            steps = [spectral_norm(step) if isinstance(step, nn.Conv2d) else step for step in steps]
        super().__init__(*steps)
