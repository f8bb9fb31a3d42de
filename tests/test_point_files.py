"""Sweep files: every kind comes back as it was, others read what we write, and what is no sweep is refused by name."""
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcycle.errors import RecordingError
from mmcycle.modalities.point_files import SUFFIXES, Sweep, keeps_grid, kind_of, read_sweep, write_sweep

SHARED = Path(__file__).parents[2] / "shared" / "data" / "lidar"
ORDER = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


def places(number, seed=0, kind=np.float32):
    return (np.random.default_rng(seed).normal(size=(number, 3)) * 20).astype(kind)


def made(number=7, seed=0, **extra):
    rng = np.random.default_rng(seed)
    return Sweep(places(number, seed), rng.random(number, dtype=np.float32), extra)


def bin_file(path, columns, number=5, seed=0):
    """By the public descriptions: float32 after float32; the fifth of nuScenes is the ring."""
    content = np.random.default_rng(seed).normal(size=(number, columns)).astype("<f4")
    if columns == 5:
        content[:, 4] = np.arange(number)
    path.write_bytes(content.tobytes())
    return content


def same(left, right):
    """Equal bit for bit, and of one type."""
    assert left.dtype == right.dtype and left.shape == right.shape
    assert left.tobytes() == right.tobytes()


def pcd(path, fields, sizes, kinds, body, data="ascii", counts=None, width=1, height=1, points=None, end="\n", **lines):
    """A PCD written by hand, with any header."""
    said = {
        "VERSION": "0.7", "FIELDS": fields, "SIZE": sizes, "TYPE": kinds, "COUNT": counts, "WIDTH": width,
        "HEIGHT": height, "VIEWPOINT": "0 0 0 1 0 0 0", "POINTS": width * height if points is None else points, "DATA": data,
    } | lines
    top = "# .PCD v0.7" + end + "".join(f"{name} {value}{end}" for name, value in said.items() if value is not None)
    path.write_bytes(top.encode() + (body if isinstance(body, bytes) else body.encode()))
    return path


def ply(path, form, properties, body, count, end="\n", more=""):
    lines = ["ply", f"format {form} 1.0", "comment by hand", f"element vertex {count}", *(f"property {p}" for p in properties)]
    top = end.join([*lines, *([more] if more else []), "end_header", ""])
    path.write_bytes(top.encode() + (body if isinstance(body, bytes) else body.encode()))
    return path


XYZI = {"fields": "x y z intensity", "sizes": "4 4 4 4", "kinds": "F F F F"}


# What is read


def test_the_format_is_told_by_the_name_alone():
    assert kind_of(Path("a/000000.bin")) == "kitti" and kind_of(Path("a/LIDAR_TOP__1.PCD.BIN")) == "nuscenes"
    assert [kind_of(Path("x" + suffix)) for suffix in SUFFIXES] == ["kitti", "pcd", "ply", "npy"]
    with pytest.raises(RecordingError, match=r"x.las: '.las' is no sweep file; allowed are .bin, .pcd, .ply, .npy"):
        read_sweep(Path("x.las"))


def test_a_kitti_sweep_is_four_floats_a_point_and_point_zero_is_one_of_them(tmp_path):
    content = bin_file(tmp_path / "x.bin", 4)
    sweep = read_sweep(tmp_path / "x.bin")
    same(sweep.points, content[:, :3].copy())
    same(sweep.intensity, content[:, 3].copy())
    assert sweep.extra == {} and sweep.ring is None and sweep.kept.tolist() == [0, 1, 2, 3, 4] and len(sweep) == 5


def test_a_nuscenes_sweep_is_five_floats_a_point_the_last_its_ring(tmp_path):
    content = bin_file(tmp_path / "x.pcd.bin", 5)
    sweep = read_sweep(tmp_path / "x.pcd.bin")
    same(sweep.points, content[:, :3].copy())
    same(sweep.extra["ring"], content[:, 4].copy())
    assert sweep.ring.tolist() == [0, 1, 2, 3, 4]


def test_eighty_bytes_are_five_kitti_points_or_four_of_nuscenes_by_their_name(tmp_path):
    bin_file(tmp_path / "x.bin", 4)
    bin_file(tmp_path / "x.pcd.bin", 5, number=4)
    assert (tmp_path / "x.bin").stat().st_size == (tmp_path / "x.pcd.bin").stat().st_size == 80
    assert len(read_sweep(tmp_path / "x.bin")) == 5 and len(read_sweep(tmp_path / "x.pcd.bin")) == 4


