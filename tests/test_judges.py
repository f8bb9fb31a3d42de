"""Judges of made pictures: what they read in pictures of bars whose classes and numbers are known."""
import torch

from mmcycle.metrics.judges import counter, reader


def test_a_reader_tells_the_classes_of_pixels_and_leaves_out_rare_ones():
    rng = torch.Generator().manual_seed(0)
    classes = torch.where(torch.rand(24, 1, 2, generator=rng) < 0.5, 2, 7).repeat_interleave(16, 1)
    classes = classes.repeat_interleave(8, 2)
    classes[0, 0, 0] = 9                                                            # one pixel of 6144
    pictures = torch.where(classes == 2, 0.5, -0.5)[:, None].expand(-1, 3, -1, -1)
    read = reader(pictures, classes, steps=40)
    assert (read(pictures) == classes).float().mean() > 0.95 and set(read(pictures).unique().tolist()) == {2, 7}


def bars(count: int, rng: torch.Generator) -> torch.Tensor:
    """(1, 16, 48), so many bright bars at places of their own."""
    picture = torch.zeros(1, 16, 48)
    for place in torch.randperm(6, generator=rng)[:count].tolist():
        picture[:, 4:12, 8 * place + 2 : 8 * place + 5] = 1
    return picture


def test_a_counter_tells_one_thing_from_two_wherever_they_stand():
    rng = torch.Generator().manual_seed(0)
    told, asked = torch.arange(96) % 3, torch.arange(30) % 3
    count = counter(torch.stack([bars(n, rng) for n in told.tolist()]), {"bar": told}, batch=16)
    assert (count(torch.stack([bars(n, rng) for n in asked.tolist()]))["bar"] == asked).float().mean() > 0.9


def test_the_same_seed_gives_the_same_judge_and_leaves_the_global_chance_alone():
    pictures, told = torch.rand(8, 3, 16, 16), {"light": torch.arange(8) % 2}
    state = torch.get_rng_state()
    first, second = (counter(pictures, told, passes=1)(pictures)["light"] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)
