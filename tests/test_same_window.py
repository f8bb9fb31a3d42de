"""Partners are compared place by place, so their training windows must show the same place."""
import pytest
import tiny_run
from PIL import Image as Pillow

from mmcycle.config import load_config
from mmcycle.data.partners import known_partners, told_partners
from mmcycle.data.same_window import SameWindow
from mmcycle.data.samplers import Domain, unpaired_batches
from mmcycle.errors import RecordingError
from mmcycle.modalities.image import Image
from mmcycle.modalities.lidar import Lidar
from mmcycle.modalities.text import Text

PLAIN = Image(size=(16, 24))
TURN = Lidar(sensor="hdl-64e", columns=128)
SECTOR = load_config("lidar_to_camera").a.modality


@pytest.mark.parametrize("a, b, sizes, same", [
    (PLAIN, PLAIN, ((40, 60), (40, 60)), True),
    (PLAIN, PLAIN, ((40, 60), (41, 60)), True),
    (PLAIN, PLAIN, ((40, 60), (80, 120)), False),
    (Image(size=(16, 24), flip="horizontal"), Image(size=(16, 24), flip="horizontal"), ((40, 60), (40, 60)), True),
    (Image(size=(16, 24), flip="horizontal"), PLAIN, ((40, 60), (40, 60)), False),
    (Image(size=(16, 24), flip="vertical"), PLAIN, ((40, 60), (40, 60)), False),
    (TURN, TURN, ((64, 128), (64, 128)), True),
    (TURN, Image(size=(64, 128)), ((64, 128), (64, 128)), False),
    (SECTOR, Image(size=(32, 64)), ((32, 64), (32, 64)), True),
])
def test_windows_are_the_same_if_sizes_mirrors_and_turns_agree(a, b, sizes, same):
    agree = SameWindow(a, b)
    assert agree(*sizes) == same and agree(*sizes) == same


def pictures(folder, *sizes):
    folder.mkdir()
    for number, size in enumerate(sizes):
        Pillow.new("RGB", size, (10 * number, 90, 160)).save(folder / f"{number}.png")
    return folder


def paired(a, b, **options):
    options = {"batch_size": 2, "seed": 0, "start": 0, "steps": 4, "paired": True} | options
    return list(unpaired_batches(a, b, **options))


def test_partners_of_two_sizes_are_refused_by_name_and_with_a_cure(tmp_path):
    folders = pictures(tmp_path / "a", (60, 40), (60, 40)), pictures(tmp_path / "b", (120, 80), (120, 80))
    told = (r"a.0.png \(40 x 60\) and .*b.0.png \(80 x 120\) are partners, but .* not that of the other: .*stretch")
    with pytest.raises(RecordingError, match=told.replace("0.png", "[01].png")):
        paired(*(Domain(folder, PLAIN) for folder in folders))
    cured = Image(size=(16, 24), stretch=(18, 27))
    assert len(paired(*(Domain(folder, cured) for folder in folders))) == 4


def test_partners_are_read_once_for_their_windows_and_their_sizes(tmp_path, monkeypatch):
    a, b = (Domain(pictures(tmp_path / side, (60, 40), (60, 40)), PLAIN, cache_bytes=0) for side in "ab")
    read = []
    load = Image.load
    monkeypatch.setattr(Image, "load", lambda self, path: read.append(path) or load(self, path))
    assert len(paired(a, b, steps=3)) == 3
    assert len(read) == 3 * 2 * 2                       # steps, places in the batch, sides


def test_where_broken_pairs_are_passed_over_so_are_those_of_two_sizes(tmp_path):
    a = Domain(pictures(tmp_path / "a", (60, 40), (60, 40)), PLAIN)
    b = Domain(pictures(tmp_path / "b", (60, 40), (120, 80)), PLAIN)
    batches = paired(a, b, on_error="skip")
    assert {name for batch in batches for name in batch.names_a} == {"0.png"}
    assert any("1.png (40 x 60)" in why for batch in batches for _, why in batch.bad)


def test_partners_of_two_kinds_need_no_common_window_unless_it_is_asked_for(tmp_path):
    captions = tmp_path / "a"
    captions.mkdir()
    for number in range(2):
        (captions / f"{number}.txt").write_text("two cars\n")
    b = Domain(pictures(tmp_path / "b", (60, 40), (60, 40)), Image(size=(16, 24), flip="horizontal"))
    for shared in (False, True):                        # a caption has no windows at all
        assert len(paired(Domain(captions, Text(length=64)), b, shared_crop=shared)) == 4
    a = Domain(pictures(tmp_path / "c", (60, 40), (60, 40)), PLAIN)
    with pytest.raises(RecordingError, match="mirror both or neither"):
        paired(a, b, shared_crop=True)


def test_what_a_person_should_know_of_partners_is_told(tmp_path):
    a = Domain(tiny_run.photographs(tmp_path / "a", 3), PLAIN)
    b = Domain(tiny_run.photographs(tmp_path / "b", 5), PLAIN)
    known = {0: (0,), 1: (0, 1), 2: (2,)}
    (note,) = told_partners(a, b, known, alone=False)
    assert note.startswith("2 of the 5 recordings of") and "never seen" in note
    assert told_partners(a, b, known, alone=True) == [] and told_partners(a, b, {0: (0,)}, alone=False) == []
    assert told_partners(a, a, known_partners(a, a, 1.0, 0), alone=False) == []


def test_a_full_turn_beside_a_picture_is_told(tmp_path):
    a = Domain(tiny_run.photographs(tmp_path / "a", 2), PLAIN)
    a.modality = TURN                                   # only what it says of itself is asked
    b = Domain(tiny_run.photographs(tmp_path / "b", 2), PLAIN)
    (note,) = told_partners(a, b, {0: (0,), 1: (1,)}, alone=True)
    assert "begin anywhere around a full turn" in note and "sector (azimuth)" in note
    a.modality = SECTOR
    assert told_partners(a, b, {0: (0,), 1: (1,)}, alone=True) == []
