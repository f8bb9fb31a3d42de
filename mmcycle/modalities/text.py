"""Short texts, such as captions, seen by the networks as a grid of the bits of their bytes.

Letters: L bytes of room, H W the grid that they fill row by row, S states of the reading automaton.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le

from mmcycle.errors import RecordingError, UserError
from mmcycle.files import write_atomic
from mmcycle.modality import Drawing, Modality

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mmcycle.core.settings import Networks

BITS = 8
PLAIN = (9, 10, 13, *range(32, 127))                # tab, the two ends of line, and what ASCII can print
LINE = 32                                           # characters in a line of a drawing


@dataclass(frozen=True, kw_only=True)
class Text(Modality):
    """One text a file, UTF-8, of at most `length` bytes: a caption, a transcript, a sign.

    Every byte is eight values of -1 or 1, its highest bit first; zero bytes fill what is left. What the networks make
    becomes the nearest text: of all that are valid, the one whose bits agree best with the values.
    """

    length: Annotated[int, Ge(64), Le(4096)] = 128  # bytes of the longest text
    rows: Annotated[int, Ge(2)] = 8                 # of the grid: generator resnet asks for 8 and more, light for 16
    alphabet: Literal["ascii", "utf-8"] = "ascii"   # of what is made; other letters are refused where it is ascii

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    extensive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.length % (4 * self.rows):
            raise UserError(f"length: got {self.length}; it must be a multiple of {4 * self.rows}, four times rows")

    @property
    def shape(self) -> tuple[int, int, int]:
        return BITS, self.rows, self.length // self.rows

    def load(self, path: Path) -> str:
        """The text byte for byte, a final end of line included; refused: an empty one, and all that is no text."""
        with path.open("rb") as file:
            content = file.read(self.length + 1)    # a file of any size costs no more
        if len(content) > self.length:
            raise RecordingError(f"{path}: has {path.stat().st_size} bytes, this domain holds texts of up to "
                                 f"{self.length}; shorten it, or set length")
        try:
            text = content.decode("utf-8")
            self._check(text)
        except UnicodeDecodeError as error:
            found = f"byte {error.start} is {content[error.start]:#04x}"
            raise RecordingError(f"{path}: is no UTF-8 text: {found}") from None
        except RecordingError as error:
            raise RecordingError(f"{path}: {error}") from None
        return text

    def save(self, raw: str, path: Path) -> None:
        write_atomic(path, lambda temporary: temporary.write_bytes(raw.encode("utf-8")) and None)

    def to_tensor(self, raw: str) -> tuple[Tensor, None]:
        import torch

        content = raw.encode("utf-8")
        if len(content) > self.length:
            raise RecordingError(f"a text of {len(content)} bytes; this domain holds texts of up to {self.length}")
        self._check(raw)
        padded = np.frombuffer(content.ljust(self.length, b"\0"), np.uint8)
        return torch.from_numpy(CODE[padded].T.reshape(self.shape).copy()), None

    def from_tensor(self, x: Tensor, context: None) -> str:
        """Also a text of one byte at least: nothing is no caption."""
        values = x.detach().float().cpu().numpy().reshape(BITS, -1)
        return nearest_text(CODE @ values.astype(np.float64), self.alphabet).decode("utf-8")

    def crop(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """All of it."""
        return x.clone()

    def render(self, x: Tensor) -> Tensor:
        """The text as it would be saved, in lines of 32 characters, dark on white."""
        return drawn(self.from_tensor(x, None), self.length)

    def present(self, raw: str, labels: Sequence[Path] = ()) -> tuple[Drawing]:
        return (Drawing(drawn(raw, self.length)),)

    def encoder(self, networks: Networks) -> nn.Module:
        from mmcycle.modalities.text_nets import TextEncoder

        return TextEncoder(networks.width, self.length)

    def decoder(self, networks: Networks, skips: bool) -> nn.Module:
        from mmcycle.modalities.text_nets import TextDecoder

        return TextDecoder(networks.width, self.shape)

    def discriminator(self, networks: Networks) -> nn.Module:
        from mmcycle.modalities.text_nets import TextDiscriminator

        return TextDiscriminator(networks.discriminator_width, networks.discriminator_layers, self.length)

    def metrics(self) -> dict[str, Callable[[Tensor, Tensor], float]]:
        return {"character_error_rate": self._character_error_rate}

    def _character_error_rate(self, x: Tensor, y: Tensor) -> float:
        """Letters to change, add or leave out to make y of x, as a share of the letters of x."""
        said, heard = (self.from_tensor(one, None) for one in (x, y))
        return edits(said, heard) / len(said)

    def _check(self, text: str) -> None:
        if not text:
            raise RecordingError("is empty; a text has one letter at least")
        strange = next((letter for letter in text if not _allowed(letter, self.alphabet)), None)
        if strange is not None:
            ascii_only = self.alphabet == "ascii"
            able = "printable ASCII; set alphabet: utf-8 for others" if ascii_only else "no control characters"
            raise RecordingError(f"holds {strange!r}; a text is made of tabs, ends of line and {able}")


def _allowed(letter: str, alphabet: str) -> bool:
    return ord(letter) in PLAIN or (alphabet == "utf-8" and ord(letter) > 127)


CODE = (np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1)   # byte -> its bits


def nearest_text(agreement: np.ndarray, alphabet: str) -> bytes:
    """Agreement of each byte value with each place (256, L) -> the valid text with the most, without its zero bytes.

    Viterbi 1967 over the automaton that reads UTF-8: every prefix is kept for each state that it may be in.
    """
    ways = _ways(alphabet)
    score = np.full(len(ways), -np.inf)
    score[EMPTY] = 0.0
    steps = []
    for gain in agreement.T:
        total = (score[:, None] + gain).ravel()     # (S * 256): a state, then a byte
        steps.append([way[total[way].argmax()] if len(way) else 0 for way in ways])
        score = np.array([total[step] if len(way) else -np.inf for step, way in zip(steps[-1], ways)])
    state = LETTER if score[LETTER] >= score[END] else END
    found = bytearray()
    for step in reversed(steps):
        state, byte = divmod(int(step[state]), 256)
        found.append(byte)
    return bytes(reversed(found)).rstrip(b"\0")


EMPTY, LETTER, END, ONE, TWO, THREE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4 = range(10)     # ONE: byte is missing ...


@lru_cache(maxsize=2)
def _ways(alphabet: str) -> list[np.ndarray]:
    """For each state the numbers state * 256 + byte of all ways into it (RFC 3629, section 4)."""
    ways: list[list[int]] = [[] for _ in range(10)]

    def lead(start: int, first: int, last: int, end: int) -> None:
        ways[end] += [start * 256 + byte for byte in range(first, last + 1)]

    for start in (EMPTY, LETTER):
        for byte in PLAIN:
            lead(start, byte, byte, LETTER)
        if alphabet == "utf-8":
            for first, last, end in (
                (0xC2, 0xDF, ONE), (0xE0, 0xE0, AFTER_E0), (0xE1, 0xEC, TWO), (0xED, 0xED, AFTER_ED),
                (0xEE, 0xEF, TWO), (0xF0, 0xF0, AFTER_F0), (0xF1, 0xF3, THREE), (0xF4, 0xF4, AFTER_F4),
            ):
                lead(start, first, last, end)
    for start, first, last, end in (
        (ONE, 0x80, 0xBF, LETTER), (TWO, 0x80, 0xBF, ONE), (THREE, 0x80, 0xBF, TWO), (AFTER_E0, 0xA0, 0xBF, ONE),
        (AFTER_ED, 0x80, 0x9F, ONE), (AFTER_F0, 0x90, 0xBF, TWO), (AFTER_F4, 0x80, 0x8F, TWO),
        (LETTER, 0, 0, END), (END, 0, 0, END),
    ):
        lead(start, first, last, end)
    return [np.array(way, dtype=np.int64) for way in ways]


def edits(said: str, heard: str) -> int:
    """Letters to change, add or leave out (Levenshtein 1966)."""
    row = list(range(len(heard) + 1))
    for count, letter in enumerate(said, start=1):
        above, row[0] = row[0], count
        for place, other in enumerate(heard, start=1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (letter != other))
    return row[-1]


def drawn(text: str, length: int) -> Tensor:
    """(3, H, W) uint8, of one size for all texts of a domain."""
    import torch
    from PIL import Image, ImageDraw, ImageFont

    lines = [line[start : start + LINE] for line in text.split("\n") for start in range(0, max(len(line), 1), LINE)]
    page = Image.new("RGB", (8 * LINE, 16 * -(-length // LINE)), "white")
    seen = "\n".join("".join(letter if letter.isprintable() else " " for letter in line) for line in lines)
    font = ImageFont.load_default()
    ImageDraw.Draw(page).multiline_text((4, 2), seen.encode("latin-1", "replace").decode("latin-1"), "black", font)
    return torch.from_numpy(np.array(page)).permute(2, 0, 1)
