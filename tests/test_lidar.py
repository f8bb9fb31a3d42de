"""The LiDAR modality: what the networks see of a sweep, what a plan does to it, and that labels follow their points."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grids import TINY
from mmcycle.config import from_dict, modality_from, to_dict
from mmcycle.core.heads import Head
from mmcycle.core.model import CycleModel, generator
from mmcycle.core.settings import Networks, Objective
from mmcycle.data.layouts import detect_layout, scan
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import verify
from mmcycle.modalities import lidar_head, lidar_texture
from mmcycle.modalities.lidar import Lidar
from mmcycle.modalities.lidar_sensor import SensorSpec
from mmcycle.modalities.point_files import Sweep, read_sweep, write_sweep
from mmcycle.testing import check_modality
from mmcycle.train.trainer import train

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidar"
SPEC = SensorSpec(rows=16, columns=64, fov=(4.0, -12.0), max_range=50.0)
LIDAR = Lidar(sensor=SPEC)
KEEPING = Lidar(sensor=SPEC, change="returns", max_shift=0.2)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(seed: int = 0, spec: SensorSpec = SPEC, share: float = 0.9, behind: int = 1) -> np.ndarray:
    """(N, 4) float32 in KITTI's order: most pixels of the sensor return, each with `behind` points, the first nearest."""
    draw = np.random.default_rng(seed)
    around = np.sort(np.radians(spec.azimuths) % (2 * np.pi))
    rows = []
    for up in np.radians(spec.elevations):
        for angle in around[draw.random(len(around)) < share]:
            distance = draw.uniform(2, 20)
            for number in range(behind):
                r, a = distance + number, angle + number * 1e-4
                rows.append([r * np.cos(up) * np.cos(a), r * np.cos(up) * np.sin(a), r * np.sin(up), draw.random()])
    return np.array(rows, dtype=np.float32)


