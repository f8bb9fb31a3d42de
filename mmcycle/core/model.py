"""Two generators, two discriminators, and what they ask of each other.

Every tensor is named for what it is and for the domain it lives in: real_a fake_b rec_a idt_b. Networks are named for
the direction or the domain they serve: gen_ab gen_ba disc_a disc_b.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from mmcycle.core import losses, nets
from mmcycle.core.diff_augment import diff_augment
from mmcycle.core.pair_judge import SEEN, PairDiscriminator, View
from mmcycle.core.settings import Networks, Objective

if TYPE_CHECKING:
    from mmcycle.modality import Modality


class Leg(NamedTuple):
    """A part of the generators' objective with a graph of its own: descend it before asking for the next.

    terms are weighted; fake is the translation made on the way, or None; domain is the one it lives in.
    """

    terms: dict[str, Tensor]
    domain: str
    fake: Tensor | None


class CycleModel(nn.Module):
    """Unpaired translation between two domains, each with its own modality.

    Inside one modality this is CycleGAN (Zhu et al. 2017). Across two, the trunk carries the latent from one grid to
    the other, and the identity loss compares decoder_a(encoder_a(x)) with x, because gen_ba cannot read a sample of A.
    With `consistency: nce` alone only a -> b is built, as CUT does (Park et al. 2020); with `none` and the L1 of known
    pairs that is pix2pix (Isola et al. 2017). With `none` alone a head must keep the content: see `Head.keeps`.
    """

    def __init__(
        self, a: "Modality", b: "Modality", networks: Networks, objective: Objective,
        rng: torch.Generator | None = None, diff_augment: tuple[str, ...] = (), task: nn.Module | None = None,
    ):
        super().__init__()
        _check(a.shape, b.shape, networks, objective, task)
        if objective.identity and objective.consistency == "none" and _crosses(a, b):
            raise ValueError("loss.identity across modalities compares with the way back, which loss.consistency="
                             "'none' does not build: set loss.identity to 0")
        self.objective, self.policy = objective, diff_augment
        self.one_way = objective.consistency in ("nce", "none")
        self.crosses = _crosses(a, b)
        self.gen_ab = generator(a, b, networks)
        self.sees_pairs = networks.discriminator_sees == "pair"
        self.disc_b = discriminator(a, b, networks)
        self.gen_ba = None if self.one_way else generator(b, a, networks)
        self.disc_a = None if self.one_way else a.discriminator(networks)
        if objective.consistency in ("nce", "both") and any(gen.encoder is None for gen in self.generators.values()):
            raise ValueError(
                f"loss.consistency={objective.consistency!r} compares what encoders see, and one of these translations "
                "has none: use 'cycle'"
            )
        self.heads = nn.ModuleDict(self._patch_heads(a, b))
        self.task = task.eval().requires_grad_(False) if task else None
        for domain, disc in self.discriminators.items():
            _check_judge(domain, disc, a.shape, {"a": a, "b": b}[domain].shape, networks)
        self.rng = rng or torch.Generator()             # of the training device: patches, penalties, augmentation

    def legs(self, real_a: Tensor, real_b: Tensor, identity: float, known: Tensor | None = None) -> Iterator[Leg]:
        """(B, *shape_a), (B, *shape_b) -> the generators' objective, leg by leg.

        Descending each leg at once gives the gradients of the joint graph and holds the activations of two passes
        instead of six. `identity` is the weight of this step; known (B,) marks the pairs whose partner is true.
        """
        yield self._journey("ab", real_a, real_b, known)
        if not self.one_way:
            yield self._journey("ba", real_b, real_a, known)
        if identity:
            yield self._stay("b", real_b, identity)
            if not self.one_way:
                yield self._stay("a", real_a, identity)

    def discriminator_terms(
        self, domain: str, real: Tensor, fake: Tensor, step: int, source: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Samples of one domain, real and fake -> what its discriminator pays, and its mean scores.

        source: what the fakes were made of, and the true partners of the real ones; read by discriminators of pairs.
        They are shown the real ones beside a neighbour's source as well, which counts as a fake (Reed et al. 2016,
        GAN-CLS): otherwise nothing but looks may ever be asked for. Alone in its batch, one has no neighbour.
        """
        disc, o = self.discriminators[domain], self.objective
        seen = [real, fake.to(real.dtype)]
        if self.sees_pairs:
            seen = [disc.beside(x, source) for x in seen]
            seen += [self._astray(disc, real, fake, source)] if len(real) > 1 else []
        real_scores, *false = self._judge(disc, torch.cat(seen)).float().chunk(len(seen))
        told = torch.stack([losses.discriminator_adversarial(o.adversarial, real_scores, scores) for scores in false])
        terms = {f"disc_{domain}": told.mean()}
        with torch.autocast(real.device.type, enabled=False):
            true, made = (x.float() for x in seen[:2])
            if o.adversarial == "wgan-gp" and o.gradient_penalty:
                share = torch.rand(len(real), 1, 1, 1, generator=self.rng, device=self.rng.device).to(real.device)
                terms[f"penalty_{domain}"] = o.gradient_penalty * losses.gradient_penalty(disc.forward, true, made, share)
            if o.r1 and step % o.r1_every == 0:         # forward: what is compiled cannot be differentiated twice
                terms[f"r1_{domain}"] = o.r1 * o.r1_every * losses.r1_penalty(disc.forward, true)
        return terms, {f"real_{domain}": real_scores.mean().detach(), f"fake_{domain}": false[0].mean().detach()}

    @property
    def generators(self) -> dict[str, nn.Module]:
        """Direction -> generator, those that exist."""
        return {name: gen for name, gen in (("ab", self.gen_ab), ("ba", self.gen_ba)) if gen is not None}

    @property
    def discriminators(self) -> dict[str, nn.Module]:
        """Domain -> discriminator, those that exist."""
        return {name: disc for name, disc in (("a", self.disc_a), ("b", self.disc_b)) if disc is not None}

    def generator_parameters(self) -> list[nn.Parameter]:
        """What the generators' optimiser descends: generators and patch heads."""
        return [p for network in (*self.generators.values(), self.heads) for p in network.parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        return [p for disc in self.discriminators.values() for p in disc.parameters()]

    @contextmanager
    def only_judging(self) -> Iterator[None]:
        """The discriminators give scores but learn nothing: no gradients, no power iterations."""
        for disc in self.discriminators.values():
            disc.requires_grad_(False).eval()
        try:
            yield
        finally:
            for disc in self.discriminators.values():
                disc.requires_grad_(True).train()

    def _journey(self, direction: str, real: Tensor, partner: Tensor, known: Tensor | None) -> Leg:
        """One domain's samples there and back."""
        start, end = direction
        o, there = self.objective, self.generators[direction]
        style = there.look(partner)
        if style is not None and self.training:
            there.head.observe(partner, style)
        fake = there(real, style, self.rng)
        disc = self.discriminators[end]
        scores = self._judge(disc, disc.beside(fake, real) if self.sees_pairs else fake)
        terms = {f"adv_{end}": losses.generator_adversarial(o.adversarial, scores)}
        if o.consistency in ("cycle", "both") and o.cycle:
            back = self.generators[direction[::-1]]
            rec = back(fake, back.look(real), self.rng)
            terms[f"cycle_{start}"] = o.cycle * losses.cycle(o.cycle_distance, real, rec)
        if o.consistency in ("nce", "both") and o.nce:
            terms[f"nce_{start}"] = o.nce * self._patch_nce(direction, real, fake)
        if o.style and style is not None and style.shape[1]:
            terms[f"style_{end}"] = o.style * losses.style(style, there.look(fake))
        if o.low_resolution:
            terms[f"low_{start}"] = o.low_resolution * losses.low_resolution(real, fake, o.low_resolution_factor)
        if o.paired and known is not None:
            terms[f"paired_{end}"] = o.paired * losses.paired(partner, fake, known)
        if o.task and direction == "ab":
            terms["task_a"] = o.task * losses.task_consistency(self.task(real), self.task(fake))
        return Leg(terms, end, fake.detach())

    def _stay(self, domain: str, real: Tensor, weight: float) -> Leg:
        """What lives in the target domain already should not change."""
        other = "a" if domain == "b" else "b"
        arriving = self.generators[other + domain]
        if self.crosses:
            idt = arriving.decoder(self.generators[domain + other].encoder(real))
        else:
            idt = arriving(real, arriving.look(real), self.rng)
        return Leg({f"idt_{domain}": weight * losses.identity(real, idt)}, domain, None)

    def _judge(self, disc: nn.Module, x: Tensor) -> Tensor:
        return disc(diff_augment(x, self.policy, self.rng) if self.policy else x)

    def _astray(self, disc: PairDiscriminator, real: Tensor, fake: Tensor, source: Tensor) -> Tensor:
        """Real samples beside a neighbour's source; where that is the same source (one caption, twice), fakes."""
        other = source.roll(1, 0)
        same = (other == source).flatten(1).all(1)[:, None, None, None]
        return disc.beside(torch.where(same, fake.to(real.dtype), real), other)

    def _patch_nce(self, direction: str, real: Tensor, fake: Tensor) -> Tensor:
        """Mean over the encoder's stages of the PatchNCE loss between translation and source."""
        encoder, heads = self.generators[direction].encoder, self.heads[direction]
        queries = encoder(fake)
        with torch.no_grad():
            keys = encoder(real)
        terms = []
        for query, key, head in zip(queries, keys, heads, strict=True):
            cells = query.shape[-2] * query.shape[-1]
            places = torch.randperm(cells, generator=self.rng, device=self.rng.device)[: self.objective.nce_patches]
            query, key = (rearrange(f, "b d h w -> b (h w) d")[:, places.to(f.device)] for f in (query, key))
            with torch.no_grad():
                key = head(key)
            terms.append(losses.patch_nce(head(query), key, self.objective.nce_temperature))
        return torch.stack(terms).mean()

    def _patch_heads(self, a: "Modality", b: "Modality") -> dict[str, nn.ModuleList]:
        if self.objective.consistency not in ("nce", "both"):
            return {}
        return {
            direction: nn.ModuleList(PatchHead(f.shape[1]) for f in _stages(gen.encoder, shape))
            for (direction, gen), shape in zip(self.generators.items(), (a.shape, b.shape))
        }


class PatchHead(nn.Sequential):
    """(B, N, D) -> (B, N, 256): the small network that compares patches (Park et al. 2020, section 3)."""

    def __init__(self, d: int):
        super().__init__(nn.Linear(d, 256), nn.ReLU(), nn.Linear(256, 256))


def generator(a: "Modality", b: "Modality", networks: Networks) -> nets.Generator:
    """The network that translates a to b; the encoder's own output tells the grids."""
    head = b.head(a)
    if networks.generator == "bilateral" and (head is not None or _crosses(a, b)):
        raise ValueError("model.generator='bilateral' recolours samples of one kind and shape, and these domains are "
                         "two kinds, two shapes, or a sensor with a head of its own: take 'light'")
    if head is not None and not head.parts:
        return nets.Generator(None, None, None, head=head)
    encoder = a.encoder(networks)
    stages = _stages(encoder, a.shape)
    source, alike = _grid(stages), a.shape[-2:] == b.shape[-2:] and type(a) is type(b)
    target = source if alike else _grid(_stages(b.encoder(networks), b.shape))
    skips = len(stages) > 1 and nets.uses_skips(networks, a.shape, b.shape)
    trunk = nets.trunk(networks, source, target, a.wraps and b.wraps)
    decoder = b.decoder(networks, skips) if head is None else nets.decoder(head.parts, networks, skips, b.wraps)
    residual = (networks.residual or networks.generator == "bilateral") and a.shape == b.shape
    return nets.Generator(encoder, trunk, decoder, residual, head)


def discriminator(a: "Modality", b: "Modality", networks: Networks) -> nn.Module:
    """The network that judges samples of b, or translations of a beside their sources."""
    own = b.discriminator(networks)
    if networks.discriminator_sees == "sample":
        return own
    if not isinstance(own, nets.PatchDiscriminator):
        raise ValueError(f"model.discriminator_sees='pair' needs samples of b that an ordinary discriminator judges; "
                         f"{type(b).__name__} has one of its own: take 'sample'")
    (channels, *from_size), (more, *size) = a.shape, b.shape
    encoder = a.encoder(networks)
    latent, grid = _stages(encoder, a.shape)[0].shape[1:], _grid(_stages(b.encoder(networks), b.shape))
    if from_size == size and tuple(latent[1:]) == grid:
        return PairDiscriminator(nn.Identity(), nets.discriminator(channels + more, networks, b.wraps))
    view = View(encoder, tuple(latent), grid, tuple(size))
    return PairDiscriminator(view, nets.discriminator(SEEN + more, networks, b.wraps))


def _crosses(a: "Modality", b: "Modality") -> bool:
    """Whether the domains are of two kinds, so that no network of one can read a sample of the other."""
    return type(a) is not type(b) or a.shape != b.shape


def _grid(stages: list[Tensor]) -> tuple[int, int]:
    return tuple(stages[0].shape[-2:])


@torch.no_grad()
def _stages(encoder: nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    return encoder(torch.zeros(1, *shape))


def _check(
    a: tuple[int, ...], b: tuple[int, ...], networks: Networks, objective: Objective, task: nn.Module | None
) -> None:
    """Refuse what the shapes make impossible or meaningless."""
    stride, factor = nets.STRIDE[networks.generator], objective.low_resolution_factor
    for domain, (_, height, width) in (("a", a), ("b", b)):
        if height % stride or width % stride or min(height, width) < 2 * stride:
            raise ValueError(
                f"samples of {domain} are {height} x {width}; model.generator={networks.generator!r} halves them down "
                f"to 1/{stride}, so each side must be a multiple of {stride}, {2 * stride} or more: change the size or "
                "the generator"
            )
        if objective.low_resolution and min(height, width) < 2 * factor:
            raise ValueError(
                f"samples of {domain} are {height} x {width}; loss.low_resolution_factor={factor} leaves less than "
                f"2 x 2 of them: take {min(height, width) // 2} or less"
            )
    if objective.consistency in ("nce", "both") and a != b:
        raise ValueError(
            f"loss.consistency={objective.consistency!r} compares patches of equal shapes; a has {a}, b has {b}: "
            "use 'cycle'"
        )
    if objective.low_resolution and a[-2:] != b[-2:]:
        raise ValueError(f"loss.low_resolution compares equal sizes; a has {a[-2:]}, b has {b[-2:]}: set it to 0")
    if objective.task and task is None:
        raise ValueError("loss.task is set, but there is no task network: name one in loss.task_network")


@torch.no_grad()
def _check_judge(
    domain: str, disc: nn.Module, source: tuple[int, ...], shape: tuple[int, ...], networks: Networks
) -> None:
    """Let the discriminator score an empty sample, to refuse now what would fail in the first step."""
    x = torch.zeros(1, *shape)
    try:
        disc.eval()(disc.beside(x, torch.zeros(1, *source)) if isinstance(disc, PairDiscriminator) else x)
    except (RuntimeError, ValueError) as error:
        layers = networks.discriminator_layers
        raise ValueError(
            f"samples of {domain} are {shape[-2]} x {shape[-1]}, too small for model.discriminator_layers={layers}, "
            f"which needs {3 * 2**layers} x {3 * 2**layers}: take fewer layers or larger samples"
        ) from error
    finally:
        disc.train()
