"""Which recordings show the same place: found by outlines, written as a table, read by the batches."""
import shlex

import pytest
import torch
from typer.testing import CliRunner

from mmcycle.cli import app
from mmcycle.config import load_config
from mmcycle.data import structure
from mmcycle.data.partners import known_partners, stem_of, write_partners
from mmcycle.data.samplers import Domain, unpaired_batches
from mmcycle.data.structure import Match, grid_of, matches, outlines
from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.image import Image
from mmcycle.train.match import match
from tiny_places import by_night, place, view

IMAGE = Image(size=(16, 24))
PLACES, STRANGERS = 24, 6


def written(folder, scenes):
    for name, scene in scenes.items():
        view(scene, folder / f"{name}.png")
    return Domain(folder, IMAGE)


@pytest.fixture
def webcams(tmp_path):
    """24 places by day and by night, and six seen by night alone; no name tells which is which."""
    day = written(tmp_path / "day", {f"d{seed:02d}": place(seed) for seed in range(PLACES)})
    every = (*range(PLACES), *range(100, 100 + STRANGERS))
    night = written(tmp_path / "night", {f"n{97 * seed % 211:03d}": by_night(place(seed), seed) for seed in every})
    return day, night


def drawn(domain, mirrored=False):
    grid = grid_of((3, 48, 72))
    return torch.stack([outlines(domain.whole(i).flip(-1) if mirrored else domain.whole(i), grid) for i in range(len(domain))])


def true_name(name):
    return f"n{97 * int(name[1:3]) % 211:03d}.png"


def test_places_are_found_again_in_another_light_and_strangers_are_not(webcams):
    day, night = webcams
    found = matches(drawn(day), drawn(night), drawn(night, mirrored=True))
    right = [night.names[one.b] == true_name(day.names[one.a]) for one in found]
    assert len({one.a for one in found}) >= PLACES - 1 and sum(right) >= len(found) - 2
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_few_at_a_time_gives_the_same_pairs(webcams, monkeypatch):
    day, night = webcams
    sets = drawn(day), drawn(night), drawn(night, mirrored=True)
    whole = matches(*sets)
    monkeypatch.setattr(structure, "AT_ONCE", 5)
    assert [(one.a, one.b) for one in matches(*sets)] == [(one.a, one.b) for one in whole] and whole


def test_brightness_alone_would_not_have_found_them(webcams):
    day, night = ([domain.whole(i).mean(0).flatten() for i in range(len(domain))] for domain in webcams)
    alike = torch.corrcoef(torch.stack([*day, *night]))[: len(day), len(day) :]
    right = [webcams[1].names[int(row.argmax())] == true_name(name) for row, name in zip(alike, webcams[0].names)]
    assert sum(right) < PLACES / 3


def test_domains_without_a_common_place_have_no_pair(tmp_path):
    day = written(tmp_path / "day", {str(seed): place(seed) for seed in range(30)})
    night = written(tmp_path / "night", {str(seed): by_night(place(500 + seed), seed) for seed in range(30)})
    assert matches(drawn(day), drawn(night), drawn(night, mirrored=True)) == []


def test_outlines_do_not_change_with_exposure_and_contrast_turned_over():
    scene = torch.from_numpy(place(3)).float()[None].expand(3, -1, -1)
    own = outlines(2 * scene - 1, (32, 48))
    for light in (0.3 * scene, scene.sqrt(), 1 - scene):
        alike = torch.nn.functional.cosine_similarity(own, outlines(2 * light - 1, (32, 48)), dim=0)
        assert alike > 0.7
    assert torch.nn.functional.cosine_similarity(own, outlines(2 * scene.flip(-1) - 1, (32, 48)), dim=0) < 0.4


@pytest.mark.parametrize("shape", [(3, 128, 160), (1, 64, 1024), (2, 16, 2000)])
def test_the_grid_keeps_proportions_and_stays_small(shape):
    height, width = grid_of(shape)
    assert height >= 8 and width >= 8 and height * width <= 2 * 64 * 96 and outlines(torch.zeros(shape), (height, width)).isfinite().all()


def test_blank_recordings_match_nothing():
    blank = torch.stack([outlines(torch.zeros(3, 20, 30), (16, 24))] * 40)
    assert matches(blank, blank, blank) == [] and Match(0, 1, 0.5).score == 0.5


