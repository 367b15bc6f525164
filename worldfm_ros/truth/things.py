"""Things of the static world: what has one label and hangs together is one thing, and has an id from FIRST up.

Ids follow from the world alone: the same in every frame, process and run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World

FIRST = 1000  # of the ids; what moves has those of its file, which are lower unless it says otherwise
CELL = 0.08  # metres; parts that are nearer than about twice this are one thing
SMALL = 12  # cells; what is smaller is no thing but noise
STUFF = ("floor", "wall", "ceiling", "road", "pavement", "sidewalk", "ground", "grass", "sky", "building", "vegetation",
         "terrain", "pillar")  # labels that are no things: by the names' words


@dataclass(frozen=True, eq=False)
class Thing:
    """One thing: its id, its label, and its cells' centres (N, 3), metres, world."""

    id: int
    label: int
    name: str
    cells: np.ndarray


@dataclass(frozen=True, eq=False)
class Things:
    """All things of a world."""

    items: tuple[Thing, ...]
    world: World
    _alone: dict[int, AnchorMap] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World) -> Things:
        """Raises ValueError for a world without labels."""
        if not world.label_names:
            raise ValueError(f"the world {world.name} has no labels, so its things cannot be told apart; build it with "
                             "labels, or leave the things out")
        points = np.concatenate([np.empty((0, 3)), *(tile.world_points for tile in world.anchors.tiles)])
        labels = np.concatenate([np.empty(0, np.uint16), *(tile.labels for tile in world.anchors.tiles)])
        items = []
        for label, name in sorted(world.label_names.items()):
            if not is_stuff(name):
                for number, cells in enumerate(_parts(points[labels == label]), start=1):
                    items.append(Thing(FIRST + len(items), label, f"{name} {number}", cells))
        return cls(tuple(items), world)

    @property
    def names(self) -> dict[int, str]:
        return {item.id: item.name for item in self.items}

    def ids(self, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(H, W) uint16 of each pixel's thing, 0 = none; of world points (H, W, 3), NaN = none, and labels (H, W)."""
        ids = np.zeros(labels.shape, np.uint16)
        for label, (tree, owners) in self._trees.items():
            mask = (labels == label) & np.isfinite(points).all(axis=-1)
            distance, nearest = tree.query(points[mask], distance_upper_bound=2 * CELL)
            ids[mask] = np.where(np.isfinite(distance), np.append(owners, 0)[nearest], 0)
        return ids

    @cached_property
    def _trees(self) -> Mapping[int, tuple[cKDTree, np.ndarray]]:
        """By label, the cells of all its things, and whose they are."""
        trees = {}
        for label in sorted({item.label for item in self.items}):
            mine = [item for item in self.items if item.label == label]
            owners = np.repeat([item.id for item in mine], [len(item.cells) for item in mine])
            trees[label] = cKDTree(np.concatenate([item.cells for item in mine])), owners
        return trees

    def anchors(self, thing: Thing) -> AnchorMap:
        """The anchors of a thing alone; kept, since neighbouring frames show the same things."""
        if thing.id not in self._alone:
            self._alone[thing.id] = self._chosen(thing)
        return self._alone[thing.id]

    def _chosen(self, thing: Thing) -> AnchorMap:
        chosen = AnchorMap()
        tree, owners = self._trees[thing.label]
        low, high = thing.cells.min(0) - 2 * CELL, thing.cells.max(0) + 2 * CELL
        for tile in self.world.anchors.tiles:
            points = tile.world_points
            near = (tile.labels == thing.label) & ((points >= low) & (points <= high)).all(axis=1)
            if near.any():
                near[near] = owners[tree.query(points[near])[1]] == thing.id
                chosen.insert(points[near], tile.colors[near], tile.labels[near], tile.radius[near])
        return chosen


def is_stuff(name: str) -> bool:
    """Whether a label's name is of no thing but of what things stand on or before."""
    return bool(set(name.lower().replace("_", " ").split()) & set(STUFF))


def _parts(points: np.ndarray) -> list[np.ndarray]:
    """The cells (N, 3) of each part that hangs together, large ones first."""
    if not len(points):
        return []
    cells = np.unique(np.floor(points / CELL).astype(np.int64), axis=0)
    pairs = cKDTree(cells).query_pairs(np.sqrt(3) + 0.01, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(cells), len(cells)))
    _, owners = connected_components(graph, directed=False)
    sizes = np.bincount(owners)
    order = sorted(np.flatnonzero(sizes >= SMALL), key=lambda part: (-sizes[part], part))
    return [(cells[owners == part] + 0.5) * CELL for part in order]