def test_a_plain_array_may_have_three_columns_or_more(tmp_path):
    content = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", content)
    sweep = read_sweep(tmp_path / "x.npy")
    assert list(sweep.extra) == ["column_4", "column_5"]
    same(sweep.extra["column_5"], content[:, 5].copy())
    np.save(tmp_path / "y.npy", content[:, :3])
    assert read_sweep(tmp_path / "y.npy").intensity.tolist() == [0] * 6


def test_points_without_a_return_are_left_out_and_the_others_know_their_place(tmp_path):
    content = bin_file(tmp_path / "x.bin", 4, number=6)
    content[0, :3], content[2, :3], content[4, 1] = 0, np.nan, np.nan
    content.tofile(tmp_path / "x.bin")
    sweep = read_sweep(tmp_path / "x.bin")
    assert sweep.kept.tolist() == [1, 3, 5] and sweep.records == 6 and len(sweep) == 3
    same(sweep.points, content[[1, 3, 5], :3])
    assert sweep.keep(np.array([2, 0])).kept.tolist() == [5, 1]
    assert sweep.keep(np.array([False, True, True])).kept.tolist() == [3, 5]


def test_one_point_is_a_sweep(tmp_path):
    for name in ("x.bin", "x.pcd.bin", "x.pcd", "x.ply", "x.npy"):
        write_sweep(made(1, ring=np.array([3], np.uint8)), tmp_path / name)
        assert len(read_sweep(tmp_path / name)) == 1


@pytest.mark.parametrize("form", ORDER)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_ply_of_any_byte_order_and_line_end_is_read_with_every_number(form, end, tmp_path):
    kind = np.dtype([("nx", "f4"), ("x", "f8"), ("y", "f8"), ("z", "f8"), ("intensity", "u1"), ("red", "u1"), ("ring", "i2")])
    rows = np.zeros(4, dtype=kind)
    for name in kind.names:
        rows[name] = np.arange(4) * 3 + 1.5 + 0.1 * (kind[name].kind == "f")
    names = ["float nx", "double x", "float64 y", "double z", "uchar intensity", "uint8 red", "short ring"]
    text = "".join(" ".join(str(row[name]) for name in kind.names) + end for row in rows)
    body = text if form == "ascii" else rows.astype(kind.newbyteorder(ORDER[form])).tobytes()
    sweep = read_sweep(ply(tmp_path / "x.ply", form, names, body, 4, end))
    same(sweep.points, np.stack([rows["x"], rows["y"], rows["z"]], axis=-1))
    assert sweep.intensity.tolist() == [1, 4, 7, 10] and sweep.intensity.dtype == np.float32
    assert list(sweep.extra) == ["nx", "red", "ring"] and sweep.ring.tolist() == [1, 4, 7, 10]
    same(sweep.extra["nx"], rows["nx"].copy())
    write_sweep(sweep, tmp_path / "out.ply")
    again = (tmp_path / "out.ply").read_bytes()
    if form == "ascii":
        assert again.split(b"end_header\n")[1].split() == text.encode().split()
    else:
        assert again.endswith(b"end_header\n" + body)