def test_a_table_gives_each_recording_one_or_more_partners(webcams, tmp_path):
    day, night = webcams
    write_partners(tmp_path / "pairs.csv", [("d00.png", true_name("d00"), 0.9), ("d00.png", true_name("d01"), 0.8),
                                            ("d05.png", true_name("d05"), 0.7)])
    known = known_partners(day, night, 1.0, seed=0, table=tmp_path / "pairs.csv")
    names = {day.names[i]: [night.names[j] for j in js] for i, js in known.items()}
    assert names == {"d00.png": sorted([true_name("d00"), true_name("d01")]), "d05.png": [true_name("d05")]}
    assert len(known_partners(day, night, 0.5, seed=0, table=tmp_path / "pairs.csv")) == 1


def test_batches_hold_the_pairs_of_the_table_and_all_partners_come(webcams, tmp_path):
    day, night = webcams
    table, pairs = tmp_path / "pairs.csv", {("d00.png", true_name("d00")), ("d00.png", true_name("d01"))}
    write_partners(table, [(*pair, 1.0) for pair in sorted(pairs)])
    options = {"batch_size": 4, "seed": 0, "start": 0, "steps": 60, "paired": True, "pairs": table}
    batches = list(unpaired_batches(day, night, **options))
    seen = [(a, b, k) for one in batches for a, b, k in zip(one.names_a, one.names_b, one.known.tolist())]
    assert {(a, b) for a, b, known in seen if known} == pairs
    assert all((a == "d00.png") == bool(known) for a, _, known in seen) and {a for a, *_ in seen} == set(day.names)
    only = list(unpaired_batches(day, night, **options, known_only=True))
    assert {(a, b) for one in only for a, b in zip(one.names_a, one.names_b)} == pairs
    assert all(one.known.all() for one in only)


@pytest.mark.parametrize("text, told", [
    ("x,y\n1,2\n", "its first line names x, y; the columns a and b are needed"),
    ("", "its first line names nothing"),
    ("a,b\n", "names no pair"),
    ("a,b\nd00.png,\n", "line 2: a or b is empty"),
    ("a,b\nd00.png,../night/n000.png\n", r"line 2: .*night has no recording '../night/n000.png'"),
    ("a,b\nd99.png,n000.png\n", "line 2: .*day has no recording 'd99.png'"),
    (b"a,b\n\xff\xfe,1\n", "is no table in UTF-8"),
])
def test_a_wrong_table_is_told_by_line(webcams, tmp_path, text, told):
    table = tmp_path / "pairs.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=told):
        known_partners(*webcams, 1.0, seed=0, table=table)


@pytest.mark.parametrize("text", [
    "\ufeffa,b,score\r\nd00.png,{},0.9\r\n", "a;b;score\nd00.png;{};0,9\n", "a\tb\nd00.png\t{}\n",
    "a,b,score\n,,\nd00.png,{},0.9\n,,\n",
], ids=["with a mark and CRLF", "semicolons", "tabs", "cleared rows"])
def test_a_table_that_a_spreadsheet_saved_is_read(webcams, tmp_path, text):
    table = tmp_path / "pairs.csv"
    table.write_bytes(text.format(true_name("d00")).encode())
    known = known_partners(*webcams, 1.0, seed=0, table=table)
    assert known == {webcams[0].names.index("d00.png"): (webcams[1].names.index(true_name("d00")),)}


def test_partners_of_nuscenes_sweeps_are_found():
    assert stem_of("scene/0.pcd.bin") == "scene/0" == stem_of("scene/0.png") and stem_of("a.v2.png") == "a.v2"


def test_a_table_that_is_not_there_is_told(webcams, tmp_path):
    with pytest.raises(UserError, match="No such file.*mmcycle match"):
        known_partners(*webcams, 1.0, seed=0, table=tmp_path / "none.csv")


SMALL = ["a.size=[16,24]", "b.size=[16,24]", "a.short_side=24", "b.short_side=24", "model.width=8", "model.blocks=1",
         "model.discriminator_width=8", "model.discriminator_layers=1", "train.steps=3", "train.batch_size=2", "data.workers=0",
         "run.evaluate_every=0"]


