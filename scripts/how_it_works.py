"""Makes docs/images/how_it_works.jpg: one view of a world, step by step. `python scripts/how_it_works.py WORLD`."""

import math
from pathlib import Path
import sys

import cv2
import numpy as np

from worldfm_ros.evaluation.montage import montage
from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.page.pictures import confidence_colours, depth_colours
from worldfm_ros.painting.blend import Blend
from worldfm_ros.world.reference import ReferenceChooser
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import read_world

PLACE, LOOKS_AT = [1.2, -0.6, 1.1], [3.2, -2.2, 0.9]  # in the demo apartment
OUT = Path(__file__).parents[1] / "docs" / "images" / "how_it_works.jpg"

world = read_world(sys.argv[1])
camera, pose = Intrinsics.from_hfov(320, 240, math.radians(70.0)), Pose.looking_at(PLACE, LOOKS_AT)
drawing = render(world.anchors.visible(pose, camera), pose, camera)
references = ReferenceChooser(world.anchors, world.keyframes).choose(pose, camera)
frame = load_generator(world, "worldfm-tiny").generate(pose, camera)
blend = Blend().paint(drawing, references, pose, camera)
first, second, third = (cv2.resize(reference.rgb, (320, 240), interpolation=cv2.INTER_AREA) for reference in references)
rows = [{"1 anchors, drawn from the pose": drawing.rgb, "2 first reference": first, "2 second reference": second,
         "2 third reference": third},
        {"a": blend, "b": frame.rgb, "c": confidence_colours(frame.confidence), "d": depth_colours(frame.depth)}]
titles = ("3 references warped and blended", "4 painted by worldfm-tiny", "confidence: dark = invented", "depth")
below = dict(zip(titles, rows[1].values(), strict=True))
sheet = np.concatenate([montage([rows[0]]), montage([below])])
cv2.imwrite(str(OUT), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
