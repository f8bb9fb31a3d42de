"""The step as tutorials write it, to measure against: eager float32, a joint graph, a Python image pool, plain Adam."""
import itertools
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.core.model import CycleModel


class Pool:
    """A list of 50 images and a loop over the batch."""

    def __init__(self, size: int = 50):
        self.size, self.images = size, []

    def __call__(self, images: Tensor) -> Tensor:
        chosen = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                chosen.append(image)
            elif random.random() > 0.5:
                index = random.randrange(self.size)
                chosen.append(self.images[index].clone())
                self.images[index] = image.clone()
            else:
                chosen.append(image)
        return torch.stack(chosen)


class TextbookStep:
    """Least-squares GAN, cycle 10, identity 5, on the networks of a CycleModel."""

    def __init__(self, model: CycleModel):
        self.model = model
        self.generators = [model.gen_ab, model.gen_ba]
        self.discriminators = [model.disc_a, model.disc_b]
        self.opt_gen = _adam(self.generators)
        self.opt_disc = _adam(self.discriminators)
        self.pool_a, self.pool_b = Pool(), Pool()

    def generator_loss(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The joint graph: six generator passes held at once."""
        m = self.model
        fake_b, fake_a = m.gen_ab(real_a), m.gen_ba(real_b)
        rec_a, rec_b = m.gen_ba(fake_b), m.gen_ab(fake_a)
        idt_a, idt_b = m.gen_ba(real_a), m.gen_ab(real_b)
        adversarial = (m.disc_b(fake_b) - 1).square().mean() + (m.disc_a(fake_a) - 1).square().mean()
        cycle = F.l1_loss(rec_a, real_a) + F.l1_loss(rec_b, real_b)
        identity = F.l1_loss(idt_a, real_a) + F.l1_loss(idt_b, real_b)
        return adversarial + 10 * cycle + 5 * identity, fake_a, fake_b

    def __call__(self, real_a: Tensor, real_b: Tensor) -> None:
        for disc in self.discriminators:
            disc.requires_grad_(False)
        self.opt_gen.zero_grad()
        loss, fake_a, fake_b = self.generator_loss(real_a, real_b)
        loss.backward()
        self.opt_gen.step()
        for disc in self.discriminators:
            disc.requires_grad_(True)
        self.opt_disc.zero_grad()
        for disc, real, fake in zip(self.discriminators, (real_a, real_b), (self.pool_a(fake_a), self.pool_b(fake_b))):
            (0.5 * ((disc(real) - 1).square().mean() + disc(fake).square().mean())).backward()
        self.opt_disc.step()


def _adam(networks: list[nn.Module]) -> torch.optim.Adam:
    return torch.optim.Adam(itertools.chain(*(n.parameters() for n in networks)), lr=2e-4, betas=(0.5, 0.999))
