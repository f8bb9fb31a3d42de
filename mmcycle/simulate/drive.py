"""A drive along a street: camera and scanner on one car, moment by moment, written as KITTI writes them.

OUT/drive.json, OUT/poses.txt                              of the camera, 3 x 4 rows, as KITTI's odometry
OUT/image_2/000000.png   OUT/semantic/000000.png           and the mask, Cityscapes train ids
OUT/velodyne/000000.bin  OUT/labels/000000.label           sweep and SemanticKITTI labels
OUT/label_2/000000.txt   OUT/calib/000000.txt              boxes of what the camera sees, and calibration
OUT/boxes/000000.txt                                       boxes of what the scanner sees, in its frame, as OpenPCDet's

Without a camera, image_2, semantic and label_2 are left out.
"""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from mmcycle.errors import UserError, need
from mmcycle.files import write_json, write_text
from mmcycle.progress import Tell, unsaid
from mmcycle.simulate.camera import VIEWS, Camera, photograph
from mmcycle.simulate.crew import share_out
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.objects import kitti_lines
from mmcycle.simulate.plan import Plan
from mmcycle.simulate.scanner import Pose, Scanner, Sensor, boxes_seen, check_mode, directions, sensed
from mmcycle.simulate.scene import Scene, street
from mmcycle.simulate.street import SIDES, agreed, described, noise_of, seed_of, write_image
from mmcycle.simulate.sweep import write_boxes, write_sweep

LONGEST = 110.0  # metres; the street ends beyond
SCANNER_HEIGHT = 1.73  # metres over the road
CAMERA_AHEAD, CAMERA_BELOW = 0.27, 0.08  # metres, seen from the scanner; as KITTI's (Geiger et al. 2013, fig. 3)
FOV = 80.0  # degrees, horizontal
NO_CAMERA = "none"  # the view of a drive with the scanner alone
# Scanner frame (x ahead, y left, z up) -> camera frame (x right, y down, z ahead).
TO_CAMERA = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, -CAMERA_BELOW], [1.0, 0.0, 0.0, -CAMERA_AHEAD], [0.0, 0.0, 0.0, 1.0]]
)


@dataclass(frozen=True)
class Order:
    """What is to be written."""

    out: Path
    sensor: Sensor
    steps: int
    spacing: float  # metres between moments; other cars drive as fast
    seed: int
    view: str
    size: tuple[int, int]  # width, height
    mode: str

    def files(self, index: int) -> dict[str, Path]:
        """Name of a part -> its file, of one moment."""
        kinds = {"velodyne": "bin", "labels": "label", "calib": "txt", "boxes": "txt"}
        if self.view != NO_CAMERA:
            kinds |= {"image_2": "png", "semantic": "png", "label_2": "txt"}
        return {kind: self.out / kind / f"{index:06d}.{suffix}" for kind, suffix in kinds.items()}


def write_drive(
    out: Path,
    sensor: Sensor,
    steps: int = 100,
    spacing: float = 1.0,
    seed: int = 0,
    view: str = "day",
    size: tuple[int, int] = (480, 160),
    mode: str = "ideal",
    workers: int = 1,
    tell: Tell = unsaid,
) -> None:
    """Write the missing moments of a drive; moment i depends on (seed, i) and the order alone, so it resumes.

    view: of the camera, "none" for a drive without; mode: of the scanner, one of `scanner.MODES`;
    tell: see `share_out`.
    """
    order = Order(Path(out), sensor, steps, float(spacing), seed, view, (int(size[0]), int(size[1])), mode)
    _check(order)
    need("open3d", "Simulating a drive")
    _announce(order, drive(_road(seed), steps, order.spacing, seed))
    missing = [index for index in range(steps) if not all(path.exists() for path in order.files(index).values())]
    share_out(partial(_write_moment, order), missing, workers, tell, steps - len(missing))