def test_match_writes_a_table_that_training_reads_and_a_sheet_to_look_at(webcams, tmp_path):
    roots = [f"a.root={tmp_path / 'day'}", f"b.root={tmp_path / 'night'}"]
    table, run = tmp_path / "pairs.csv", tmp_path / "run"
    done = CliRunner().invoke(app, ["match", "day_to_night", str(table), *roots])
    assert done.exit_code == 0, done.output
    assert "pairs (2" in done.output and len((tmp_path / "pairs.png").read_bytes()) > 10_000
    settings = [*roots, *SMALL, "data.paired=true", f"data.pairs={table}", "loss.paired=10"]
    assert load_config("day_to_night", settings).data.pairs == table
    done = CliRunner().invoke(app, ["train", "day_to_night", "--out", str(run), *settings])
    assert done.exit_code == 0, done.output
    assert load_config(str(run / "config.yaml")).data.pairs == table and '"paired_b"' in (run / "log.jsonl").read_text()
    done = CliRunner().invoke(app, ["train", "day_to_night", "--out", str(run), *settings, "--dry-run"])
    assert done.exit_code == 0 and "s a step" in done.output


def test_match_says_the_line_that_comes_next(webcams, tmp_path):
    roots = [f"a.root={tmp_path / 'day'}", f"b.root={tmp_path / 'night'}"]
    table = tmp_path / "my pairs.csv"
    *_, told = match("day_to_night", table, roots)
    assert shlex.split(told.removeprefix("next: ")) == [
        "mmcycle", "train", "day_to_night", *roots, "data.paired=true", "loss.paired=10", f"data.pairs={table}", "--out", "RUN"
    ]
    *_, told = match("same_places", table, roots, force=True)       # which has all that, and another weight
    assert shlex.split(told.removeprefix("next: "))[3:] == [*roots, f"data.pairs={table}", "--out", "RUN"]


def test_match_passes_over_what_is_broken_where_training_would(webcams, tmp_path):
    (tmp_path / "night" / "000.png").write_bytes(b"no picture")     # sorted before all others: the rest keep their names
    roots = [f"a.root={tmp_path / 'day'}", f"b.root={tmp_path / 'night'}"]
    with pytest.raises(RecordingError, match="000.png"):
        match("day_to_night", tmp_path / "pairs.csv", roots)
    first, *_ = match("day_to_night", tmp_path / "pairs.csv", [*roots, "data.on_error=skip"])
    assert first.startswith("passed over: ") and "000.png" in first
    day, night = (Domain(tmp_path / part, IMAGE) for part in ("day", "night"))
    known = known_partners(day, night, 1.0, seed=0, table=tmp_path / "pairs.csv")
    right = [true_name(day.names[i]) in [night.names[j] for j in js] for i, js in known.items()]
    assert sum(right) >= len(right) - 2 >= PLACES - 3


def test_match_replaces_nothing_unless_told(webcams, tmp_path):
    (tmp_path / "pairs.png").write_text("mine")
    roots = [f"a.root={tmp_path / 'day'}", f"b.root={tmp_path / 'night'}"]
    with pytest.raises(UserError, match="pairs.png exists already"):
        match("day_to_night", tmp_path / "pairs.csv", roots)
    assert match("day_to_night", tmp_path / "pairs.csv", roots, force=True)
    with pytest.raises(UserError, match="ends with .csv"):
        match("day_to_night", tmp_path / "pairs.txt", roots)


def test_match_says_when_nothing_was_found(tmp_path):
    for name, offset in (("day", 0), ("night", 50)):
        written(tmp_path / name, {str(seed): place(offset + seed) for seed in range(3)})
    with pytest.raises(UserError, match="of 3 and 3 recordings none were found to show the same place"):
        match("day_to_night", tmp_path / "pairs.csv", [f"a.root={tmp_path / 'day'}", f"b.root={tmp_path / 'night'}"])
    assert not (tmp_path / "pairs.csv").exists()


def test_a_table_without_pairs_in_batches_is_refused():
    with pytest.raises(UserError, match="data.pairs=x.csv: needs data.paired: true"):
        load_config("day_to_night", ["data.pairs=x.csv"])
