"""Files that are there whole or not at all, paths that stay inside, and the lock of a folder."""
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmcycle import files, lock
from mmcycle.errors import MmcycleError, RecordingError, UserError, need
from mmcycle.lock import held


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_with_its_suffix_kept_for_the_writer(tmp_path):
    names = []

    def write(path: Path) -> None:
        names.append(path.name)
        path.write_bytes(b"new")

    files.write_atomic(tmp_path / "deep" / "x.png", write)
    assert (tmp_path / "deep" / "x.png").read_bytes() == b"new"
    assert names[0].startswith(".tmp-") and names[0].endswith(".png")
    assert left(tmp_path / "deep") == ["x.png"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "x.txt"
    files.write_text(target, "old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise error

    with pytest.raises(type(error)):
        files.write_atomic(target, write)
    assert target.read_text() == "old"
    assert left(tmp_path) == ["x.txt"]


def test_a_writer_that_says_what_it_cannot_write_names_the_true_file(tmp_path):
    def write(path: Path) -> None:
        raise RecordingError(f"{path}: cannot hold 5 bands")

    with pytest.raises(RecordingError, match=f"^{tmp_path}/x.png: cannot hold 5 bands$"):
        files.write_atomic(tmp_path / "x.png", write)


def test_a_full_disk_is_told_with_the_path_and_leaves_the_old_file(tmp_path):
    target = tmp_path / "x.txt"
    files.write_text(target, "old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MmcycleError, match=r"x\.txt: could not be written: No space left on device\. Nothing was overwritten"):
        files.write_atomic(target, write)
    assert target.read_text() == "old" and left(tmp_path) == ["x.txt"]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(MmcycleError, match=r"x\.txt: could not be written"):
        files.write_atomic(tmp_path / "x.txt", lambda path: None)


def test_a_file_where_a_folder_is_needed_is_told(tmp_path):
    (tmp_path / "a").write_text("I am a file")
    with pytest.raises(MmcycleError, match="a: the folder could not be made"):
        files.write_text(tmp_path / "a" / "x.txt", "text")
    with pytest.raises(MmcycleError, match="a: the folder could not be made"):
        files.write_folder(tmp_path / "a" / "x", lambda path: None)


KILLED = """
import os, signal, sys
from pathlib import Path
from mmcycle import files
target = Path(sys.argv[1])
def write(path):
    (path / "part").write_text("half") if path.is_dir() else path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
getattr(files, sys.argv[2])(target, write)
"""


def killed(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[1], timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_a_kill_while_a_file_is_written_leaves_the_old_one(tmp_path):
    files.write_text(tmp_path / "x.txt", "old")
    killed(str(tmp_path / "x.txt"), "write_atomic")
    assert (tmp_path / "x.txt").read_text() == "old"
    assert [name for name in left(tmp_path) if not name.startswith(".tmp-")] == ["x.txt"]


def test_a_kill_while_a_folder_is_filled_leaves_the_old_one_whole(tmp_path):
    files.write_folder(tmp_path / "run", lambda folder: (folder / "part").write_text("old") and None)
    killed(str(tmp_path / "run"), "write_folder")
    assert (tmp_path / "run" / "part").read_text() == "old"
    assert [name for name in left(tmp_path) if not name.startswith(".tmp-")] == ["run"]


def test_a_folder_is_replaced_whole_and_readable_by_others(tmp_path):
    for text in ("old", "new"):
        files.write_folder(tmp_path / "run", lambda folder: (folder / text).write_text(text) and None)
    assert left(tmp_path) == ["run"] and left(tmp_path / "run") == ["new"]
    plain = tmp_path / "plain"
    plain.mkdir()
    assert (tmp_path / "run").stat().st_mode == plain.stat().st_mode


def test_an_old_folder_is_never_seen_half_removed(tmp_path, monkeypatch):
    files.write_folder(tmp_path / "run", lambda folder: (folder / "a").write_text("a") and None)
    removed = []
    monkeypatch.setattr(files.shutil, "rmtree", lambda path, **_: removed.append(Path(path).name))
    files.write_folder(tmp_path / "run", lambda folder: (folder / "b").write_text("b") and None)
    assert left(tmp_path / "run") == ["b"]
    assert removed and all(name.startswith(".tmp-") for name in removed)


def test_a_filling_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path):
    files.write_folder(tmp_path / "run", lambda folder: (folder / "a").write_text("a") and None)

    def fill(folder: Path) -> None:
        (folder / "b").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MmcycleError, match="run: could not be written: No space left"):
        files.write_folder(tmp_path / "run", fill)
    assert left(tmp_path) == ["run"] and left(tmp_path / "run") == ["a"]


def test_json_and_copies_are_written_as_they_are_read(tmp_path):
    files.write_json(tmp_path / "x.json", {"grüße": [1, None]})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "grüße": [\n    1,\n    null\n  ]\n}\n'
    files.copy_atomic(tmp_path / "x.json", tmp_path / "b" / "y.json")
    assert files.sha256(tmp_path / "x.json") == files.sha256(tmp_path / "b" / "y.json")


def test_the_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"    # FIPS 180-2, B.1


@pytest.mark.parametrize("relative", ["/etc/passwd", "../x", "a/../../x", "a/..", "", ".", "a\0b", "\ud800"])
def test_a_path_that_is_not_inside_is_refused(tmp_path, relative):
    with pytest.raises(UserError, match="is not a path inside .*must be relative"):
        files.inside(tmp_path, relative)


def test_a_path_that_leaves_through_a_link_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    for relative in ("out/x", "out", "gone"):
        with pytest.raises(UserError, match="through a symbolic link; it was neither read nor written"):
            files.inside(folder, relative)


def test_a_path_that_is_inside_is_joined(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert files.inside(tmp_path, "a/./b.png") == tmp_path / "a" / "b.png"
    assert files.inside(tmp_path, "link/b") == tmp_path / "link" / "b"
    assert files.inside(tmp_path, "a..b") == tmp_path / "a..b"


def test_walking_lists_regular_files_sorted_and_passes_over_dotted_names(tmp_path):
    for name in ("b/2.txt", "b/10.txt", "a.txt", ".hidden", ".git/x", "C.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    os.mkfifo(tmp_path / "pipe")
    assert [str(path.relative_to(tmp_path)) for path in files.walk(tmp_path)] == ["C.txt", "a.txt", "b/10.txt", "b/2.txt"]


def test_walking_ends_where_links_form_loops(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "x.txt").write_text("x")
    (inner / "up").symlink_to(tmp_path)
    (inner / "self").symlink_to(inner / "self")
    (inner / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again").symlink_to(inner)
    assert [str(path.relative_to(tmp_path)) for path in files.walk(tmp_path)] == ["again/x.txt", "inner/x.txt"]


def test_walking_is_not_stopped_by_a_tree_deeper_than_pythons_calls(tmp_path):
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=place)
        deeper = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(os.open("x.txt", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    assert [path.name for path in files.walk(tmp_path)] == ["x.txt"]
    subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)      # pytest's own clean-up calls itself too deeply


def test_a_name_that_is_not_utf8_is_told_with_its_folder(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb"):
        pass
    with pytest.raises(UserError, match=r"the name b'caf\\xe9.png' is not UTF-8; rename"):
        list(files.walk(tmp_path))


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="nowhere: cannot be listed: No such file"):
        list(files.walk(tmp_path / "nowhere"))


HOLDER = """
import sys, time
from pathlib import Path
from mmcycle.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_living_process_is_respected_and_that_of_a_killed_one_is_not(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"run is being written by process {process.pid} on .*wait for it or stop it"):
            with held(tmp_path / "run"):
                pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with held(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_lock_is_given_back_also_after_an_error(tmp_path):
    def another() -> int:
        trial = HOLDER.replace("time.sleep(60)", "")
        return subprocess.run([sys.executable, "-c", trial, str(tmp_path)], cwd=Path(__file__).parents[1], capture_output=True).returncode

    with pytest.raises(ZeroDivisionError), held(tmp_path):
        assert another() != 0
        1 / 0
    assert another() == 0


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    answer = lock.fcntl.lockf

    def removed_first(file, how):
        (tmp_path / ".lock").unlink()               # as its last holder does, between our opening and our locking
        monkeypatch.setattr(lock.fcntl, "lockf", answer)
        return answer(file, how)

    monkeypatch.setattr(lock.fcntl, "lockf", removed_first)
    with held(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_disk_that_knows_no_locks_is_told(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    with pytest.raises(MmcycleError, match="cannot be locked: No locks available; choose a folder on another disk"):
        with held(tmp_path):
            pass


def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MmcycleError, match="file: cannot be written to"):
        with held(tmp_path / "file"):
            pass
    (tmp_path / ".lock").mkdir()
    with pytest.raises(MmcycleError, match="cannot be written to: Is a directory"):
        with held(tmp_path):
            pass


def test_errors_are_sorted_by_who_can_act():
    assert issubclass(RecordingError, UserError) and issubclass(UserError, MmcycleError)


def test_a_library_that_is_absent_is_named_with_its_purpose_and_its_remedy():
    assert need("json", "reading").loads("1") == 1
    with pytest.raises(UserError, match=r"reading films needs mmcycle\[video\], which did not import .*pip install 'mmcycle\[video\]'"):
        need("no_such_library_at_all", "reading films", "mmcycle[video]")
    with pytest.raises(UserError, match="reading needs no_such_library_at_all"):
        need("no_such_library_at_all.inner", "reading")