def drive(scene: Scene, steps: int, spacing_m: float, seed: int = 0) -> list[Pose]:
    """Poses of the scanner along the ego car's lane, swaying a little; at most 110 m of a street can be driven."""
    _check_way(steps, spacing_m)
    plan, rng = scene.plan, np.random.default_rng((seed, 8))
    lane = float(plan.straightened(scene.ego[:3])[0, 1])
    sway, wave, phase = rng.uniform(0.05, 0.2), rng.uniform(35, 60), rng.uniform(0, 2 * np.pi)
    poses = []
    for x in np.arange(steps) * spacing_m:
        turn, climb = plan.heading(x)
        angle = 2 * np.pi * x / wave + phase
        place = plan.bent(np.array([[x, lane + sway * np.sin(angle), 0.0]]))[0]
        yaw = turn + sway * 2 * np.pi / wave * np.cos(angle)
        poses.append(Pose(*place[:2], place[2] + SCANNER_HEIGHT, float(np.degrees(yaw)), float(np.degrees(climb))))
    return poses


def camera_at(pose: Pose, width: int, height: int) -> Camera:
    """The camera of the car whose scanner is at this pose."""
    x, y, z, _ = pose.matrix @ [CAMERA_AHEAD, 0.0, -CAMERA_BELOW, 1.0]
    return Camera(width, height, FOV, (float(x), float(y), float(z)), pose.yaw, pose.pitch)


def intrinsics(camera: Camera) -> Array:
    """(3, 3): camera frame -> pixels; the middle of the first pixel is (0, 0)."""
    focal = camera.width / 2 / np.tan(np.radians(camera.fov) / 2)
    middle = (camera.width - 1) / 2, (camera.height - 1) / 2
    return np.array([[focal, 0.0, middle[0]], [0.0, focal, middle[1]], [0.0, 0.0, 1.0]])


def calibration(camera: Camera) -> str:
    """KITTI's calib file: P0 to P3 are one camera, rectified already; the IMU sits in the scanner."""
    project = np.c_[intrinsics(camera), np.zeros(3)]
    rows = {f"P{k}": project for k in range(4)} | {"R0_rect": np.eye(3)}
    rows |= {"Tr_velo_to_cam": TO_CAMERA[:3], "Tr_imu_to_velo": np.eye(4)[:3]}
    return "".join(f"{name}: {_numbers(matrix)}\n" for name, matrix in rows.items())


def trajectory(poses: list[Pose]) -> str:
    """KITTI's poses.txt: the camera of each moment in the frame of the first one's."""
    cameras = [pose.matrix @ np.linalg.inv(TO_CAMERA) for pose in poses]
    return "".join(f"{_numbers((np.linalg.inv(cameras[0]) @ camera)[:3])}\n" for camera in cameras)


def open_road(scene: Scene) -> Scene:
    """Without the people who stand on the road, where cars will drive."""
    place = scene.plan.straightened(scene.boxes[:, :3])
    away = (scene.box_semantic == Semantic.PERSON) & (np.abs(place[:, 1]) < scene.plan.half + 0.3)
    stays, left = ~np.isin(scene.instance, scene.box_instance[away]), ~away
    kept = {name: getattr(scene, name)[stays] for name in _OF_TRIANGLES}
    return replace(scene, **kept, **{name: getattr(scene, name)[left] for name in _OF_THINGS})


def moved(scene: Scene, metres: float) -> Scene:
    """The scene when every car that drives, the ego car too, has gone so far; headlights nearest to it come first."""
    plan, way = scene.plan, np.zeros(int(scene.instance.max()) + 1)
    way[scene.box_instance] = scene.box_way
    step = np.zeros(len(scene.vertices))
    step[scene.triangles] = way[scene.instance][:, None]
    going, vertices, boxes = step != 0, scene.vertices.copy(), scene.boxes.copy()
    vertices[going] = _along(plan, vertices[going], step[going] * metres)
    boxes[:, :3] = _along(plan, boxes[:, :3], scene.box_way * metres)
    boxes[:, 6] += plan.curvature * scene.box_way * metres
    lamps, beam = scene.headlights[:, :3], scene.headlights[:, :3] + scene.headlights[:, 3:]
    ahead = np.sign(plan.straightened(beam)[:, 0] - plan.straightened(lamps)[:, 0]) * metres
    start, end = _along(plan, lamps, ahead), _along(plan, beam, ahead)
    ego = np.r_[_along(plan, scene.ego[:3], np.array(metres))[0], scene.ego[3] + plan.curvature * metres]
    nearest = np.argsort(np.hypot(*(start - ego[:3])[:, :2].T), kind="stable")
    lights = np.c_[start, end - start][nearest].astype(np.float32)
    return replace(scene, vertices=vertices, boxes=boxes, headlights=lights, ego=ego.astype(np.float32))