def test_faces_after_the_points_of_a_ply_are_passed_over(tmp_path):
    body = "1 2 3\n4 5 6\n7 8 9\n3 0 1 2\n"
    more = "element face 1\nproperty list uchar int vertex_indices"
    assert len(read_sweep(ply(tmp_path / "x.ply", "ascii", ["float x", "float y", "float z"], body, 3, more=more))) == 3


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("data", ["ascii", "binary"])
def test_a_pcd_with_padding_several_numbers_a_column_and_doubles_is_read(data, end, tmp_path):
    kind = np.dtype([("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("a", "u1", (4,)), ("Intensity", "<u2"), ("normal", "<f4", (3,)), ("b", "<i4", (2,)), ("t", "<u8")])
    rows = np.zeros(3, dtype=kind)
    for number, name in enumerate(kind.names):
        rows[name] = np.arange(rows[name].size).reshape(rows[name].shape) + number + 1
    rows["t"] += 1_700_000_000_000_000_000                  # nanoseconds: more than a double holds
    rows["x"] += 0.1
    text = "".join(" ".join(str(n) for name in kind.names for n in np.ravel(row[name])) + end for row in rows)
    body = text if data == "ascii" else rows.tobytes()
    path = pcd(
        tmp_path / "x.pcd", "x y z _ Intensity normal _ t", "8 8 8 1 2 4 4 8", "F F F U U F I U", body, data, "1 1 1 4 1 3 2 1",
        width=3, end=end, VIEWPOINT="1 2 3 1 0 0 0",
    )
    sweep = read_sweep(path)
    same(sweep.points, np.stack([rows["x"], rows["y"], rows["z"]], axis=-1))
    assert list(sweep.extra) == ["normal", "t"] and sweep.intensity.tolist() == [5, 6, 7]
    same(sweep.extra["t"], rows["t"].copy())
    same(sweep.extra["normal"], rows["normal"].copy())
    write_sweep(sweep.keep(np.array([0, 2])), tmp_path / "out.pcd")
    again, top = read_sweep(tmp_path / "out.pcd"), (tmp_path / "out.pcd").read_bytes()
    same(again.extra["normal"], rows["normal"][[0, 2]])
    same(again.extra["t"], rows["t"][[0, 2]])
    assert b"VIEWPOINT 1 2 3 1 0 0 0\n" in top and b"FIELDS x y z Intensity normal t\n" in top
    assert f"DATA {data}\n".encode() in top and b"COUNT 1 1 1 1 3 1\n" in top


def test_an_old_pcd_without_counts_viewpoint_and_points_is_read(tmp_path):
    (tmp_path / "x.pcd").write_text("VERSION .5\nCOLUMNS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nHEIGHT 1\nDATA ascii\n1 2 3\n4 5 6\n")
    assert read_sweep(tmp_path / "x.pcd").points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_back_references_that_reach_into_what_they_write_are_expanded(tmp_path):
    # x = y = z = 0x41414141: one literal, then 11 more by a reference to it (liblzf: length 2 + 7 + 2, distance 1)
    shrunk = bytes([0, 0x41, 7 << 5, 2, 0])
    path = pcd(tmp_path / "x.pcd", "x y z", "4 4 4", "F F F", struct.pack("<II", 5, 12) + shrunk, "binary_compressed")
    assert read_sweep(path).points.tobytes() == b"A" * 12


# What is written, read by others


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_open3d_reads_the_pcd_we_write(encoding, tmp_path):
    open3d = pytest.importorskip("open3d")
    write_sweep(made(300, ring=np.arange(300).astype(np.uint16), time=np.linspace(0, 0.1, 300)), tmp_path / "in.pcd")
    sweep = read_sweep(tmp_path / "in.pcd")
    sweep = replace(sweep, table=replace(sweep.table, encoding=encoding))
    write_sweep(sweep, tmp_path / "x.pcd")
    assert f"DATA {encoding}\n".encode() in (tmp_path / "x.pcd").read_bytes()
    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "x.pcd")).point
    same(cloud.positions.numpy(), sweep.points)
    same(cloud.intensity.numpy()[:, 0], sweep.intensity)
    same(cloud.ring.numpy()[:, 0], sweep.extra["ring"])
    same(cloud.time.numpy()[:, 0], sweep.extra["time"])


@pytest.mark.parametrize("form", ORDER)
def test_open3d_reads_the_ply_we_write(form, tmp_path):
    open3d = pytest.importorskip("open3d")
    write_sweep(made(300, ring=np.arange(300).astype(np.uint16)), tmp_path / "in.ply")
    sweep = read_sweep(tmp_path / "in.ply")
    write_sweep(replace(sweep, table=replace(sweep.table, encoding=form)), tmp_path / "x.ply")
    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "x.ply")).point
    same(cloud.positions.numpy(), sweep.points)
    same(cloud.intensity.numpy()[:, 0], sweep.intensity)
    same(cloud.ring.numpy()[:, 0], sweep.extra["ring"])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")             # Open3D's
@pytest.mark.parametrize(("name", "options"), [
    ("x.pcd", {}), ("x.pcd", {"compressed": True}), ("x.pcd", {"write_ascii": True}), ("x.ply", {}),
])
def test_we_read_what_open3d_writes(name, options, tmp_path):
    open3d = pytest.importorskip("open3d")
    cloud, sweep = open3d.t.geometry.PointCloud(), made(300)
    ring = np.repeat(np.arange(10), 30).astype(np.uint16)               # long runs: back references in LZF
    for key, values in (("positions", sweep.points), ("intensity", sweep.intensity[:, None]), ("ring", ring[:, None])):
        cloud.point[key] = open3d.core.Tensor(values)
    open3d.t.io.write_point_cloud(str(tmp_path / name), cloud, **options)
    found = read_sweep(tmp_path / name)
    np.testing.assert_allclose(found.points, sweep.points, rtol=1e-6 if options.get("write_ascii") else 0)
    np.testing.assert_allclose(found.intensity, sweep.intensity, rtol=1e-6 if options.get("write_ascii") else 0)
    assert found.ring.tolist() == ring.tolist()


