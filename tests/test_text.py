"""Text: every valid text survives, whatever networks make becomes the nearest valid text."""
import itertools

import numpy as np
import pytest
import torch

from command import mmcycle
from mmcycle.core.settings import Networks
from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.text_nets import bits
from mmcycle.modalities.text import CODE, Text, edits, nearest_text
from mmcycle.testing import check_modality

SAMPLES = ["three cars and one traffic light by night\n", "x", "tab\tand\r\nends of line", "~" * 128]
UNICODE = ["Straße, 12 €", "\U0001f600é中\u07ff\u0800\uffff\U0010ffff\ud7ff\ue000", "a" * 125 + "中"]


@pytest.mark.parametrize(("modality", "samples"), [(Text(), SAMPLES), (Text(alphabet="utf-8"), SAMPLES + UNICODE)])
def test_every_law_of_the_contract_holds(modality, samples):
    broken = [str(law) for law in check_modality(modality, samples, tolerance=0.0) if not law.passed]
    assert not broken


@pytest.mark.parametrize("text", SAMPLES + UNICODE)
def test_a_text_comes_back_byte_for_byte(tmp_path, text):
    modality = Text(alphabet="utf-8")
    assert modality.from_tensor(*modality.to_tensor(text)) == text
    modality.save(text, tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_bytes() == text.encode() and modality.load(tmp_path / "x.txt") == text


def test_a_byte_is_eight_bits_the_highest_first_and_the_grid_is_filled_row_by_row():
    x, context = Text(length=64).to_tensor("A" * 8 + "B")
    assert x.shape == (8, 8, 8) and context is None
    assert x[:, 0, 7].tolist() == [-1, 1, -1, -1, -1, -1, -1, 1]        # A is 65
    assert x[:, 1, 0].tolist() == [-1, 1, -1, -1, -1, -1, 1, -1]        # B is 66
    assert (x[:, 1, 1:] == -1).all() and (x[:, 2:] == -1).all()


def test_weak_bits_give_way_to_strong_ones():
    modality = Text(length=64)
    x, _ = modality.to_tensor("cat")
    x[7, 0, 0] = -0.1                       # c is 99, b is 98: the lowest bit says b, but not loudly
    assert modality.from_tensor(x, None) == "bat"
    x[:, 0, 1] = torch.tensor([0.2, 1, 1, -1, -1, -1, -1, 1])           # 225 is no ASCII; the nearest that is, is a
    assert modality.from_tensor(x, None) == "bat"


def test_nothing_becomes_one_letter_and_what_follows_the_end_is_not_read():
    modality = Text(length=64)
    assert len(modality.from_tensor(-torch.ones(8, 8, 8), None)) == 1
    x, _ = modality.to_tensor("ends here")
    x[:, 7, 7] = torch.tensor(CODE[ord("Z")]) * 0.5
    assert modality.from_tensor(x, None) == "ends here"


@pytest.mark.parametrize("alphabet", ["ascii", "utf-8"])
def test_whatever_networks_make_is_valid_text(alphabet):
    modality, rng = Text(length=64, alphabet=alphabet), torch.Generator().manual_seed(0)
    for _ in range(20):
        text = modality.from_tensor(torch.rand(8, 8, 8, generator=rng) * 2 - 1, None)
        assert 0 < len(text.encode("utf-8")) <= 64 and (alphabet == "utf-8" or text.isascii())
        assert "\0" not in text and modality.from_tensor(*modality.to_tensor(text)) == text


def test_the_nearest_text_is_the_best_of_all_valid_ones():
    """By trying every pair of bytes."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        agreement = CODE @ rng.uniform(-1, 1, (8, 2))
        found = {}
        for pair in itertools.product(range(256), repeat=2):
            content = bytes(pair).rstrip(b"\0")
            try:
                letters = content.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if letters and "\0" not in letters and all(one in "\t\n\r" or " " <= one != "\x7f" for one in letters):
                found[content] = agreement[pair[0], 0] + agreement[pair[1], 1]
        assert nearest_text(agreement, "utf-8") == max(found, key=found.get)


@pytest.mark.parametrize(("content", "problem"), [
    (b"", "x.txt: is empty"),
    (b"a" * 65, "x.txt: has 65 bytes, this domain holds texts of up to 64; shorten it, or set length"),
    (b"caf\xe9", "x.txt: is no UTF-8 text: byte 3 is 0xe9"),
    (b"a\0b", r"x.txt: holds '\\x00'"),
    ("café".encode(), "holds 'é'; a text is made of .*set alphabet: utf-8"),
])
def test_what_is_no_text_of_this_domain_is_refused_by_name(tmp_path, content, problem):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(RecordingError, match=problem):
        Text(length=64).load(tmp_path / "x.txt")


def test_a_text_in_memory_that_is_too_long_is_refused():
    with pytest.raises(RecordingError, match="a text of 65 bytes; this domain holds texts of up to 64"):
        Text(length=64).to_tensor("a" * 65)


def test_a_length_that_the_grid_cannot_hold_is_refused():
    with pytest.raises(UserError, match="length: got 100; it must be a multiple of 32"):
        Text(length=100)


@pytest.mark.parametrize(("said", "heard", "count"), [
    ("kitten", "sitting", 3), ("", "ab", 2), ("ab", "", 2), ("x", "x", 0),
])
def test_edits_are_counted_as_levenshtein_does(said, heard, count):
    assert edits(said, heard) == count


def test_the_error_rate_is_the_share_of_letters_that_are_wrong():
    modality = Text(length=64)
    x, y = (modality.to_tensor(text)[0] for text in ("four", "fur"))
    assert modality.metrics()["character_error_rate"](x, y) == 0.25


def test_a_text_is_drawn_dark_on_white_in_one_size():
    modality = Text(length=128, alphabet="utf-8")
    one, = modality.present("two cars by day")
    other, = modality.present("中" * 40)
    assert one.pixels.shape == other.pixels.shape == (3, 64, 256) and one.pixels.dtype == torch.uint8
    assert one.pixels.min() < 64 and one.pixels[:, 32:].min() == 255    # the second half has no line


def test_the_networks_know_where_in_the_text_they_are():
    torch.manual_seed(0)
    networks, modality = Networks(width=4, discriminator_width=4, discriminator_layers=2), Text(length=64)
    x = modality.to_tensor("a" * 64)[0][None]
    (latent,) = modality.encoder(networks)(x)
    scores = modality.discriminator(networks)(x)
    assert latent.shape == (1, 16, 2, 8) and scores.shape == (1, 1, 1, 16)
    assert latent[0, :, :, 2:6].std(dim=(1, 2)).max() > 0.01            # equal letters, other places
    assert modality.decoder(networks, True)([latent, x, x]).shape == x.shape


def test_the_command_line_knows_texts(tmp_path):
    (tmp_path / "x.txt").write_text("one car by day")
    assert "text" in mmcycle("modalities").out
    said = mmcycle("check", "text", tmp_path / "x.txt", "length=64")
    assert said.code == 0, said.out


def test_bits_under_l1_are_taught_as_by_cross_entropy():
    z = torch.linspace(-6, 6, 13)[:, None].repeat(1, 2).requires_grad_()
    truth = torch.tensor([1.0, -1.0]).expand(13, 2)
    (bits(z) - truth).abs().sum().backward()
    torch.testing.assert_close(z.grad, torch.sigmoid(z.detach()) - (truth + 1) / 2)     # of the log-odds of a true bit
    with torch.no_grad():
        torch.testing.assert_close(bits(z), 2 * torch.sigmoid(z) - 1)


def test_a_bit_that_three_of_four_texts_have_ends_as_their_mean_and_not_as_sure():
    z, truth = torch.zeros(1, requires_grad=True), torch.tensor([1.0, 1.0, 1.0, -1.0])
    optimiser = torch.optim.SGD([z], 1.0)
    for _ in range(200):
        optimiser.zero_grad()
        (bits(z.expand(4)) - truth).abs().mean().backward()
        optimiser.step()
    torch.testing.assert_close(bits(z).detach(), torch.tensor([0.5]))                  # (3 - 1) / 4
