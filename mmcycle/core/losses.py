"""The objectives as pure functions of tensors: no state, no weights, no devices; all are computed in float32.

Letters: B batch, N patches, D features. Scores are a discriminator's output of any shape: larger means more real.
"""
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def generator_adversarial(kind: str, fake_scores: Tensor) -> Tensor:
    """What the generator pays for being found out. `kind` as in Objective.adversarial."""
    fake_scores = fake_scores.float()
    match kind:
        case "lsgan":                               # Mao et al. 2017, eq. 9
            return (fake_scores - 1).square().mean()
        case "nonsaturating":                       # Goodfellow et al. 2014, section 3
            return F.softplus(-fake_scores).mean()
        case "hinge" | "wgan-gp":                   # Lim & Ye 2017; Arjovsky et al. 2017, eq. 3
            return -fake_scores.mean()
    raise ValueError(f"unknown adversarial loss {kind!r}")


def discriminator_adversarial(kind: str, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the discriminator pays for taking one for the other. `kind` as in Objective.adversarial."""
    real_scores, fake_scores = real_scores.float(), fake_scores.float()
    match kind:
        case "lsgan":                               # halved, as in Zhu et al. 2017, so that it learns slower
            return 0.5 * ((real_scores - 1).square().mean() + fake_scores.square().mean())
        case "nonsaturating":
            return F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()
        case "hinge":
            return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()
        case "wgan-gp":
            return fake_scores.mean() - real_scores.mean()
    raise ValueError(f"unknown adversarial loss {kind!r}")


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """(||grad D|| - 1)^2 between real and fake, Gulrajani et al. 2017, eq. 3; share (B, 1, 1, 1) is the real one's."""
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_()
    return (_gradient_norms(discriminator, between) - 1).square().mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """||grad D(real)||^2 / 2 (Mescheder et al. 2018, eq. 9): flat where the data are."""
    return 0.5 * _gradient_norms(discriminator, real.detach().requires_grad_()).square().mean()


def _gradient_norms(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, ...) -> (B,): how steep the mean score of each sample is."""
    scores = discriminator(x).float().reshape(len(x), -1).mean(1)
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient.float().flatten(1).norm(dim=1)


def cycle(kind: str, real: Tensor, rec: Tensor, where: Tensor | None = None) -> Tensor:
    """There and back again should be where we were (Zhu et al. 2017, eq. 2); "l1" or "charbonnier" (smooth at 0).

    where (B, 1, H, W) in [0, 1] weighs the places: 0 where a sensor measured nothing. All zero gives 0.
    """
    distance = (real.float() - rec.float()).abs()
    if kind == "charbonnier":
        distance = (distance.square() + 1e-6).sqrt()
    if where is None:
        return distance.mean()
    weights = where.float().expand_as(distance)
    return (distance * weights).sum() / weights.sum().clamp_min(1)


def identity(real: Tensor, idt: Tensor) -> Tensor:
    """What is in the target domain already should stay (Zhu et al. 2017, section 5.2)."""
    return (real.float() - idt.float()).abs().mean()


def paired(partner: Tensor, fake: Tensor, known: Tensor) -> Tensor:
    """L1 to the true partner (Isola et al. 2017, eq. 3) where it is known: known (B,) is 1 or 0; none known costs 0."""
    distance = (partner.float() - fake.float()).abs().flatten(1).mean(1)
    return (distance * known).sum() / known.sum().clamp_min(1)


def low_resolution(real: Tensor, fake: Tensor, factor: int) -> Tensor:
    """L1 between contrast-normalised thumbnails: the layout stays while brightness and contrast may change."""
    return (_thumbnail(real.float(), factor) - _thumbnail(fake.float(), factor)).abs().mean()


def _thumbnail(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) -> (B, 1, H / factor, W / factor) with mean 0 and deviation 1."""
    small = F.avg_pool2d(x.mean(1, keepdim=True), factor)
    return (small - small.mean((-2, -1), keepdim=True)) / (small.std((-2, -1), keepdim=True) + 0.1)


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Each patch of the translation should know its own place in the source among the others of the same sample.

    query, key (B, N, D), the key without gradient; Park et al. 2020, eq. 3.
    """
    query, key = F.normalize(query.float(), dim=-1), F.normalize(key.detach().float(), dim=-1)
    similarity = torch.einsum("bnd,bmd->bnm", query, key) / temperature
    target = torch.arange(query.shape[1], device=query.device).expand(query.shape[0], -1)
    return F.cross_entropy(rearrange(similarity, "b n m -> (b n) m"), target.flatten())


def style(given: Tensor, shown: Tensor) -> Tensor:
    """A translation should show the style that it was given, (B, S) both (Huang et al. 2018, MUNIT, eq. 4)."""
    return (shown.float() - given.detach().float()).abs().mean()


def task_consistency(before: Tensor, after: Tensor) -> Tensor:
    """A frozen network should say of the translation what it says of the source; KL of class maps (B, K, ...).

    Hoffman et al. 2018 (CyCADA), eq. 4, with the soft prediction on the source as the target.
    """
    target = before.detach().float().log_softmax(1)
    return F.kl_div(after.float().log_softmax(1), target, log_target=True, reduction="none").sum(1).mean()