def test_ten_lines_of_numpy_read_the_kitti_and_nuscenes_files_we_write(tmp_path):
    sweep = made(50, ring=np.arange(50).astype(np.uint8))
    for name, columns in (("x.bin", 4), ("x.pcd.bin", 5)):
        write_sweep(sweep, tmp_path / name)
        scan = np.fromfile(tmp_path / name, dtype=np.float32).reshape(-1, columns)
        same(scan[:, :3].copy(), sweep.points)
        same(scan[:, 3].copy(), sweep.intensity)
    assert scan[:, 4].tolist() == list(range(50))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["x.bin", "x.pcd.bin", "x.npy", "x.pcd", "x.ply"])
def test_what_is_written_comes_back_bit_for_bit_and_the_bytes_are_always_the_same(name, kind, tmp_path):
    sweep = made(40, ring=np.arange(40).astype(np.float32), normal=places(40, 3))
    sweep = replace(sweep, points=places(40, 0, kind if "bin" not in name else np.float32))
    if name == "x.ply":
        sweep = replace(sweep, extra={"ring": sweep.extra["ring"]})
    write_sweep(sweep, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    found = read_sweep(tmp_path / name)
    same(found.points, sweep.points)
    same(found.intensity, sweep.intensity)
    for column in found.extra:
        same(found.extra[column], sweep.extra[column])
    assert list(found.extra) == {"x.bin": [], "x.pcd.bin": ["ring"]}.get(name, list(sweep.extra))
    write_sweep(found, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


@settings(max_examples=30, deadline=None)
@given(number=st.integers(1, 40), seed=st.integers(0, 99), name=st.sampled_from(["x.bin", "x.npy", "x.pcd", "x.ply"]))
def test_text_and_binary_hold_any_number_exactly(number, seed, name, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / name
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, (number, 4), dtype=np.uint32).view(np.float32)
    numbers = np.where(np.isfinite(bits) & (np.abs(bits) < 1e4), bits, rng.random((number, 4), dtype=np.float32) + 0.1)
    numbers[0, 0] = 1
    write_sweep(Sweep(numbers[:, :3].copy(), numbers[:, 3].copy()), path)
    found = read_sweep(path)
    if found.table.kind in ("pcd", "ply"):
        write_sweep(replace(found, table=replace(found.table, encoding="ascii")), path)
        found = read_sweep(path)
    same(found.points, numbers[:, :3].copy())
    same(found.intensity, numbers[:, 3].copy())


def test_whole_number_columns_take_the_new_intensity_rounded_and_within_their_range(tmp_path):
    path = pcd(tmp_path / "x.pcd", "x y z intensity", "4 4 4 1", "F F F U", "1 2 3 9\n1 2 3 9\n1 2 3 9\n", width=3)
    sweep = replace(read_sweep(path), intensity=np.array([-3, 7.6, 999], np.float32))
    write_sweep(sweep, path)
    assert path.read_bytes().endswith(b"1.0 2.0 3.0 0\n1.0 2.0 3.0 8\n1.0 2.0 3.0 255\n")


def test_a_file_without_intensity_gains_it_when_there_is_some(tmp_path):
    np.save(tmp_path / "x.npy", places(3))
    sweep = read_sweep(tmp_path / "x.npy")
    write_sweep(sweep, tmp_path / "same.npy")
    assert np.load(tmp_path / "same.npy").shape == (3, 3)
    write_sweep(replace(sweep, intensity=np.ones(3, np.float32)), tmp_path / "more.npy")
    assert np.load(tmp_path / "more.npy").shape == (3, 4)


def test_named_arrays_keep_their_columns(tmp_path):
    kind = [("ring", ">u2"), ("x", ">f4"), ("y", "<f4"), ("z", "<f4"), ("remission", "<f8"), ("flags", "u1", (2,))]
    rows = np.zeros(4, dtype=np.dtype(kind, align=True))
    for name in ("ring", "x", "y", "z", "remission"):
        rows[name] = np.arange(4) + 1
    np.save(tmp_path / "x.npy", rows)
    sweep = read_sweep(tmp_path / "x.npy")
    assert sweep.ring.tolist() == sweep.intensity.tolist() == [1, 2, 3, 4] and list(sweep.extra) == ["ring", "flags"]
    write_sweep(sweep, tmp_path / "out.npy")
    again = np.load(tmp_path / "out.npy")
    assert again.dtype.names == rows.dtype.names and all((again[name] == rows[name]).all() for name in rows.dtype.names)


# Grids


def test_an_organised_array_keeps_its_grid_and_dropped_points_become_cells_without_a_return(tmp_path):
    grid = np.zeros((2, 3, 6), np.float32)
    grid[..., :4] = np.arange(24).reshape(2, 3, 4) + 1
    grid[..., 5] = 9
    grid[0, 1, :4] = 0
    np.save(tmp_path / "x.npy", grid)
    sweep = read_sweep(tmp_path / "x.npy")
    assert sweep.kept.tolist() == [0, 2, 3, 4, 5] and sweep.table.shape == (2, 3)
    write_sweep(sweep, tmp_path / "same.npy")
    same(np.load(tmp_path / "same.npy"), grid)
    write_sweep(sweep.keep(np.array([0, 4])), tmp_path / "less.npy")
    expected = grid.copy()
    expected.reshape(6, 6)[[2, 3, 4], :4] = 0
    same(np.load(tmp_path / "less.npy"), expected)
    assert keeps_grid(sweep, Path("y.npy")) and not keeps_grid(sweep, Path("y.bin"))


def test_an_organised_pcd_says_nan_for_no_return_and_so_do_we(tmp_path):
    path = pcd(tmp_path / "x.pcd", "x y z ring", "4 4 4 1", "F F F U", "1 2 3 0\nnan nan nan 0\n4 5 6 1\n7 8 9 1\n", width=2, height=2)
    sweep = read_sweep(path)
    assert sweep.kept.tolist() == [0, 2, 3] and sweep.ring.tolist() == [0, 1, 1]
    write_sweep(sweep.keep(np.array([0, 1])), path)
    assert path.read_bytes().endswith(b"DATA ascii\n1.0 2.0 3.0 0\nnan nan nan 0\n4.0 5.0 6.0 1\nnan nan nan 1\n")
    assert b"WIDTH 2\nHEIGHT 2\n" in path.read_bytes() and not keeps_grid(made(), path)


# What is refused


def refused(path, words, read=read_sweep):
    with pytest.raises(RecordingError, match=words) as caught:
        read(path)
    assert path.name in str(caught.value)


def test_a_size_that_is_no_multiple_of_the_record_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(bytes(100))
    (tmp_path / "x.pcd.bin").write_bytes(bytes(99))
    refused(tmp_path / "x.bin", "has 100 bytes, which is no multiple of 16.*nuScenes sweeps must end in .pcd.bin")
    refused(tmp_path / "x.pcd.bin", "has 99 bytes, which is no multiple of 20.*KITTI sweeps end in .bin alone")


def test_a_kitti_file_named_as_nuscenes_is_told_by_its_rings(tmp_path):
    bin_file(tmp_path / "x.pcd.bin", 4)
    refused(tmp_path / "x.pcd.bin", "its fifth column is no ring number; a name that ends in .pcd.bin says nuScenes")


@pytest.mark.parametrize("text", ["1.0 2.0 3.0 0.5\n", "x,y,z,intensity\n" * 500, "0" * 64])
def test_text_named_bin_is_refused(text, tmp_path):
    (tmp_path / "x.bin").write_text(text)
    refused(tmp_path / "x.bin", "is text, not the float32 numbers of a .bin sweep")


def test_infinite_points_are_counted_and_refused(tmp_path):
    content = bin_file(tmp_path / "x.bin", 4)
    content[1, 0], content[3, 2] = np.inf, -np.inf
    content.tofile(tmp_path / "x.bin")
    refused(tmp_path / "x.bin", "2 of 5 points are infinite; restore")
    pcd(tmp_path / "x.pcd", **XYZI, body="1e39 0 0 1\n1 2 3 1\n", width=2)
    refused(tmp_path / "x.pcd", "1 of 2 points are infinite")


def test_no_points_or_none_that_came_back_are_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"")
    np.save(tmp_path / "x.npy", np.zeros((0, 4), np.float32))
    pcd(tmp_path / "x.pcd", **XYZI, body="", width=0)
    ply(tmp_path / "x.ply", "ascii", ["float x", "float y", "float z"], "", 0)
    for name in ("x.bin", "x.npy", "x.pcd", "x.ply"):
        refused(tmp_path / name, "holds no points; remove it|mmap an empty file" if name == "x.npy" else "holds no points; remove it")
    np.zeros((4, 4), np.float32).tofile(tmp_path / "x.bin")
    refused(tmp_path / "x.bin", "has all points at the origin; a sweep has at least one return")
    np.full((4, 4), 1e-5, np.float32).tofile(tmp_path / "x.bin")
    refused(tmp_path / "x.bin", "has all points at the origin")
    np.full((4, 4), np.nan, np.float32).tofile(tmp_path / "x.bin")
    refused(tmp_path / "x.bin", "has 4 points without a place .NaN. and no others")


def test_points_of_the_map_or_in_millimetres_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[500_000, 5_400_000, 300]], np.float64))
    refused(tmp_path / "x.npy", r"a point lies 5.4e\+06 m from the scanner, allowed are 10000 m")


