"""A world at a glance: from above, what its keyframes show of it, where they are, and where it is worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np

from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render
from worldfm_ros.world.storage import World

MAP = 420  # pixels, a side of the two maps
VIEW = (160, 120)  # pixels, width and height of a view
WORST = 4  # views
TITLE = 20  # pixels
BACKGROUND, INK, POSE = (24, 24, 28), (235, 235, 235), (255, 64, 160)
ABOVE = 0.4  # metres over the cameras, from where ceilings are left out


@dataclass(frozen=True, eq=False)
class Plan:
    """A map from above: x to the right, y up. One pixel is `size` metres; corner: x and y of the lower left."""

    corner: np.ndarray
    size: float

    @classmethod
    def over(cls, points: np.ndarray, spacing: float) -> Plan:
        """Of all but the outermost points (N, 2 or more); a pixel is not smaller than the points' spacing."""
        low, high = np.percentile(points[:, :2], [0.5, 99.5], axis=0)
        size = max(float((high - low).max()) * 1.1 / MAP, spacing, 1e-6)
        return cls((low + high) / 2 - size * MAP / 2, size)

    def pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of points (N, 2 or more); outside they are outside of the picture."""
        column, row = np.floor((points[:, :2] - self.corner) / self.size).astype(int).T
        return MAP - 1 - row, column

    def highest(self, points: np.ndarray, values: np.ndarray, background: Sequence[int]) -> np.ndarray:
        """(MAP, MAP, 3) uint8: at each place the value of the highest point."""
        picture = np.full((MAP, MAP, 3), background, np.uint8)
        row, column = self.pixels(points)
        inside = (row >= 0) & (row < MAP) & (column >= 0) & (column < MAP)
        order = np.argsort(points[inside, 2], kind="stable")
        picture[row[inside][order], column[inside][order]] = values[inside][order]
        return picture


def preview(world: World) -> np.ndarray:
    """(H, W, 3) uint8: two maps, and under them the worst keyframes beside what is drawn there."""
    points, colors = (np.concatenate([getattr(tile, name) for tile in world.anchors.tiles])
                      for name in ("world_points", "colors"))
    eyes = np.array([k.T_world_camera.translation for k in world.keyframes]).reshape(-1, 3)
    below = points[:, 2] <= (np.median(eyes[:, 2]) + ABOVE if len(eyes) else np.inf)
    if below.mean() < 0.1:
        below[:] = True
    plan = Plan.over(points[below], world.spacing)
    top = with_poses(plan.highest(points[below], colors[below], BACKGROUND), plan, world.keyframes)
    seen = shown(points[below], world.keyframes)
    shade = cv2.applyColorMap(np.uint8(255 * np.minimum(seen, 6) / 6)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    count = f"{len(world.anchors)} anchors, {len(world.keyframes)} keyframes; {1000 * plan.size:.0f} mm a pixel"
    coverage = titled(plan.highest(points[below], shade, BACKGROUND),
                      f"shown by 0 (dark) to 6 keyframes, {np.mean(seen == 0):.0%} by none")
    maps = np.hstack([titled(top, count), coverage])
    rows = [maps]
    if world.keyframes:
        rows.append(worst_views(world, maps.shape[1]))
    return np.vstack(rows)


def with_poses(picture: np.ndarray, plan: Plan, keyframes: Sequence[Keyframe]) -> np.ndarray:
    """With each keyframe's place and the way it looks."""
    for keyframe in keyframes:
        eye = keyframe.T_world_camera.translation
        ahead = eye + keyframe.T_world_camera.rotation.as_matrix()[:, 2] * 12 * plan.size
        rows, columns = plan.pixels(np.stack([eye, ahead]))
        start, end = ((int(c), int(r)) for c, r in zip(columns, rows, strict=True))
        cv2.line(picture, start, end, POSE, 1, cv2.LINE_AA)
        cv2.circle(picture, start, 2, POSE, -1, cv2.LINE_AA)
    return picture


def shown(points: np.ndarray, keyframes: Sequence[Keyframe]) -> np.ndarray:
    """(N,) how many keyframes show each world point, as their own depth says."""
    count = np.zeros(len(points), int)
    for keyframe in keyframes:
        pixels, z, inside = keyframe.lookup(points)
        u, v = np.rint(pixels[inside]).astype(int).T
        height, width = keyframe.depth.shape
        depth = keyframe.depth[v.clip(0, height - 1), u.clip(0, width - 1)]
        count[np.flatnonzero(inside)[np.abs(depth - z[inside]) < 0.03 * z[inside] + 0.01]] += 1
    return count


def worst_views(world: World, width: int) -> np.ndarray:
    """The keyframes that the anchors show worst: the photographs over the drawings."""
    drawn = [(keyframe, drawing(world.anchors, keyframe)) for keyframe in world.keyframes]
    scores = [likeness(keyframe, view) for keyframe, view in drawn]
    cells = []
    for k in np.argsort(scores)[:min(WORST, width // VIEW[0])]:
        keyframe, view = drawn[k]
        small = [cv2.resize(picture, VIEW, interpolation=cv2.INTER_AREA) for picture in (keyframe.rgb, view.rgb)]
        title = f"#{keyframe.id}: {scores[k]:.1f} dB, {np.mean(view.coverage):.0%}"
        cells.append(titled(np.vstack(small), title))
    row = np.hstack(cells)
    return cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=BACKGROUND)


def drawing(anchors: AnchorMap, keyframe: Keyframe) -> AnchorView:
    """The anchors as the keyframe's camera sees them, at half its size or less."""
    scale = min(1.0, 320 / keyframe.intrinsics.width)
    size = (max(1, round(keyframe.intrinsics.width * scale)), max(1, round(keyframe.intrinsics.height * scale)))
    camera = keyframe.intrinsics.resized(*size)
    return render(anchors.visible(keyframe.T_world_camera, camera), keyframe.T_world_camera, camera)


def likeness(keyframe: Keyframe, view: AnchorView) -> float:
    """dB between the photograph and the drawing, uncovered pixels being black."""
    photograph = cv2.resize(keyframe.rgb, view.depth.shape[::-1], interpolation=cv2.INTER_AREA)
    error = np.mean(np.square(photograph.astype(np.float32) - view.rgb))
    return 10.0 * math.log10(255.0**2 / max(float(error), 1e-3))


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((TITLE, picture.shape[1], 3), BACKGROUND, np.uint8)
    cv2.putText(strip, text, (4, TITLE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return np.vstack([strip, picture])
