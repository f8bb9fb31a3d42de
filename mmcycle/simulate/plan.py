"""The plan of a street: how wide, how bent, what stands beside it; and the ground it is laid on."""

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.simulate.mesh import Look, Material, Mesh, Semantic, floor, wall

START, END, SIDE = -45.0, 190.0, 62.0  # metres; where the street, and its side streets, are closed
BACK = -140.0  # where it is closed behind the ego car, when somebody looks there


@dataclass(frozen=True)
class Plan:
    """Widths in metres; pairs are (right, left); cross: x of the crossing street, or -1000; gap: half its width."""

    kind: str
    lanes: int  # per direction
    lane: float
    parking: tuple[bool, bool]
    pavement: tuple[float, float]
    garden: float  # between pavement and houses
    trees: tuple[bool, bool]
    park: int  # side with a park instead of houses, or 0
    cross: float
    gap: float
    zebra: float  # x of the middle of a zebra crossing, or -1000
    ego_lane: int  # counted from the middle when there are two
    curvature: float  # 1 / metres, left is positive
    hill: float  # metres
    phase: float
    start: float = START
    end: float = END

    @classmethod
    def draw(cls, rng: Generator) -> "Plan":
        """City streets with shops, residential ones with gardens, wide boulevards with trees."""
        kind = str(rng.choice(["city", "residential", "boulevard"], p=[0.42, 0.36, 0.22]))
        wide = kind == "boulevard"
        cross = float(rng.uniform(28, 70)) if rng.random() < 0.55 else -1000.0
        gap = float(rng.uniform(4, 6))
        zebra = (
            cross - gap - 3.5 if cross > 0 and rng.random() < 0.8 else float(rng.choice([-1000, rng.uniform(12, 40)]))
        )
        parking = tuple(bool(v) for v in rng.random(2) < (0.8 if not wide else 0.4))
        pavement = tuple(float(v) for v in rng.uniform(2.0, 3.6, 2) + (1.8 if wide else 0.0))
        trees = tuple(bool(v) for v in rng.random(2) < {"city": 0.3, "residential": 0.5, "boulevard": 0.95}[kind])
        park = int(rng.choice([-1, 1])) if kind != "city" and rng.random() < 0.4 else 0
        return cls(
            kind=kind,
            park=park,
            lanes=2 if wide else 1,
            lane=float(rng.uniform(2.8, 3.5)),
            parking=parking,
            pavement=pavement,
            garden=float(rng.uniform(3, 6)) if kind == "residential" else 0.0,
            trees=trees,
            cross=cross,
            gap=gap,
            zebra=zebra,
            ego_lane=int(rng.integers(2)) if wide else 0,
            curvature=float(rng.uniform(-1, 1) / 420 + 1e-6),
            hill=float(rng.uniform(-1.2, 1.2)),
            phase=float(rng.uniform(0, 6.28)),
        )

    @property
    def half(self) -> float:
        """Half the width of the lanes together."""
        return self.lanes * self.lane

    def kerb(self, side: int) -> float:
        """Distance of the kerb from the middle line; side is -1 (right) or 1 (left)."""
        return self.half + (2.1 if self.parking[side > 0] else 0.25)

    def front(self, side: int) -> float:
        """Distance at which the pavement ends."""
        return self.kerb(side) + self.pavement[side > 0]

    def crossed(self, x: float, margin: float) -> bool:
        """Whether something of this half-length would stand in the crossing street."""
        return abs(x - self.cross) < self.gap + margin

    def stretches(self, margin: float) -> list[tuple[float, float]]:
        """Intervals of x on which something runs along the street, leaving the crossing free."""
        if self.cross < 0:
            return [(self.start, self.end)]
        return [(self.start, self.cross - self.gap - margin), (self.cross + self.gap + margin, self.end)]

    def behind(self) -> "Plan":
        """The same street, from where it ends behind the ego car, backwards; nothing crosses it there."""
        return replace(self, start=BACK, end=START, cross=-1000.0, zebra=-1000.0)

    def bent(self, points: Array) -> Array:
        """Straight street (N, 3) -> the street along its arc, over its hill."""
        x, y, z = np.asarray(points, np.float64).reshape(-1, 3).T
        angle = self.curvature * x
        along, left = np.sin(angle) / self.curvature, (1 - np.cos(angle)) / self.curvature
        rise = self.hill * (np.sin(x / 55 + self.phase) - np.sin(self.phase))
        return np.stack([along - y * np.sin(angle), left + y * np.cos(angle), z + rise], 1)

    def straightened(self, points: Array) -> Array:
        """The inverse of `bent`."""
        along, left, z = np.asarray(points, np.float64).reshape(-1, 3).T
        way = np.sign(self.curvature)
        x = np.arctan2(way * along, way * (1 / self.curvature - left)) / self.curvature
        y = 1 / self.curvature - way * np.hypot(along, 1 / self.curvature - left)
        return np.stack([x, y, z - self.hill * (np.sin(x / 55 + self.phase) - np.sin(self.phase))], 1)

    def heading(self, x: float) -> tuple[float, float]:
        """Yaw and pitch of the road at x, radians; pitch is positive uphill."""
        return self.curvature * x, float(np.arctan(self.hill / 55 * np.cos(x / 55 + self.phase)))


def lay_ground(mesh: Mesh, plan: Plan) -> None:
    """Road, side road, parking bays, kerbs, pavements, gardens."""
    asphalt = Look(Semantic.ROAD, Material.ASPHALT, (0.105, 0.105, 0.11), reflectance=0.2)
    plain = Look(Semantic.ROAD, Material.JUNCTION, (0.10, 0.10, 0.105), reflectance=0.2)
    kerb = Look(Semantic.SIDEWALK, Material.PLAIN, (0.36, 0.35, 0.33))
    paving = Look(Semantic.SIDEWALK, Material.PAVING, (0.30, 0.285, 0.265))
    lawn = Look(Semantic.TERRAIN, Material.GRASS, (0.075, 0.12, 0.03))
    mesh.add(floor(_steps(plan.start, plan.end), np.linspace(-plan.half, plan.half, 5), 0.0), asphalt)
    for side in (-1, 1):
        edge, front = plan.kerb(side), plan.front(side)
        mesh.add(floor(_steps(plan.start, plan.end), _sorted(side, plan.half, edge), 0.0), plain)
        if plan.cross > 0:
            mesh.add(
                floor(_steps(plan.cross - plan.gap, plan.cross + plan.gap), _sorted(side, edge, SIDE, 8), 0.0), plain
            )
        for start, end in plan.stretches(0.0):
            x = _steps(start, end)
            mesh.add(wall((start, side * edge), (end, side * edge), 0.0, 0.13), kerb)
            mesh.add(floor(x, _sorted(side, edge, edge + 0.18), 0.13), kerb)
            mesh.add(floor(x, _sorted(side, edge + 0.18, front), 0.13), paving)
            mesh.add(
                floor(x, _sorted(side, front, SIDE, 5), 0.12), lawn if plan.garden or plan.park == side else paving
            )
            for rim in (start, end):
                if abs(rim - plan.cross) < plan.gap + 1:
                    mesh.add(wall((rim, side * edge), (rim, side * SIDE), 0.0, 0.13), kerb)


def _steps(start: float, end: float) -> Array:
    return np.linspace(start, end, max(2, int((end - start) / 4) + 1))


def _sorted(side: int, near: float, far: float, count: int = 2) -> Array:
    return np.sort(side * np.linspace(near, far, count))