def test_intensity_that_is_not_finite_is_refused(tmp_path):
    content = bin_file(tmp_path / "x.bin", 4)
    content[:2, 3] = np.nan, np.inf
    content.tofile(tmp_path / "x.bin")
    refused(tmp_path / "x.bin", "the intensity of 2 of 5 points is not a finite number")


def test_a_folder_a_missing_file_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "folder.bin").mkdir()
    os.mkfifo(tmp_path / "pipe.ply")
    refused(tmp_path / "folder.bin", "cannot be read as a sweep: it is a directory or a device; give a file")
    refused(tmp_path / "pipe.ply", "it is a directory or a device")
    refused(tmp_path / "missing.npy", "cannot be read as a sweep: No such file or directory")
    refused(tmp_path / ("x" * 300 + ".bin"), "File name too long")


def test_more_points_than_are_allowed_are_refused_before_they_are_read(tmp_path):
    for name, make in (("x.bin", lambda p: bin_file(p, 4)), ("x.npy", lambda p: np.save(p, places(5)))):
        make(tmp_path / name)
        with pytest.raises(RecordingError, match=f"{name}: holds 5 points, more than max_points = 4"):
            read_sweep(tmp_path / name, max_points=4)


@pytest.mark.parametrize(("change", "words"), [
    ({"width": 3}, "says 3 points, 2 lines follow it"),
    ({"width": 1}, "says 1 points, 7 bytes follow the last one: its header lies"),
    ({"width": 10**15}, "holds 1000000000000000 points, more than max_points"),
    ({"width": 10**7}, "says 10000000 points, 2 lines follow it"),
    ({"width": 10**7, "data": "binary"}, "says 10000000 points of 16 bytes, 160000000 bytes follow it by that, found 17"),
    ({"width": 10**7, "data": "binary_compressed"}, "10000000 points of 16 bytes, its compressed part says"),
    ({"WIDTH": "-2"}, "its header says WIDTH '-2'; allowed are whole numbers from 0"),
    ({"WIDTH": "1e9"}, "its header says WIDTH '1e9'"),
    ({"POINTS": "9" * 30}, "its header says POINTS '9+'"),
    ({"points": 5}, "header lies: WIDTH 2 times HEIGHT 1 is not POINTS 5"),
    ({"counts": "1 1 1 0"}, "says COUNT 0 for 'intensity'"),
    ({"counts": "1 1 1 99999999999"}, "says 400000000008 bytes for one point; allowed are 4096"),
    ({"counts": "1 1 1 2"}, "its text is not what its header says"),
    ({"counts": "1 1 1"}, "has 4 FIELDS, 4 SIZE, 4 TYPE and 3 COUNT"),
    ({"sizes": "4 4 4 3"}, "says TYPE F of SIZE 3 for 'intensity'; allowed are F 4 8, I and U 1 2 4 8"),
    ({"kinds": "F F F X"}, "says TYPE X of SIZE 4"),
    ({"kinds": "F F I F"}, "its text is not what its header says: could not convert string '3.5' to int32 at row 0, column 3"),
    ({"fields": "x y z x"}, "names the column 'x' twice"),
    ({"fields": "x y r i"}, "has the columns x, y, r, i; a sweep needs x, y and z"),
    ({"data": "zip"}, "says DATA 'zip'; allowed are ascii, binary, binary_compressed"),
    ({"SIZE": None}, "its PCD header lacks SIZE"),
    ({"DATA": None}, "its header has no line 'DATA'"),
    ({"VIEWPOINT": "0 0 0"}, "VIEWPOINT is not seven numbers"),
    ({"VIEWPOINT": "0 0 0 1 0 0 x"}, "VIEWPOINT is not seven numbers"),
    ({"VERSION": "7\n" * 3000}, "its header has no line 'DATA'"),
])
def test_a_pcd_header_that_lies_is_refused(change, words, tmp_path):
    refused(pcd(tmp_path / "x.pcd", **{**XYZI, "body": "1 2 3.5 1\n1 2 3 1", "width": 2} | change), words)


