"""Distances between recordings, and between sets of them, as pure functions of tensors.

Letters: C channels, H W size, N M recordings of a set, D numbers that describe one recording.
Recordings are in [-1, 1], so their data range is 2. Sets are compared through features: (N, C, H, W) -> (N, D).
A distance between sets is a diagnosis, not a goal: it can fall while the labels stop being true.
"""
import hashlib
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import UserError

Kernel = Literal["polynomial", "rbf"]
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)      # finest scale first; Wang et al. 2003, section 3.2
RBF_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)                         # in units of the typical distance in the reference


class Estimate(NamedTuple):
    """A number, its standard error, and the interval that holds it in 95 of 100 repetitions."""

    value: float
    error: float
    low: float
    high: float


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference: two (..., C, H, W) -> (...)."""
    _same_shape(x, y)
    return (x - y).abs().mean(dim=(-3, -2, -1))


def psnr(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """Peak signal to noise ratio in dB, infinite for equal recordings: two (..., C, H, W) -> (...)."""
    _same_shape(x, y)
    return 10 * torch.log10(data_range**2 / (x - y).square().mean(dim=(-3, -2, -1)))


def ssim(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """Structural similarity, 1 for equal recordings: two (..., C, H, W), H and W >= 11 -> (...).

    Wang et al. 2004, eq. 13, with their 11 x 11 Gaussian window (sigma 1.5), no padding, mean over channels.
    """
    luminance, contrast = _similarity(x, y, data_range)
    return (luminance * contrast).mean(dim=(-3, -2, -1))


def ms_ssim(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """Structural similarity over five scales: two (..., C, H, W), H and W >= 176 -> (...). Wang et al. 2003, eq. 7.

    A scale whose contrasts disagree (negative mean) counts as 0, because a fractional power of it has no meaning.
    """
    _same_shape(x, y)
    if min(x.shape[-2:]) < 176:
        raise UserError(f"ms_ssim halves its input four times and needs 176 x 176 or more, got {_size(x)}; use ssim")
    total = torch.ones(x.shape[:-2], dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, contrast = _similarity(x, y, data_range)
        coarsest = scale == len(MS_SSIM_WEIGHTS) - 1
        score = (luminance * contrast if coarsest else contrast).mean(dim=(-2, -1))
        total = total * score.clamp_min(0) ** weight
        x, y = _halve(x), _halve(y)
    return total.mean(dim=-1)


class RandomFeatures:
    """Describes recordings of any channel count and size without a download, by three random convolutions.

    Each layer halves the size; the mean and the deviation of every channel of every layer are the features. The
    weights are orthogonal and follow from the seed alone. Scores of extractors with different `name` or `sha256`
    cannot be compared.
    """

    def __init__(self, channels: int, *, seed: int = 0, width: int = 32) -> None:
        rng = torch.Generator().manual_seed(seed)
        sizes = (channels, width, 2 * width, 4 * width)
        self.name = f"random-conv-{channels}x{width}-seed{seed}"
        self.weights = [_orthogonal(fan_in, fan_out, rng) for fan_in, fan_out in zip(sizes, sizes[1:])]

    @property
    def sha256(self) -> str:
        """Of the weights, in hexadecimal."""
        return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in self.weights)).hexdigest()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, 14 * width)."""
        if x.ndim != 4 or x.shape[1] != self.weights[0].shape[1]:
            raise UserError(f"{self.name} describes (N, {self.weights[0].shape[1]}, H, W), got {tuple(x.shape)}")
        described = []
        for weight in self.weights:
            x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight.to(x), stride=2))
            described += [x.mean(dim=(-2, -1)), x.std(dim=(-2, -1), correction=0)]
        return torch.cat(described, dim=1)


