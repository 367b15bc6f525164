"""Formats of detection and segmentation, all written by datumaro: COCO, KITTI, YOLO, VOC and what else it knows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from worldfm_ros.export.samples import Sample, Samples

FORMATS = {"coco": "coco_instances", "panoptic": "coco_panoptic", "kitti": "kitti_detection",
           "yolo": "yolo_ultralytics", "voc": "voc_detection"}
OF_PIXELS = ("voc_segmentation", "cityscapes", "coco_panoptic", "kitti_segmentation", "camvid")  # classes by pixel
CORE = np.ones((3, 3), np.uint8)  # what is thinner everywhere has no outline as a polygon


def datumaro():
    """The library. Raises ImportError."""
    try:
        import datumaro
    except ImportError:
        raise ImportError("this format is written by datumaro, which is not installed: pip install datumaro (in an "
                          "environment of its own, if its pins are in your way)") from None
    return datumaro


def export_annotated(samples: Samples, splits: dict[str, str], kind: str, out: Path) -> dict[str, int]:
    """Write the data set; the number of annotations by class. Raises ImportError, ValueError for samples without truth
    and for a format that datumaro does not know."""
    dm = datumaro()
    kind = FORMATS.get(kind, kind)
    known = sorted(dm.components.environment.Environment().exporters)
    if kind not in known:
        raise ValueError(f"datumaro has no format {kind!r}; it has {', '.join(known)}")
    if not samples.labels:
        raise ValueError(f"the format {kind} is of labels, and the source has none: its world was built without; use a "
                         "world with labels, or tum or nerfstudio")
    names = [samples.labels[number] for number in sorted(samples.labels)]
    classes = {number: place for place, number in enumerate(sorted(samples.labels))}
    counts = dict.fromkeys(names, 0)

    def items() -> Iterator:
        for sample in samples:
            annotations = _of_pixels(dm, sample, classes) if kind in OF_PIXELS else _of_things(dm, sample, classes)
            if not kind.startswith("coco"):  # the others cannot say that one is to be ignored
                annotations = [each for each in annotations if not each.attributes["is_crowd"]]
            for annotation in annotations:
                counts[names[annotation.label]] += annotation.type == dm.AnnotationType.mask
            yield dm.DatasetItem(id=sample.name, subset=splits[sample.name], annotations=annotations,
                                 media=dm.Image.from_numpy(data=partial(_bgr, samples, sample.name), ext=".png"))

    dataset = dm.Dataset.from_iterable(list(items()), categories=names)
    dataset.export(str(out), kind, save_media=True, image_ext=".png")
    if kind == "kitti_detection":  # which has no list of classes, and splits that lack different ones cannot be merged
        dm.util.meta_file_util.save_meta_file(str(out), dataset.categories())
    return counts


def _bgr(samples: Samples, name: str) -> np.ndarray:
    """A picture when it is needed: not all lie in memory."""
    return np.ascontiguousarray(samples.rgb(name)[..., ::-1])


def _kept(mask: np.ndarray):
    """A mask that takes a bit a pixel until it is needed."""
    packed, shape = np.packbits(mask), mask.shape
    return lambda: np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def _of_things(dm, sample: Sample, classes: dict[int, int]) -> list:
    """A mask and a box of each instance, without what is invented; one that is more than half invented is a crowd,
    which is how COCO says that it is to be ignored, and stays whole."""
    if sample.instances is None or sample.labels is None:
        raise ValueError("this format is of instances, and the source has none: render with --truth things (what "
                         "stands in the world), or with --objects (what moves)")
    found, known = [], {box["id"]: box for box in sample.boxes or ()}
    for number, ident in enumerate(np.unique(sample.instances[sample.instances > 0]), start=1):
        mask = sample.instances == ident
        seen = mask & ~sample.invented
        ignore = bool(2 * seen.sum() < mask.sum())
        shown = mask if ignore else seen
        if not cv2.erode(shown.astype(np.uint8), CORE, borderValue=0).any():
            continue
        label = classes[int(np.bincount(sample.labels[mask]).argmax())]
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        box = known.get(int(ident), {})
        facts = {"is_crowd": ignore, "occluded": box.get("occlusion", 0) > 0.5,
                 "truncated": box.get("truncation", 0) > 0.1, "occlusion": box.get("occlusion", 0.0),
                 "instance": int(ident)}
        found.append(dm.Mask(_kept(shown), label=label, group=number, attributes=facts))
        found.append(dm.Bbox(int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1),
                             int(rows[-1] - rows[0] + 1), label=label, group=number, attributes=facts))
    return found


def _of_pixels(dm, sample: Sample, classes: dict[int, int]) -> list:
    """A mask of each class, without what is invented."""
    if sample.labels is None:
        raise ValueError("this format is of labels, and the source has none: its world was built without")
    shown = np.where(sample.invented, 0, sample.labels)
    return [dm.Mask(_kept(shown == label), label=classes[int(label)], group=number,
                    attributes={"is_crowd": False})
            for number, label in enumerate(np.unique(shown[shown > 0]), start=1)]