def bin_file(path: Path, points: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(path)
    return path


def sweep(seed: int = 0, **options) -> Sweep:
    points = cloud(seed, **options)
    return Sweep(points[:, :3].copy(), points[:, 3].copy())


def range_file(path: Path, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    steps = draw.integers(1000, 20000, (16, 64)) * (draw.random((16, 64)) < 0.9)
    remission = draw.integers(0, 100, (16, 64)) * (steps > 0)
    label = draw.integers(0, 20, (16, 64))
    np.savez(path, range=steps.astype("u2"), range_scale=np.float32(0.002), remission=remission.astype("u1"), label=label)
    return path


def plan(x: torch.Tensor, shift: float = 0.0, brighter: float = 0.0, logit: float = 100.0) -> torch.Tensor:
    alone = [float(field == (0.0, 0.0)) for field in lidar_texture.FIELDS]
    return torch.stack([torch.full_like(x[0], value) for value in (shift, 0.0, brighter, 0.0, logit, *alone)])


# The contract


@pytest.mark.filterwarnings("ignore:unfolding found")            # sweeps made at random have rows without a return
@pytest.mark.parametrize("name", ["sweep.bin", "sweep.pcd.bin", "sweep.ply", "sweep.npz"])
def test_every_law_of_the_contract_is_kept(tmp_path, name):
    lidar = replace(LIDAR, full_intensity=100.0 if name.endswith("npz") else None)
    path = tmp_path / name
    if name.endswith("npz"):
        range_file(path)
    else:
        made = sweep()
        write_sweep(replace(made, extra={"ring": row_of(made)}), path)
    assert [str(law) for law in check_modality(lidar, [path]) if not law.passed] == []


def row_of(made: Sweep) -> np.ndarray:
    up = np.degrees(np.arctan2(made.points[:, 2], np.hypot(*made.points[:, :2].T)))
    return np.abs(up[:, None] - np.array(SPEC.elevations)).argmin(1).astype(np.uint16)


@pytest.mark.skipif(not DATA.is_dir(), reason="no recordings here")
def test_a_real_sweep_is_whole_again_bit_for_bit_and_a_range_image_too(tmp_path):
    lidar = Lidar()
    path = DATA / "kitti_bin" / "driveB_000000.bin"
    raw = lidar.load(path)
    x, context = lidar.to_tensor(raw)
    assert x.shape == (3, 64, 1024) and context.projection.method == "unfold"
    lidar.save(lidar.from_tensor(x, context), tmp_path / "same.bin")
    records = np.fromfile(path, "<f4").reshape(-1, 4)
    assert (tmp_path / "same.bin").read_bytes() == records[records.any(axis=1)].tobytes()      # one record holds no return
    image = replace(lidar, full_intensity=100.0).load(DATA / "kitti_raw_driveB" / "000000.npz")
    there = replace(lidar, full_intensity=100.0)
    back = there.from_tensor(*there.to_tensor(image))
    assert np.array_equal(back.range, image.range) and np.array_equal(back.remission, image.remission)


def test_the_channels_are_log_range_intensity_and_whether_there_is_a_return():
    spec = SensorSpec(rows=2, columns=4, fov=(5.0, -5.0), max_range=63.0)
    points = np.array([[0.0, 15.0, 1.0], [-3.0, -0.1, -0.1]], np.float32)      # left and up, behind to the right and down
    x, _ = Lidar(sensor=spec, projection="elevation").to_tensor(Sweep(points, np.array([0.25, 1.0], np.float32)))
    r = np.linalg.norm(points, axis=1)
    wanted = np.full((3, 2, 4), -1.0)
    wanted[:, 0, 1] = 2 * np.log2(r[0] + 1) / 6 - 1, -0.5, 1
    wanted[:, 1, 3] = 2 * np.log2(r[1] + 1) / 6 - 1, 1, 1
    assert np.allclose(x, wanted, atol=1e-6)


def test_what_is_made_without_a_context_unfolds_and_is_seen_again_as_it_was():
    x, _ = LIDAR.to_tensor(sweep())
    made = LIDAR.from_tensor(x, None)
    again, context = LIDAR.to_tensor(replace(made, extra={}))
    assert context.projection.method == "unfold" and torch.allclose(again, x, atol=1e-5)
    assert LIDAR.to_tensor(made)[1].projection.method == "ring" and (np.diff(made.ring.astype(int)) >= 0).all()


def test_points_become_a_range_image_and_back_by_their_suffix(tmp_path):
    made = sweep()
    LIDAR.save(made, tmp_path / "one.npz")
    image = LIDAR.load(tmp_path / "one.npz")
    assert image.range.shape == (16, 64) and (image.range > 0).sum() == len(made)
    LIDAR.save(image, tmp_path / "two.bin")
    assert np.allclose(read_sweep(tmp_path / "two.bin").points, made.points, atol=1e-4)


def test_only_the_pixels_that_change_lose_or_move_their_points_all_of_them():
    raw = sweep(behind=2)
    x, context = LIDAR.to_tensor(raw)
    gone, moved = (0, 0), (0, 1)
    assert x[2][gone] > 0 and x[2][moved] > 0
    x = x.clone()
    x[:, *gone] = -1
    x[0][moved] += 0.1
    made = LIDAR.from_tensor(x, context)
    pixel = context.projection.pixel.numpy()
    assert np.array_equal(made.kept, np.flatnonzero(pixel != 0)) and len(made) == len(raw) - 2
    old, new = raw.points[made.kept], made.points
    other = (pixel != 1)[made.kept]
    assert np.array_equal(old[other], new[other]) and np.array_equal(made.intensity, raw.intensity[made.kept])
    farther = np.linalg.norm(new[~other], axis=1) - np.linalg.norm(old[~other], axis=1)
    assert len(farther) == 2 and (farther > 0.3).all() and np.isclose(*farther, atol=1e-4)


def test_a_pixel_made_anew_is_a_point_in_its_middle_with_its_ring_and_without_a_label(tmp_path):
    raw = sweep()
    write_sweep(replace(raw, extra={"ring": 15 - row_of(raw)}), tmp_path / "x.pcd.bin")      # counted from below
    raw = LIDAR.load(tmp_path / "x.pcd.bin")
    x, context = LIDAR.to_tensor(raw)
    row, column = (int(place[0]) for place in (x[2] < 0).nonzero(as_tuple=True))
    x = x.clone()
    x[:, row, column] = torch.tensor([0.2, 0.0, 1.0])
    made = LIDAR.from_tensor(x, context)
    assert len(made) == len(raw) + 1 and made.kept[-1] == -1 and made.ring[-1] == 15 - row
    again = LIDAR.to_tensor(made)[0]
    assert torch.allclose(again, x, atol=1e-5)
    np.arange(1, len(raw) + 1, dtype="<u4").tofile(tmp_path / "x.label")
    assert LIDAR.relabel(tmp_path / "x.label", tmp_path / "y.label", made)
    assert np.fromfile(tmp_path / "y.label", "<u4").tolist() == [*range(1, len(raw) + 1), 0]


def test_a_sweep_from_which_everything_is_taken_keeps_its_likeliest_return():
    raw = sweep()
    x, context = LIDAR.to_tensor(raw)
    x = x.clone()
    x[2] = -1 + 0.1 * (torch.arange(16 * 64).view(16, 64) == 70)
    assert len(LIDAR.from_tensor(x, context)) == 1 and len(LIDAR.from_tensor(x, None)) == 1


# The grid and its turn


def test_a_whole_turn_wraps_and_a_narrower_crop_does_not():
    assert LIDAR.wraps and LIDAR.shape == (3, 16, 64)
    assert not replace(LIDAR, window=32).wraps and replace(LIDAR, window=32).shape == (3, 16, 32)
    assert not Lidar(sensor=replace(SPEC, azimuth=(0.0, 90.0))).wraps


def test_a_crop_of_a_whole_turn_begins_anywhere_and_goes_on_over_the_seam():
    narrow, x = replace(LIDAR, window=32), torch.arange(64.0).expand(3, 16, 64)
    starts = set()
    for seed in range(64):
        first = narrow.crop(x, rng(seed))[0, 0]
        assert torch.equal(first, (first[0] + torch.arange(32)) % 64)
        starts.add(int(first[0]))
    assert len(starts) > 20 and max(starts) > 32
    window = Lidar(sensor=replace(SPEC, azimuth=(0.0, 90.0)), window=32)
    assert all(window.crop(x, rng(seed))[0, 0].diff().eq(1).all() for seed in range(20))


@pytest.mark.parametrize("kind", ["light", "resnet"])
def test_a_turned_sweep_is_translated_to_the_turned_translation(kind):
    torch.manual_seed(0)
    numbers = Networks(**(TINY | {"generator": kind}))
    gen, disc = generator(LIDAR, KEEPING, numbers).eval(), KEEPING.discriminator(numbers).eval()
    x = LIDAR.to_tensor(sweep())[0][None]
    assert torch.allclose(gen.decode(x.roll(8, -1)), gen.decode(x).roll(8, -1), atol=1e-5)
    assert not torch.allclose(gen.decode(x.roll(8, -2)), gen.decode(x).roll(8, -2), atol=1e-3)
    assert torch.allclose(disc(x.roll(8, -1)), disc(x).roll(4, -1), atol=1e-5)


# The head


def parts(seed: int = 0, size: tuple[int, ...] = (2, 5, 16, 64)) -> torch.Tensor:
    return torch.rand(size, generator=rng(seed)) * 2 - 1


def both() -> torch.Tensor:
    return torch.stack([LIDAR.to_tensor(sweep(seed))[0] for seed in (1, 2)])


STYLE = KEEPING.head(LIDAR).look(both())


def taught(*sweeps: torch.Tensor) -> Head:
    """A head that has counted what these sweeps (3, 16, 64) lost."""
    head = KEEPING.head(LIDAR)
    for like in sweeps:
        head.observe(like[None], head.look(like[None]))
    return head


def road(metres: float = 8.0) -> torch.Tensor:
    """A wall all around, (3, 16, 64)."""
    return lidar_head.sample(KEEPING._scale, torch.full((16, 64), metres), torch.full((16, 64), 0.3), torch.ones(16, 64) > 0)


def thinned() -> torch.Tensor:
    """Every other return lost, (2, 3, 16, 64)."""
    x = both()
    x[:, :, ::2, ::2], x[:, :, 1::2, 1::2] = -1, -1
    return x


def test_a_return_may_be_lost_but_never_invented_and_moves_within_its_bound():
    x, head = torch.stack([road(), road(20.0)]), taught(*thinned())
    y = head(x, head.plan(x, parts(), STYLE), rng())
    there, left = x[:, 2] > 0, y[:, 2] > 0
    assert not (left & ~there).any() and 0.3 < left.sum() / there.sum() < 0.95
    assert (y[~left.unsqueeze(1).expand_as(y)] == -1).all() and set(y[:, 2].unique().tolist()) == {-1.0, 1.0}
    moved = KEEPING._scale.to_metres(y[:, 0].double()) - KEEPING._scale.to_metres(x[:, 0].double())
    assert 0.15 < moved[left].abs().max() < 0.2001 and y.abs().max() <= 1


def test_nothing_happens_at_strength_zero_and_half_as_much_is_lost_at_a_half():
    x, head = both(), KEEPING.head(LIDAR)
    nothing = head.plan(x, parts(), STYLE, 0.0)
    assert torch.allclose(head(x, nothing, rng()), x, atol=1e-6)
    kept = torch.sigmoid(head.plan(x, parts(), STYLE)[:, 4])
    half = torch.sigmoid(head.plan(x, parts(), STYLE, 0.5)[:, 4])
    assert torch.allclose(1 - half, (1 - kept) / 2, atol=1e-6)


@pytest.mark.parametrize("field", range(len(lidar_texture.FIELDS)))
def test_each_return_is_lost_with_its_own_chance_whatever_it_shares_with_its_neighbours(field):
    wanted = torch.zeros(600, 5 + len(lidar_texture.FIELDS), 4, 40)
    wanted[:, 4], wanted[:, 5 + field] = torch.tensor([-2.0, 0.0, 1.0, 3.0])[:, None], 1.0
    often = (lidar_head.luck(wanted, rng()).kept > 0).double().mean((0, 2))
    assert torch.allclose(often, torch.sigmoid(wanted[0, 4, :, 0]).double(), atol=0.04)


def test_losses_are_counted_in_small_holes_row_by_row_and_not_in_the_sky():
    like = road()
    like[:, 5, 10:14] = -1                              # a hole
    like[:, :2] = -1                                    # the sky
    head = taught(like)
    assert head.lost.sum(1).tolist() == [0.0] * 5 + [4.0] + [0.0] * 10
    assert head.hit.sum(1).tolist() == [0.0] * 2 + [64.0] * 3 + [60.0] + [64.0] * 10
    assert head.lost[5, 4] == 4                         # its neighbours have an intensity of 0.3


def test_what_lies_in_the_dark_is_lost_as_often_as_it_was_in_the_dark():
    like = road()
    like[1, :, :32] = -1 + 2 * 0.02                     # dark paint
    like[:, ::2, 1:32:2] = -1
    head, x = taught(like), road()[None].clone()
    x[:, 1, :, :16] = -1 + 2 * 0.02
    kept = torch.sigmoid(head._usual(x, (x[:, 1] + 1) / 2, head.look(x), head.look(like[None])))[0]
    assert kept[2, :16].mean() < 0.65 and kept[2, 17:].mean() > 0.9


def test_as_many_are_lost_as_were_counted_and_learning_chooses_only_which():
    like = road()
    like[:, 6, ::2] = -1                                # every other return of one row
    head, x = taught(like), road()[None]
    style = head.look(like[None])
    usual = torch.sigmoid(head.plan(x, torch.zeros(1, 5, 16, 64), style)[0, 4])
    assert usual[6].mean() == pytest.approx(0.5, abs=0.05) and usual[8].mean() > 0.9
    said = torch.zeros(1, 5, 16, 64)
    said[:, 4, :, :40] = 1.0                            # keep the left, says the network
    said.requires_grad_()
    wanted = torch.sigmoid(head.plan(x, said, style)[0, 4])
    assert torch.allclose(wanted.mean(-1), usual.mean(-1), atol=1e-3)
    assert wanted[6, :40].mean() > 0.65 and wanted[6, 40:].mean() < 0.3
    wanted[6].sum().backward()
    assert said.grad[0, 4].abs().max() < 1e-3           # their number cannot be learned


def test_a_style_says_how_bright_each_row_is():
    like = road()
    like[1, 4] = 0.5
    head = taught(like)
    plan = head.plan(road()[None], torch.zeros(1, 5, 16, 64), head.look(like[None]))
    light = (road()[1] + 1) / 2 + plan[0, 2]
    assert torch.allclose(light[4], torch.tensor(0.75), atol=1e-4) and torch.allclose(light[5], torch.tensor(0.3), atol=1e-4)


def test_what_the_source_has_lost_already_is_not_lost_once_more():
    like = road()
    like[:, 6, ::2] = -1
    head = taught(like)
    style = head.look(like[None])
    kept = torch.sigmoid(head.plan(like[None], torch.zeros(1, 5, 16, 64), style)[0, 4])
    assert kept[6, 1::2].min() > 0.9


def test_the_choice_of_returns_range_and_intensity_are_all_learned():
    x, head, said = both(), KEEPING.head(LIDAR), parts().requires_grad_()
    head(x, head.plan(x, said, STYLE), rng()).sum().backward()
    assert all((said.grad[:, number] != 0).float().mean() > 0.2 for number in (0, 2, 4))
    fake = both().requires_grad_()                  # of a decoder, on the way back
    head(fake, head.plan(fake, parts(), STYLE), rng()).sum().backward()
    assert (fake.grad[:, 2] != 0).any() and fake.grad.isfinite().all()


def test_the_head_asks_for_one_grid_and_one_ego():
    assert LIDAR.head(LIDAR) is None and KEEPING.head(LIDAR).parts == 5
    with pytest.raises(ValueError, match="so elevations of both sensors must be equal"):
        KEEPING.head(Lidar(sensor=replace(SPEC, fov=(5.0, -12.0))))
    with pytest.raises(ValueError, match="so max_range of both"):
        KEEPING.head(replace(LIDAR, max_range=40.0))
    with pytest.raises(ValueError, match="needs the same ego in both domains"):
        KEEPING.head(replace(LIDAR, ego=((0, 1, 2),)))


@pytest.mark.parametrize("consistency, change", [("nce", "any"), ("cycle", "any"), ("both", "any"), ("cycle", "returns")])
def test_a_step_of_training_reaches_every_weight(consistency, change):
    torch.manual_seed(0)
    made = CycleModel(replace(LIDAR, change=change), KEEPING, Networks(**(TINY | {"generator": "light"})),
                      Objective(consistency=consistency), rng())
    for leg in made.legs(both(), both().roll(3, -1), 1.0):
        sum(leg.terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.gen_ab.parameters())
    assert all(p.grad.abs().sum() > 0 for p in made.gen_ab.decoder.parameters())


# Carrying out


def test_what_is_carried_out_is_what_the_head_showed_the_discriminator():
    raw, head = sweep(), KEEPING.head(LIDAR)
    x, context = LIDAR.to_tensor(raw)
    wanted = head.plan(x[None], parts(size=(1, 5, 16, 64)), STYLE[:1])
    made, facts = KEEPING.carry_out(wanted[0], context, rng(5))
    again = LIDAR.to_tensor(made)[0]
    assert torch.allclose(again, head(x[None], wanted, rng(5))[0], atol=1e-5)
    assert facts["kept_share"] == round(len(made) / len(raw), 4) and 0.05 < facts["shift_m"] < 0.15
    other, _ = KEEPING.carry_out(wanted[0], context, rng(6))
    assert not np.array_equal(other.kept, made.kept)


def test_a_plan_of_nothing_leaves_every_bit_and_a_plan_of_everything_lost_leaves_one_return():
    raw = sweep(behind=2)
    x, context = LIDAR.to_tensor(raw)
    made, facts = KEEPING.carry_out(plan(x), context, rng())
    assert made.points.tobytes() == raw.points.tobytes() and made.intensity.tobytes() == raw.intensity.tobytes()
    assert facts == {"kept_share": 1.0, "shift_m": 0.0}
    last, _ = KEEPING.carry_out(plan(x, logit=-100.0), context, rng())
    assert len(last) == 2                           # a pixel and the point behind it


def test_new_intensities_are_in_the_units_of_the_file_and_stay_within_them():
    raw = replace(sweep(), intensity=np.linspace(0, 255, len(sweep())).astype(np.float32))
    bright = replace(KEEPING, full_intensity=255.0)
    x, context = bright.to_tensor(raw)
    made, _ = KEEPING.carry_out(plan(x, brighter=0.1), context, rng())          # the source's units count
    assert np.allclose(made.intensity, np.minimum(raw.intensity + 25.5, 255), atol=1e-3)


def test_a_range_image_loses_and_moves_returns_and_keeps_its_other_arrays(tmp_path):
    steps = replace(KEEPING, full_intensity=100.0)
    image = steps.load(range_file(tmp_path / "x.npz"))
    x, context = steps.to_tensor(image)
    wanted = plan(x, shift=0.1)
    wanted[4, :, :32] = -100
    made, _ = steps.carry_out(wanted, context, rng())
    seen = np.arange(64) >= 32
    assert not made.range[:, ~seen].any() and not made.remission[:, ~seen].any()
    there = image.range[:, seen] > 0
    assert np.allclose((made.range - image.range)[:, seen][there], 0.1, atol=1e-5)
    assert np.array_equal(made.extra["label"], image.extra["label"])


# The carrier


def test_what_the_carrier_hides_is_not_shown_not_made_and_lost_on_the_way():
    ego = ((3, 10, 19), (4, 0, 63))
    hiding, raw = replace(KEEPING, ego=ego), sweep(share=1.0)
    x, context = hiding.to_tensor(raw)
    hidden = torch.zeros(16, 64, dtype=torch.bool)
    hidden[3, 10:20], hidden[4] = True, True
    assert torch.equal(x[2] < 0, hidden)
    made, facts = hiding.carry_out(plan(x), context, rng())
    assert len(made) == len(raw) - 74 and facts["kept_share"] == round(1 - 74 / 1024, 4)
    shown = torch.ones_like(x) * 0.5                # a translation made anew leaves hidden points as they are
    kept = hiding.from_tensor(shown, context)
    under = hidden.flatten()[context.projection.pixel].numpy()
    assert np.array_equal(kept.points[under], raw.points[under]) and not np.isclose(kept.points[~under], raw.points[~under]).all()
    assert len(hiding.from_tensor(shown, None)) == 1024 - 74


def test_the_ego_is_found_in_recordings_and_survives_a_config(tmp_path):
    for number in range(12):
        points = cloud(number, share=0.98)
        up = np.degrees(np.arctan2(points[:, 2], np.hypot(*points[:, :2].T)))
        behind = (up < -9) & (points[:, 0] < -np.abs(points[:, 1]))
        bin_file(tmp_path / f"{number:02}.bin", points[~behind])
    found = replace(LIDAR, projection="elevation").with_ego(sorted(tmp_path.glob("*.bin")))
    assert found.ego == tuple((row, *ends) for row in (13, 14, 15) for ends in ((0, 7), (56, 63)))
    side = {"modality": "lidar", "sensor": {"rows": 16, "columns": 64, "fov": [4.0, -12.0]}, "ego": [list(one) for one in found.ego]}
    made = from_dict({"name": "x", "a": {"name": "a"} | side, "b": {"name": "b", "change": "returns"} | side})
    assert made.a.modality.ego == found.ego and from_dict(json.loads(json.dumps(to_dict(made)))) == made


# Labels


def test_semantic_kitti_and_lidarseg_labels_lose_what_the_sweep_lost_and_others_are_not_touched(tmp_path):
    bin_file(tmp_path / "x.bin", cloud())
    raw = LIDAR.load(tmp_path / "x.bin")
    made = replace(raw.keep(np.arange(5, 20)))
    (np.arange(len(raw), dtype="<u4") << 16 | 40).astype("<u4").tofile(tmp_path / "x.label")
    assert LIDAR.relabel(tmp_path / "x.label", tmp_path / "y.label", made)
    assert np.array_equal(np.fromfile(tmp_path / "y.label", "<u4"), np.arange(5, 20) << 16 | 40)
    (np.arange(len(raw)) % 32).astype("u1").tofile(tmp_path / "x_lidarseg.bin")
    assert LIDAR.relabel(tmp_path / "x_lidarseg.bin", tmp_path / "y_lidarseg.bin", made)
    assert np.array_equal(np.fromfile(tmp_path / "y_lidarseg.bin", "u1"), np.arange(5, 20) % 32)
    assert not LIDAR.relabel(tmp_path / "x.bin", tmp_path / "z.bin", made) and not (tmp_path / "z.bin").exists()
    assert not LIDAR.relabel(tmp_path / "x.txt", tmp_path / "z.txt", made)
    np.zeros(7, "<u4").tofile(tmp_path / "short.label")
    with pytest.raises(RecordingError, match=rf"short.label: has 7 labels, its sweep has {len(raw)} points"):
        LIDAR.relabel(tmp_path / "short.label", tmp_path / "z.label", made)


def test_the_labels_of_an_organised_cloud_stay_in_its_grid(tmp_path):
    grid = np.zeros((16, 64, 4), np.float32)
    grid.reshape(-1, 4)[:900] = cloud(share=1.0)[:900]
    np.save(tmp_path / "x.npy", grid)
    raw = replace(LIDAR, projection="elevation").load(tmp_path / "x.npy")
    np.full(1024, 7, "<u4").tofile(tmp_path / "x.label")
    LIDAR.relabel(tmp_path / "x.label", tmp_path / "y.label", raw.keep(np.arange(100)))
    assert np.fromfile(tmp_path / "y.label", "<u4").tolist() == [7] * 100 + [0] * 924


def kitti_reader(points: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As the public description has it: float32 x, y, z, remission; uint32 instance << 16 | class."""
    table = np.fromfile(points, dtype=np.float32).reshape(-1, 4)
    numbers = np.fromfile(labels, dtype=np.uint32)
    assert len(table) == len(numbers)
    return table, numbers & 0xFFFF, numbers >> 16


@pytest.mark.parametrize("layout", ["kitti", "semantickitti"])
def test_a_generated_data_set_has_a_label_for_each_point_and_the_right_one(tmp_path, layout):
    source = tmp_path / "sim" / ("sequences/00" if layout == "semantickitti" else "")
    for number in range(2):
        points = cloud(number, behind=2)
        bin_file(source / f"velodyne/{number:06}.bin", points)
        (source / "labels").mkdir(exist_ok=True)
        (np.arange(len(points), dtype="<u4") << 16 | 40).astype("<u4").tofile(source / f"labels/{number:06}.label")
    (source / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    assert detect_layout(tmp_path / "sim", (".bin",))[0] == layout
    sensor = {"rows": 16, "columns": 64, "fov": [4.0, -12.0], "max_range": 50.0}
    side = {"root": str(source / "velodyne"), "modality": "lidar", "sensor": sensor}
    numbers = TINY | {"generator": "light"}
    made = from_dict({
        "name": "tiny", "a": {"name": "sim"} | side, "b": {"name": "real", "change": "returns"} | side, "model": numbers,
        "loss": {"consistency": "nce", "nce_patches": 4}, "train": {"steps": 2}, "data": {"workers": 0},
        "run": {"accelerator": "cpu", "devices": 1, "log_every": 1},
    })
    train(made, tmp_path / "run")
    job = generate(tmp_path / "sim", tmp_path / "out", {"lidar": str(tmp_path / "run")}, copies=2)
    assert job.done == 4 and verify(tmp_path / "out").ok
    if layout == "semantickitti":
        assert scan(tmp_path / "sim", {"lidar": (".bin",)}).tables == ("sequences/00/poses.txt",)
        assert (tmp_path / "out/sequences/00/poses.txt").is_file()
    rows = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    for row in rows:
        before = np.fromfile(tmp_path / "sim" / row["streams"]["lidar"]["source"], np.float32).reshape(-1, 4)
        label = row["labels"][0]
        points, kind, which = kitti_reader(tmp_path / "out" / row["streams"]["lidar"]["output"], tmp_path / "out" / label["output"])
        assert label["how"] == "remapped" and set(kind) == {40} and 0.5 < len(points) / len(before) < 1
        along = (points[:, :3] * before[which, :3]).sum(1)          # each on the ray of the point whose label it has
        along /= np.linalg.norm(points[:, :3], axis=1) * np.linalg.norm(before[which, :3], axis=1)
        gap = np.linalg.norm(points[:, :3], axis=1) - np.linalg.norm(before[which, :3], axis=1)
        assert along.min() > 1 - 1e-6 and np.abs(gap).max() <= 0.2001
        assert 0.5 < row["params"]["lidar.kept_share"] < 1 and 0 < row["params"]["lidar.shift_m"] <= 0.2


# What is refused


def nan(points: np.ndarray) -> np.ndarray:
    points[3, 3] = np.nan
    return points


BAD = [
    (lambda points: np.zeros(0), "holds no points"),
    (lambda points: points.ravel()[:-1], "which is no multiple of 16"),
    (lambda points: np.where(np.arange(len(points))[:, None] == 5, np.inf, points), "points are infinite"),
    (lambda points: points * [0, 0, 0, 1], "all points at the origin"),
    (nan, "intensity of 1 of"),
    (lambda points: points * [0.01, 0.01, 0.01, 1], r"none of its \d+ points lies where this sensor looks: 0.9 to 50 m"),
    (lambda points: np.array([[1.0, 0.0, 5.0, 0.0]]), "none of its 1 points lies where this sensor looks"),
    (lambda points: points * [1, 1, 1, 255], "half of its intensities are beyond .*, full intensity is 1 here"),
]


@pytest.mark.parametrize("spoil, told", BAD)
def test_a_bad_sweep_is_refused_by_name(tmp_path, spoil, told):
    path = bin_file(tmp_path / "bad.bin", np.asarray(spoil(cloud())))
    with pytest.raises(RecordingError, match=f"bad.bin.*{told}"):
        LIDAR.load(path)


def test_a_sweep_of_zero_to_one_is_refused_where_the_domain_has_zero_to_a_hundred_and_none_at_all_is_not(tmp_path):
    points, bright = cloud(), replace(LIDAR, full_intensity=100.0)
    with pytest.raises(RecordingError, match="a.bin.*its brightest return has intensity .*, full intensity is 100 here"):
        bright.load(bin_file(tmp_path / "a.bin", points))
    assert len(bright.load(bin_file(tmp_path / "b.bin", points * [1, 1, 1, 0]))) == len(points)


def test_a_scanner_of_half_the_rows_is_told_and_a_narrow_one_is_not():
    points, by_place = cloud(), replace(LIDAR, projection="elevation")
    up = np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points[:, :3], axis=1)))
    row = np.abs(up[:, None] - SPEC.elevations).argmin(1)
    other, upper = (Sweep(some[:, :3].copy(), some[:, 3].copy()) for some in (points[row % 2 == 0], points[row < 6]))
    with pytest.warns(UserWarning, match="7 of the 16 rows of this sensor are empty between others: the sweep is another"):
        by_place.to_tensor(other)
    by_place.to_tensor(upper)                           # none of its empty rows lies between others


def test_points_without_a_place_are_left_out_and_one_point_is_a_sweep(tmp_path):
    points = cloud()
    points[7, :3], points[9, 0] = 0, np.nan
    raw = LIDAR.load(bin_file(tmp_path / "holes.bin", points))
    assert raw.records == len(raw) + 2 and not {7, 9} & set(raw.kept.tolist())
    one = replace(LIDAR, projection="elevation").load(bin_file(tmp_path / "one.bin", points[:1]))
    x, _ = replace(LIDAR, projection="elevation").to_tensor(one)
    assert (x[2] > 0).sum() == 1


def test_a_sweep_beside_the_window_is_refused_and_one_partly_beside_keeps_what_is_not_shown(tmp_path):
    ahead = Lidar(sensor=replace(SPEC, azimuth=(0.0, 90.0)))
    points = cloud()
    left = np.abs(np.degrees(np.arctan2(points[:, 1], points[:, 0])))
    with pytest.raises(RecordingError, match=r"behind.bin: none .* azimuths within 45 degrees of 0"):
        ahead.load(bin_file(tmp_path / "behind.bin", points[left > 50]))
    raw = ahead.load(bin_file(tmp_path / "x.bin", points))
    x, context = ahead.to_tensor(raw)
    made, _ = replace(ahead, change="returns").carry_out(plan(x, logit=-100.0), context, rng())
    assert (left > 45).sum() <= len(made) < (left > 45).sum() + 5       # one pixel stays, and all that was not shown


def test_rows_that_cannot_be_told_as_demanded_are_refused_and_else_the_fallback_is_told(tmp_path):
    path = bin_file(tmp_path / "x.bin", cloud()[:500])
    with pytest.raises(RecordingError, match=r"x.bin: its rows cannot be told .*unfold.*; unfolding found \d+ rings, expected 16"):
        replace(LIDAR, projection="unfold").load(path)
    with pytest.raises(RecordingError, match="x.bin: the sweep has no column that tells the ring"):
        replace(LIDAR, projection="ring").load(path)
    with pytest.warns(UserWarning, match=r"unfolding found \d+ rings, expected 16: used elevation; say projection: elevation"):
        x, _ = LIDAR.to_tensor(LIDAR.load(path))
    assert torch.equal(x, replace(LIDAR, projection="elevation").to_tensor(read_sweep(path))[0])


def test_a_range_image_of_another_grid_or_without_a_return_in_range_is_refused(tmp_path):
    path = range_file(tmp_path / "x.npz")
    with pytest.raises(RecordingError, match="x.npz: is a range image of 16 rows and 64 columns, the sensor .* has 16 and 32"):
        replace(LIDAR, columns=32).load(path)
    with pytest.raises(RecordingError, match="x.npz: none of its returns lies within 0.9 to 1 m"):
        replace(LIDAR, max_range=1.0).load(path)
    with pytest.raises(UserError, match="a range image of 8 rows is not of this sensor, which has 16"):
        LIDAR.from_tensor(torch.zeros(3, 8, 64), None)


@pytest.mark.parametrize("fields, told", [
    (["sensor=hdl64"], "unknown sensor 'hdl64'; did you mean 'hdl-64e'"),
    (["columns=0"], "columns=0: must be greater than 0"),
    (["window=2000"], "window: got 2000; the range image has 1024 columns"),
    (["ego=[[70, 0, 3]]"], r"ego: got \(70, 0, 3\); it is \(row, first column, last column\) within 64 rows"),
    (["change=all"], "change=all: must be 'any' or 'returns'"),
    (["sensor={rows: 2, fov: [1, 5]}"], "fov: must fall from the top row"),
])
def test_a_wrong_field_is_told_by_its_key(fields, told):
    with pytest.raises(UserError, match=told):
        modality_from("lidar", fields)


def test_fields_of_the_domain_count_more_than_the_presets(tmp_path):
    made = modality_from("lidar", ["sensor=vlp-16", "columns=512", "max_range=60", "full_intensity=1"])
    assert made.shape == (3, 16, 512) and (made.spec.max_range, made.spec.intensity_scale) == (60.0, 1.0)
    own = modality_from("lidar", ["sensor={rows: 8, fov: [2.0, -6.0], columns: 32}"])
    assert own.shape == (3, 8, 32) and own.spec.elevations[0] == 1.5


# Looking and measuring


def test_the_picture_is_three_strips_and_black_where_nothing_returned():
    x = torch.full((3, 16, 64), -1.0)
    x[:, 0, 0] = torch.tensor([-0.6, 1.0, 1.0])
    picture = LIDAR.render(x)
    assert picture.shape == (3, 48, 64) and picture.dtype == torch.uint8
    assert (picture.sum(0) > 0).sum() == 3 and (picture[:, 16, 0] == 255).all() and (picture[:, 32, 0] == 255).all()
    assert picture[0, 0, 0] > picture[2, 0, 0]      # near is red


def test_range_error_counts_where_both_return_and_the_rest_disagrees():
    x = torch.full((3, 16, 64), -1.0)
    x[2], x[1] = 1.0, 0.0
    x[0] = LIDAR._scale.to_sample(torch.tensor(10.0))
    y = x.clone()
    y[0, :8] = LIDAR._scale.to_sample(torch.tensor(10.5))
    y[:, 8:12] = -1
    measures = LIDAR.metrics()
    assert measures["range_error_m"](x, y) == pytest.approx(0.5 * 8 / 12, abs=1e-4)
    assert measures["drop_disagreement"](x, y) == pytest.approx(4 / 16)
    assert measures["range_error_m"](x, torch.full_like(x, -1)) == 0.0