def standardise(reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets of features, float64, in units in which the reference (N, D) has mean 0 and deviation 1.

    A feature that hardly varies in the reference is measured in 1 % of the mean deviation, or it would drown the rest.
    """
    _comparable(reference, other)
    reference, other = reference.double(), other.double()
    deviation = reference.std(dim=0)
    deviation = deviation.clamp_min(max(0.01 * deviation.mean().item(), 1e-12))
    return (reference - reference.mean(dim=0)) / deviation, (other - reference.mean(dim=0)) / deviation


def kid(reference: Tensor, other: Tensor, kernel: Kernel = "polynomial") -> float:
    """Kernel distance of two sets of features (N, D), (M, D): the unbiased squared MMD over all pairs.

    Binkowski et al. 2018, with the kernel (x.y / D + 1)^3, or Gretton et al. 2012, eq. 3, with a mixture of five
    Gaussians. Unbiased: near 0, and as often below as above, for sets of one distribution. The cubic kernel explodes
    for sets far apart; there prefer "rbf", which stays below 2 and expects standardised features. Memory O((N + M)^2).
    """
    within_a, within_b, across = _kernels(reference, other, kernel)
    ones_a, ones_b = within_a.new_ones(1, len(within_a)), within_b.new_ones(1, len(within_b))
    return _mmd(within_a, within_b, across, ones_a, ones_b).item()


def kid_interval(
    reference: Tensor, other: Tensor, rng: torch.Generator, kernel: Kernel = "polynomial", draws: int = 1000
) -> Estimate:
    """`kid` with a bootstrap over the recordings of both sets (rng lives on the CPU).

    A recording drawn twice is never compared with itself, which would push every draw upwards. Where both sets have
    one distribution the error is overestimated (about 1.7 times): the interval is too wide there, never too narrow.
    """
    within_a, within_b, across = _kernels(reference, other, kernel)
    weights_a = _resampled(len(within_a), draws, rng).to(within_a)
    weights_b = _resampled(len(within_b), draws, rng).to(within_b)
    drawn = _mmd(within_a, within_b, across, weights_a, weights_b)
    drawn = drawn[drawn.isfinite()]                             # one recording drawn every time makes no pair
    low, high = drawn.quantile(drawn.new_tensor([0.025, 0.975])).tolist()
    return Estimate(kid(reference, other, kernel), drawn.std().item(), low, high)


def frechet(reference: Tensor, other: Tensor) -> float:
    """Squared Frechet distance of the two Gaussians fitted to features (N, D), (M, D). Heusel et al. 2017, eq. 6.

    Biased upwards for few samples, badly so for N or M below D: compare only numbers of equal N and M, else use kid.
    """
    _comparable(reference, other)
    a, b = reference.double(), other.double()
    root = _square_root(torch.cov(a.T).reshape(a.shape[1], a.shape[1]))
    cov_b = torch.cov(b.T).reshape(b.shape[1], b.shape[1])
    shared = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    spread = a.var(dim=0).sum() + b.var(dim=0).sum() - 2 * shared
    return ((a.mean(dim=0) - b.mean(dim=0)).square().sum() + spread).clamp_min(0).item()


def gaussian_window(size: int, sigma: float) -> Tensor:
    """(size,), sums to 1."""
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    return (window / window.sum()).float()


def blur(x: Tensor, window: Tensor) -> Tensor:
    """Filter rows and columns of every channel with a (size,) window, without padding: H and W lose size - 1."""
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = F.conv2d(flat, rearrange(window.to(x), "size -> 1 1 size 1"))
    flat = F.conv2d(flat, rearrange(window.to(x), "size -> 1 1 1 size"))
    return flat.reshape(*x.shape[:-2], *flat.shape[-2:])


def _similarity(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """The luminance and the contrast-structure factor of SSIM at every place."""
    _same_shape(x, y)
    if min(x.shape[-2:]) < 11:
        raise UserError(f"ssim looks through a window of 11 x 11 and needs at least that, got {_size(x)}")
    window = gaussian_window(11, 1.5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = blur(x, window), blur(y, window)
    var_x = blur(x * x, window) - mean_x.square()
    var_y = blur(y * y, window) - mean_y.square()
    covariance = blur(x * y, window) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def _halve(x: Tensor) -> Tensor:
    flat = F.avg_pool2d(x.reshape(-1, 1, *x.shape[-2:]), 2)
    return flat.reshape(*x.shape[:-2], *flat.shape[-2:])


def _orthogonal(fan_in: int, fan_out: int, rng: torch.Generator) -> Tensor:
    weight = torch.empty(fan_out, fan_in, 3, 3)
    return torch.nn.init.orthogonal_(weight, gain=2**0.5, generator=rng)


def _kernels(a: Tensor, b: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel values within a and within b, where no recording meets itself, and across."""
    _comparable(a, b)
    a, b = a.double(), b.double()
    measure = {"polynomial": _polynomial, "rbf": _rbf}.get(kernel)
    if measure is None:
        raise UserError(f"unknown kernel {kernel!r}, allowed: 'polynomial', 'rbf'")
    within_a, within_b = measure(a, a).fill_diagonal_(0), measure(b, b).fill_diagonal_(0)
    return within_a, within_b, measure(a, b)


def _polynomial(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _rbf(a: Tensor, b: Tensor) -> Tensor:
    squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    typical = 2 * a.shape[1]                                    # of two standardised, independent samples
    return sum(torch.exp(-squared / (2 * width**2 * typical)) for width in RBF_WIDTHS) / len(RBF_WIDTHS)


def _mmd(within_a: Tensor, within_b: Tensor, across: Tensor, weights_a: Tensor, weights_b: Tensor) -> Tensor:
    """Squared MMD for each row of weights (K, N), (K, M), how often a recording was drawn -> (K,)."""
    mean_a = _pairs(weights_a, within_a)
    mean_b = _pairs(weights_b, within_b)
    between = ((weights_a @ across) * weights_b).sum(dim=1) / (weights_a.sum(dim=1) * weights_b.sum(dim=1))
    return mean_a + mean_b - 2 * between


def _pairs(weights: Tensor, within: Tensor) -> Tensor:
    """Weighted mean of `within` (N, N) over pairs of different recordings."""
    count = weights.sum(dim=1).square() - weights.square().sum(dim=1)
    return ((weights @ within) * weights).sum(dim=1) / count


def _resampled(size: int, draws: int, rng: torch.Generator) -> Tensor:
    """(draws, size): how often each of `size` recordings is drawn, with replacement, in each draw."""
    chosen = torch.randint(size, (draws, size), generator=rng)
    return torch.zeros(draws, size).scatter_add_(1, chosen, torch.ones(draws, size))


def _square_root(matrix: Tensor) -> Tensor:
    """Of a symmetric, positive semi-definite matrix; rounding below zero is taken as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _comparable(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        found = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise UserError(f"features must be (N, D) and (M, D) with N and M >= 2, got {found}")


def _same_shape(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim < 3:
        raise UserError(f"two (..., C, H, W) of one shape are compared, got {tuple(x.shape)} and {tuple(y.shape)}")


def _size(x: Tensor) -> str:
    return f"{x.shape[-2]} x {x.shape[-1]}"