@pytest.mark.parametrize("body", [
    b"", b"\x05\0", struct.pack("<II", 5, 12), struct.pack("<II", 5, 99) + bytes(5),
    struct.pack("<II", 1, 12) + bytes([31]), struct.pack("<II", 3, 12) + bytes([0xE0, 0, 9]),
    struct.pack("<II", 2, 12) + bytes([0xE0, 3]), struct.pack("<II", 5, 12) + bytes([0, 0x41, 7 << 5, 200, 0]),
])
def test_damaged_compressed_points_are_refused(body, tmp_path):
    path = pcd(tmp_path / "x.pcd", "x y z", "4 4 4", "F F F", body, "binary_compressed")
    refused(path, "the file is cut or its header lies|its compressed points are damaged")


PLACE = ["float x", "float y", "float z"]


@pytest.mark.parametrize(("form", "properties", "count", "more", "words"), [
    ("ascii", PLACE, 9, "", "says 9 points, 2 lines follow"),
    ("ascii", PLACE, 1, "", "says 1 points, .* bytes follow the last one"),
    ("binary_big_endian", PLACE, 9, "", "says 9 points of 12 bytes, 108 bytes follow it by that, found 12"),
    ("ascii", PLACE, -1, "", "says element vertex '-1'"),
    ("ascii", PLACE, 10**17, "", "points, more than max_points"),
    ("ascii", ["half x", *PLACE[1:]], 2, "", "says property 'half x' of a vertex; allowed is a number with a name: char, uchar, short, "),
    ("ascii", [*PLACE, "list uchar int near"], 2, "", "says property 'list uchar int near' of a vertex"),
    ("ascii", [*PLACE, "float x"], 2, "", "names the column 'x' twice"),
    ("ascii", PLACE[:2], 2, "", "has the columns x, y; a sweep needs x, y and z"),
    ("ascii", ["int x", *PLACE[1:]], 2, "", "its x holds int32; allowed are 32- and 64-bit floats, in metres"),
    ("ascii", [*PLACE, "float intensity"], 2, "", "its text is not what its header says"),
    ("binary", PLACE, 2, "", "format 'binary'; allowed are ascii, binary_little_endian, binary_big_endian"),
])
def test_a_ply_header_that_lies_is_refused(form, properties, count, more, words, tmp_path):
    refused(ply(tmp_path / "x.ply", form, properties, "1 2 3\n4 5 6\n", count, more=more), words)


