"""The house's one-way imports: geometry <- frame_model, world <- generator <- cli, nodes; ROS below nodes/ alone."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "worldfm_ros"
ROS = {
    "rclpy",
    "rcl_interfaces",
    "sensor_msgs",
    "geometry_msgs",
    "nav_msgs",
    "std_msgs",
    "tf2_msgs",
    "diagnostic_msgs",
    "builtin_interfaces",
    "rosgraph_msgs",
    "launch",
    "launch_ros",
}
# what a part may import of the package besides itself; a part not named here is on top and may import every part
ALLOWED = {
    "geometry": set(),
    "files": set(),
    "share": set(),
    "progress": set(),
    "rgbd_folder": {"geometry"},
    "bag": set(),
    "frame_model": {"geometry", "share"},
    "world": {"files", "geometry", "rgbd_folder"},
    "drive": {"geometry", "world"},
    "guide": {"geometry", "world"},
    "anchor_fill": {"geometry", "guide", "world"},
    "clips": {"rgbd_folder", "world"},
    "learned_painter": {"geometry", "guide", "share", "world", "frame_model"},
    "generator": {"geometry", "world", "anchor_fill", "learned_painter"},
    "scoring": {"geometry"},
    "consistency": {"geometry", "scoring", "world"},
    "degradation": {"geometry", "rgbd_folder", "world"},
    "montage": {"files"},
    "perceptual": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """(module, is at module level) of every import in a file, in source order."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            names = [
                node.module,
                *(f"{node.module}.{alias.name}" for alias in node.names if node.module == "worldfm_ros"),
            ]
        for name in names:
            yield name, node in tree.body


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    for name, at_top in imports(path):
        root, *rest = name.split(".")
        if root == "worldfm_ros" and rest and part(path) in ALLOWED:
            assert rest[0] in ALLOWED[part(path)] | {part(path)}, f"{path.name} must not import {name}"
        assert root != "training", f"{path.name} imports training, which is not installed"
        assert root not in ROS or part(path) == "nodes", f"{path.name} imports {name}; ROS is known below nodes/ alone"
        assert root != "torch" or part(path) not in ("geometry", "world"), f"{path.name} imports torch"
        assert root != "open3d" or not at_top, f"{path.name} imports open3d at module level; it is slow and optional"


def test_generator_runs_without_ros():
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(ROS)!r})); "
        "import worldfm_ros.generator, worldfm_ros.cli.main; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
