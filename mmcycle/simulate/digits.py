"""Spoken digits and drawn ones, as two domains: sound and picture share a class, and nothing else.

OUT/digits.json
OUT/audio/three/0002.flac       said by made-up voices        OUT/image/three/0002.png       painted by hand, nearly
Equal names are a pair: the word and one of its pictures.
"""

from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from PIL import Image, ImageDraw, ImageFont

from mmcycle.data.seeds import seed_of
from mmcycle.errors import UserError
from mmcycle.files import write_json
from mmcycle.simulate.speech import RATE, WORDS, Voice, say
from mmcycle.simulate.speech_set import write_flac
from mmcycle.simulate.street import agreed, write_image

FIGURES = {"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
           "eight": "8", "nine": "9"}


def write_digits(out: Path, takes: int, seed: int = 0, words: int = 4, seconds: float = 1.0, size: int = 32) -> None:
    """Write what is missing: `takes` of each of the first `words` digits, `seconds` long, size x size pixels."""
    if takes < 1 or not 2 <= words <= len(FIGURES) or not 0.5 <= seconds <= 10 or not 16 <= size <= 1024:
        raise UserError(
            f"{takes} takes of {words} words, {seconds:g} s and {size} pixels: give a take or more, "
            f"2 to {len(FIGURES)} words, 0.5 to 10 s, 16 to 1024 pixels"
        )
    chosen = [word for word in FIGURES if word in WORDS][:words]
    wanted = {"kind": "digits", "seed": seed, "words": chosen, "seconds": seconds, "size": size, "rate": RATE}
    agreed(out / "digits.json", wanted, "digits")
    write_json(out / "digits.json", wanted)
    for word in chosen:
        for take in range(takes):
            rng = np.random.default_rng(seed_of(seed, "digit", word, take))
            sound, picture = out / "audio" / word / f"{take:04d}.flac", out / "image" / word / f"{take:04d}.png"
            wave, pixels = spoken(word, seconds, rng), painted(FIGURES[word], size, rng)
            if not sound.exists():
                write_flac(sound, wave)
            if not picture.exists():
                write_image(picture, pixels)


def spoken(word: str, seconds: float, rng: np.random.Generator) -> Array:
    """(N,): the word in a voice of its own, somewhere in the time, cut where it is too long."""
    wave = say([word], Voice.draw(rng), rng, rng.uniform(-28, -22))[: int(seconds * RATE)]
    before = int(rng.uniform(0, int(seconds * RATE) - len(wave) + 1))
    return np.pad(wave, (before, int(seconds * RATE) - len(wave) - before))


def painted(figure: str, size: int, rng: np.random.Generator) -> Array:
    """(size, size, 3) uint8: a light figure on dark ground, its colours, place, size and slant by chance."""
    page = Image.new("L", (4 * size, 4 * size))
    font = ImageFont.load_default(size=int(rng.uniform(2.6, 3.4) * size))
    middle = 2 * size + rng.uniform(-0.25, 0.25, 2) * size
    ImageDraw.Draw(page).text(tuple(middle), figure, 255, font, anchor="mm")
    cover = np.asarray(page.rotate(float(rng.uniform(-15, 15))).resize((size, size), Image.Resampling.BOX)) / 255
    ground, ink = rng.uniform(0, 70, 3), rng.uniform(150, 255, 3)
    pixels = ground + cover[..., None] * (ink - ground) + rng.normal(0, 6, (size, size, 1))
    return pixels.clip(0, 255).round().astype(np.uint8)