def test_a_ply_that_is_none_or_does_not_begin_with_its_points_is_refused(tmp_path):
    (tmp_path / "x.ply").write_bytes(b"solid cube\n")
    refused(tmp_path / "x.ply", "does not begin with 'ply'")
    (tmp_path / "x.ply").write_bytes(b"ply\nformat ascii 1.0\nelement face 3\nend_header\n")
    refused(tmp_path / "x.ply", "its first PLY element is 'face 3'; allowed is 'vertex N'")
    (tmp_path / "x.ply").write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    refused(tmp_path / "x.ply", "its first PLY element is 'none'")
    (tmp_path / "x.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n1\n")
    refused(tmp_path / "x.ply", "has the columns none; a sweep needs x, y and z")


def test_arrays_that_are_no_sweep_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    for array, words in (
        (np.zeros((4, 100_000), np.float32), r"has the shape \(4, 100000\); a sweep is \(points, columns\)"),
        (np.zeros(4, np.float32), r"has the shape \(4,\)"), (np.float32(1), r"has the shape \(\)"),
        (np.zeros((2, 2, 2, 4), np.float32), "has the shape"), (np.ones((2, 4), complex), "holds complex128; allowed are floats"),
        (np.ones((2, 4), int), "its x holds int64; allowed are 32- and 64-bit floats"),
        (np.ones((2, 4), np.float16), "its x holds float16"), (np.array([["a"] * 4]), "holds <U1"),
        (np.ones(2, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("i", "i8")]), "its i holds int64; allowed is one number of 8 to 32 bits"),
    ):
        np.save(path, array)
        refused(path, words)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    refused(path, "cannot be read as an array")
    np.savez(tmp_path / "y.npz", places(3))
    (tmp_path / "y.npz").rename(path)
    refused(path, "cannot be read as an array")
    path.write_bytes(b"\x93NUMPY\x01\0\x46\0{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 4), }     \n")
    refused(path, "cannot be read as an array")


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("x.pcd", "x.ply", "x.npy", "x.pcd.bin", "y.pcd", "y.ply", "z.pcd"):
        path = tmp_path / name
        write_sweep(made(6, ring=np.arange(6).astype(np.uint8)), path)
        if name[0] != "x":
            sweep = read_sweep(path)
            encoding = "ascii" if name[0] == "y" else "binary_compressed"
            write_sweep(replace(sweep, table=replace(sweep.table, encoding=encoding)), path)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(50):
            damaged = content.copy()
            damaged[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes()[: rng.integers(1, 2 * len(content))])
            try:
                read_sweep(path, max_points=10_000)
            except RecordingError as error:
                assert path.name in str(error)


