"""A manifest is believed only as far as its files agree with it."""
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mmcycle.errors import UserError
from mmcycle.generate.manifest import Quarantined, Row, from_line, item_seed, read_rows, scrub, to_line, verify


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    picture, label = b"picture %d" % number, b"label %d" % number
    return {
        "key": f"{number:03}", "copy": 0,
        "streams": {"image": {"source": f"{number:03}.png", "source_sha256": digest(b"day %d" % number),
                              "output": f"{number:03}.png", "sha256": digest(picture), "translated": True}},
        "labels": [{"source": f"{number:03}.txt", "source_sha256": digest(label), "output": f"{number:03}.txt",
                    "sha256": digest(label), "how": "copied"}],
        "tags": {"class": "cat"}, "model": {"image": {"sha256": digest(b"w"), "direction": "ab", "run": "runs/x"}},
        "params": {"strength": 1.0}, "seed": 5, "versions": {"mmcycle": "0.1.0"},
    } | changes


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three records as generate leaves them, written by hand, with their source beside them."""
    folder = tmp_path / "out"
    (folder / ".mmcycle").mkdir(parents=True)
    (tmp_path / "source").mkdir()
    for number in range(3):
        (tmp_path / f"source/{number:03}.png").write_bytes(b"day %d" % number)
        (tmp_path / f"source/{number:03}.txt").write_bytes(b"label %d" % number)
        (folder / f"{number:03}.png").write_bytes(b"picture %d" % number)
        (folder / f"{number:03}.txt").write_bytes(b"label %d" % number)
    write_rows(folder, [a_row(number) for number in range(3)])
    job = {"source": str(tmp_path / "source"), "finished": {"done": 3, "quarantined": 0, "total": 3}}
    (folder / ".mmcycle/job.json").write_text(json.dumps(job))
    return folder


def write_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_was_written_and_not_touched_is_right(out: Path) -> None:
    verdict = verify(out)
    assert verdict.ok and verdict.problems == ()
    assert verdict.counts == {"rows": 3, "files": 6, "labels": 3, "quarantined": 0, "total": 3}


def test_a_row_survives_its_line(out: Path) -> None:
    row = next(read_rows(out))
    assert isinstance(row, Row) and from_line(Row, to_line(row)) == row
    assert to_line(row) == json.dumps(a_row(0), separators=(",", ":")) + "\n"


def test_a_flipped_bit_is_found(out: Path) -> None:
    (out / "001.png").write_bytes(b"picturE 1")
    assert verify(out).problems == ("001.png: its bytes are not those that were written",)


def test_a_missing_file_is_found(out: Path) -> None:
    (out / "001.png").unlink()
    assert verify(out).problems == ("001.png: is missing",)


def test_a_file_that_nobody_listed_is_found(out: Path) -> None:
    (out / "extra.png").write_bytes(b"?")
    (out / "report.html").write_text("<p>fine")
    assert verify(out).problems == ("extra.png: the manifest does not know this file",)


def test_a_temporary_file_of_a_killed_writer_is_found(out: Path) -> None:
    (out / ".tmp-7-001.png").write_bytes(b"?")
    assert verify(out).problems == (".tmp-7-001.png: left by a killed writer; run `mmcycle generate` again",)


def test_a_label_changed_in_the_output_is_found(out: Path) -> None:
    (out / "002.txt").write_bytes(b"label 9")
    assert verify(out).problems == ("002.txt: its bytes are not those that were written",)


def test_a_label_changed_in_output_and_manifest_is_found_by_its_source(out: Path) -> None:
    (out / "002.txt").write_bytes(b"label 9")
    row = a_row(2)
    row["labels"][0]["sha256"] = digest(b"label 9")
    write_rows(out, [a_row(0), a_row(1), row])
    assert verify(out).problems == ("002.txt: the label is not the same as its source 002.txt",)


def test_a_label_changed_everywhere_but_in_the_source_is_found(out: Path) -> None:
    (out / "002.txt").write_bytes(b"label 9")
    row = a_row(2)
    row["labels"][0] |= {"sha256": digest(b"label 9"), "source_sha256": digest(b"label 9")}
    write_rows(out, [a_row(0), a_row(1), row])
    assert verify(out).problems == ("002.txt: its source 002.txt has changed since",)


def test_a_source_that_lost_a_file_is_told_and_one_that_is_gone_is_not_missed(out: Path, tmp_path: Path) -> None:
    (tmp_path / "source/002.txt").unlink()
    assert verify(out).problems == (f"002.txt: its source 002.txt is no longer in {tmp_path / 'source'}",)
    (tmp_path / "source").rename(tmp_path / "moved")
    assert verify(out).ok
    assert verify(out, source=tmp_path / "moved").problems == (f"002.txt: its source 002.txt is no longer in {tmp_path / 'moved'}",)


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "a/../../secret", "", "x\0y"])
def test_a_path_that_leaves_the_output_is_refused(out: Path, path: str) -> None:
    row = a_row(1)
    row["streams"]["image"]["output"] = path
    write_rows(out, [a_row(0), row, a_row(2)])
    assert any("is not a path inside" in problem for problem in verify(out).problems)


def test_a_link_that_leaves_the_output_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(b"picture 1")
    (out / "001.png").unlink()
    (out / "001.png").symlink_to(tmp_path / "elsewhere.png")
    assert any("leaves" in problem and "symbolic link" in problem for problem in verify(out).problems)


def test_a_source_path_that_leaves_the_source_is_not_read(out: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"day 1")
    row = a_row(1)
    row["streams"]["image"]["source"] = "../secret"
    write_rows(out, [a_row(0), row, a_row(2)])
    assert verify(out).problems == (f"001.png: its source ../secret is no longer in {tmp_path / 'source'}",)


@pytest.mark.parametrize(("line", "message"), [
    ("{", "manifest.jsonl, line 2: Invalid JSON"),
    ("[" * 100_000, "manifest.jsonl, line 2: Invalid JSON"),
    ("\udcff", "manifest.jsonl, line 2: Invalid JSON"),
    ("{}", "manifest.jsonl, line 2: key: Field required"),
    (json.dumps(a_row(1, copy=-1)), "line 2: copy: Input should be greater"),
    (json.dumps(a_row(1, copy="0")), "line 2: copy: Input should be a valid integer"),
    (json.dumps(a_row(1, surprise=1)), "line 2: surprise: "),
])
def test_a_broken_line_is_named_by_its_number(out: Path, line: str, message: str) -> None:
    rows = [json.dumps(a_row(0)), line, json.dumps(a_row(2))]
    (out / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8", errors="surrogateescape")
    assert any(message in problem for problem in verify(out).problems)
    with pytest.raises(UserError, match="line 2: .* Run `mmcycle generate` again"):
        list(read_rows(out))


def test_a_record_listed_twice_is_found(out: Path) -> None:
    write_rows(out, [a_row(0), a_row(1), a_row(1)])
    assert "manifest.jsonl, line 3: '001' copy 0 is listed twice or out of order" in verify(out).problems


def test_a_file_with_two_hashes_is_found(out: Path) -> None:
    row = a_row(2)
    row["labels"][0] |= {"output": "001.txt"}
    write_rows(out, [a_row(0), a_row(1), row])
    assert "001.txt: the manifest gives it two different hashes" in verify(out).problems


def test_a_shortened_manifest_does_not_add_up(out: Path) -> None:
    write_rows(out, [a_row(0), a_row(1)])
    (out / "002.png").unlink()
    (out / "002.txt").unlink()
    assert verify(out).problems == ("the job counted 3 done, the files list 2",)


def test_counts_that_do_not_add_up_are_found(out: Path, tmp_path: Path) -> None:
    job = {"source": str(tmp_path / "source"), "finished": {"done": 3, "quarantined": 0, "total": 4}}
    (out / ".mmcycle/job.json").write_text(json.dumps(job))
    assert verify(out).problems == ("3 done and 0 quarantined are not 4",)


def test_quarantined_records_are_counted(out: Path, tmp_path: Path) -> None:
    bad = Quarantined(key="009", copy=0, stream="image", path="009.png", reason="broken")
    (out / "quarantine.jsonl").write_text(to_line(bad))
    job = {"source": str(tmp_path / "source"), "finished": {"done": 3, "quarantined": 1, "total": 4}}
    (out / ".mmcycle/job.json").write_text(json.dumps(job))
    assert verify(out).ok and verify(out).counts["total"] == 4
    (out / "quarantine.jsonl").write_text("nonsense\n")
    assert verify(out).problems[0].startswith("quarantine.jsonl, line 1: Invalid JSON")


def test_an_unfinished_job_is_told(out: Path) -> None:
    (out / ".mmcycle/job.json").write_text(json.dumps({"source": "x", "finished": None}))
    assert verify(out).problems == ("the job is not finished: run the same `mmcycle generate` line again",)


def test_a_data_set_that_travelled_without_its_hidden_folder_is_still_checked(out: Path) -> None:
    (out / ".mmcycle/job.json").unlink()
    (out / ".mmcycle").rmdir()
    assert verify(out).ok


@pytest.mark.parametrize(("content", "message"), [
    ("{", "job.json: cannot be read"),
    ("[" * 100_000, "job.json: cannot be read"),
    ("[]", "job.json: does not describe a job"),
])
def test_a_broken_description_of_the_job_is_named(out: Path, content: str, message: str) -> None:
    (out / ".mmcycle/job.json").write_text(content)
    with pytest.raises(UserError, match=message):
        verify(out)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no manifest.jsonl"):
        verify(tmp_path)


def test_seeds_are_worked_out_from_seed_key_and_copy() -> None:
    first_eight_bytes = hashlib.sha256(b"7/train/000001/2").digest()[:8]
    assert item_seed(7, "train/000001", 2) == int.from_bytes(first_eight_bytes, "big") // 2 < 2**63


def test_a_reason_keeps_nothing_that_differs_between_two_runs() -> None:
    assert scrub("/a/b/x.png: <BytesIO object at 0x7f3a> in .tmp-123-124-x.png", Path("/a/b")) == "x.png: <BytesIO object> in x.png"