_OF_TRIANGLES = "triangles uv colour emission semantic material instance facade reflectance".split()
_OF_THINGS = "boxes box_instance box_semantic box_way".split()


def _along(plan: Plan, points: Array, metres: Array) -> Array:
    straight = plan.straightened(points)
    straight[:, 0] += metres
    return plan.bent(straight)


@lru_cache(maxsize=1)
def _road(seed: int) -> Scene:
    """Once in each process."""
    return open_road(street(seed_of(seed, 0), around=True))


def _write_moment(order: Order, index: int) -> None:
    files, start = order.files(index), _road(order.seed)
    pose, scene = drive(start, index + 1, order.spacing, order.seed)[-1], moved(start, index * order.spacing)
    swept = Scanner(scene).sweep(pose, _grid(order.sensor), order.sensor.max_range)
    swept = sensed(swept, order.mode, noise_of(order.mode), np.random.default_rng((order.seed, 9, index)))
    camera = camera_at(pose, *order.size)
    write_text(files["calib"], calibration(camera))
    if order.view != NO_CAMERA:
        shot = photograph(replace(scene, seed=seed_of(order.seed, index + 1)), camera, order.view)  # its own grain
        to_camera = TO_CAMERA @ np.linalg.inv(pose.matrix)
        write_text(files["label_2"], "".join(kitti_lines(scene, shot, to_camera, intrinsics(camera))))
        write_image(files["semantic"], shot.semantic)
        write_image(files["image_2"], shot.rgb)
    write_boxes(*boxes_seen(scene, pose, swept), files["boxes"])
    write_sweep(swept, files["velodyne"], files["labels"])


def _grid(sensor: Sensor) -> Array:
    return directions(np.array(sensor.elevations), np.array(sensor.azimuths))


def _check_way(steps: int, spacing: float) -> None:
    if steps < 1 or not 0 < spacing or (steps - 1) * spacing > LONGEST:
        raise UserError(f"{steps} steps of {spacing:g} m: give at least one step, and at most {LONGEST:g} m in all")


def _check(order: Order) -> None:
    _check_way(order.steps, order.spacing)
    check_mode(order.mode)
    if order.view not in (*VIEWS, NO_CAMERA):
        known = f"{', '.join(VIEWS)}; {NO_CAMERA} is no camera"
        raise UserError(f"unknown view {order.view!r}; a camera photographs {known}")
    if not all(SIDES[0] <= side <= SIDES[1] for side in order.size):
        raise UserError(
            f"size {order.size[0]}x{order.size[1]}: width and height must be {SIDES[0]} to {SIDES[1]} pixels"
        )


def _announce(order: Order, poses: list[Pose]) -> None:
    path = order.out / "drive.json"
    wanted = {
        "seed": order.seed,
        "spacing": order.spacing,
        "view": order.view,
        "size": list(order.size),
        "lidar": described(order.sensor, order.mode),
    }
    begun = agreed(path, wanted, "a drive").get("steps")
    steps = max(order.steps, begun) if isinstance(begun, int) else order.steps
    write_json(path, {"kind": "drive", **wanted, "steps": steps})
    if steps == order.steps:
        write_text(order.out / "poses.txt", trajectory(poses))


def _numbers(matrix: Array) -> str:
    return " ".join(f"{value:.12e}" for value in np.asarray(matrix).ravel())