@pytest.mark.parametrize(("change", "words"), [
    ({"points": np.zeros((0, 3), np.float32), "intensity": np.zeros(0), "kept": None}, "no point is left to write"),
    ({"points": np.ones((7, 4), np.float32)}, r"a sweep is points \(N, 3\) and N numbers in each column; got \(7, 4\)"),
    ({"intensity": np.ones(6)}, r"got \(7, 3\) and intensity \(6,\)"),
    ({"extra": {"ring": np.ones(6)}}, r"got \(7, 3\) and ring \(6,\)"),
    ({"points": np.full((7, 3), np.nan)}, "of 7 points to be written 7 have no place"),
    ({"points": np.eye(7, 3)}, "of 7 points to be written 4 have no place .* and 0 no finite intensity"),
    ({"points": np.full((7, 3), np.inf)}, "7 of 7 points are infinite"),
    ({"intensity": np.full(7, np.inf)}, "0 have no place .* and 7 no finite intensity"),
    ({"extra": {"a b": np.ones(7)}}, "the column name 'a b' cannot stand in a header"),
    ({"extra": {"good": np.ones(7, bool)}}, "PCD cannot hold the column 'good' of bool; convert it to float32"),
])
def test_what_could_not_be_read_again_is_not_written(change, words, tmp_path):
    with pytest.raises(RecordingError, match=f"x.pcd: .*{words}"):
        write_sweep(replace(made(), **change), tmp_path / "x.pcd")
    assert list(tmp_path.iterdir()) == []


def test_columns_that_a_format_needs_or_cannot_hold_are_named(tmp_path):
    with pytest.raises(RecordingError, match="x.pcd.bin: nuScenes holds a ring for each point, this sweep has none"):
        write_sweep(made(), tmp_path / "x.pcd.bin")
    with pytest.raises(RecordingError, match="x.ply: PLY cannot hold the column 'normal' .*; write a .pcd file"):
        write_sweep(made(normal=places(7)), tmp_path / "x.ply")
    write_sweep(made(ring=np.arange(7)), tmp_path / "x.npy")
    with pytest.raises(RecordingError, match="x.npy: the sweep has lost the column 'ring' that its file has"):
        write_sweep(replace(read_sweep(tmp_path / "x.npy"), extra={}), tmp_path / "x.npy")
    with pytest.raises(RecordingError, match="x.txt: '.txt' is no sweep file"):
        write_sweep(made(), tmp_path / "x.txt")


# Real recordings


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not here")
def test_real_sweeps_come_back_bit_for_bit(tmp_path):
    for path in [*sorted(SHARED.rglob("*.bin"))[:6], *sorted((SHARED / "kitti_pairs").rglob("*.bin"))]:
        sweep = read_sweep(path)
        write_sweep(sweep, tmp_path / "x.bin")
        scan = np.fromfile(path, np.float32).reshape(-1, 4)
        missing = np.flatnonzero(~scan[:, :3].any(axis=1))
        assert sweep.records - len(sweep) == len(missing) and len(sweep) > 15_000
        assert (tmp_path / "x.bin").read_bytes() == np.delete(scan, missing, axis=0).tobytes()
        assert 0 <= sweep.intensity.min() < sweep.intensity.max() <= 1 and np.abs(sweep.points).max() < 121
