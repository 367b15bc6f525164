"""The house's one-way imports: nothing imports a higher floor, nothing imports itself in a circle; ROS below nodes/."""

import ast
from graphlib import CycleError, TopologicalSorter
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
    "std_srvs",
    "tf2_msgs",
    "diagnostic_msgs",
    "builtin_interfaces",
    "rosgraph_msgs",
    "launch",
    "launch_ros",
}
# from the ground up: a part may import the parts of lower floors; those of one floor do not know each other
FLOORS = (
    ("geometry", "files", "kernel_cache", "progress", "share", "threads"),
    ("clips", "ending", "sensor", "tf"),
    ("bags",),
    ("sources", "scenes", "frame_model"),
    ("depth",),
    ("world",),
    ("drive", "layout", "objects", "painting"),
    ("generator", "truth"),
    ("growth",),
    ("evaluation", "occupancy", "offline", "page", "report", "trajectories"),
    ("nodes",),
    ("bench", "replay"),
    ("export",),
    ("cli",),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """(module, is at module level) of every import in a file, in source order."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if module_path(name) else node.module, node in tree.body


def module_path(name):
    """The file of one of our modules, None for what is not ours or no module."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    for name, at_top in imports(path):
        root, *rest = name.split(".")
        if root == "worldfm_ros" and rest and rest[0] != part(path):
            assert FLOOR[rest[0]] < FLOOR[part(path)], f"{path.name} must not import {name}"
        assert root != "training", f"{path.name} imports training, which is not installed"
        assert root not in ROS or part(path) == "nodes", f"{path.name} imports {name}; ROS is known below nodes/ alone"
        assert root != "torch" or part(path) not in ("geometry", "world"), f"{path.name} imports torch"
        assert root != "open3d" or not at_top, f"{path.name} imports open3d at module level; it is slow and optional"


def test_no_modules_import_each_other():
    """Nor in functions or for types alone: a circle is one module in two files."""
    files = [*MODULES, *(ROOT / "training").rglob("*.py")]
    graph = {path: {module_path(name) for name, _ in imports(path)} - {None, path} for path in files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


def test_generator_runs_without_ros():
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(ROS)!r})); "
        "import worldfm_ros.generator, worldfm_ros.cli.main; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
