"""The package as others get it: manifest, wheel and colcon workspace, and the script that makes the environment."""

from __future__ import annotations

from configparser import ConfigParser
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXECUTABLES = {"worldfm", "frame_camera", "camera_rig", "demo_robot", "bag_recorder", "viewer"}
ROSDEP_KEY_OF = {"opencv-python-headless": "opencv", "pyyaml": "yaml", "scikit-image": "skimage", "pillow": "pil"}
WITHOUT_ROSDEP_KEY = {
    *("diffusers", "open3d", "plyfile", "rosbags", "safetensors", "setuptools", "torch", "tyro"),
    *("gsply", "mcap", "mcap-ros2-support", "pytest-xdist", "rosbag-doctor", "zstandard"),
}


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command and returns it with its output as text, whatever its exit code."""
    command = [str(part) for part in command]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=240)


def shared_files() -> set[str]:
    """What must be found below share/worldfm_ros, as paths relative to it."""
    files = (path for name in ("launch", "config", "models") for path in (ROOT / name).rglob("*") if path.is_file())
    return {"package.xml"} | {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


# ---------------------------------------------------------------------------------------------------- the manifest


@pytest.mark.parametrize("manifest", ["package.xml", "interfaces/tf2_msgs/package.xml"])
def test_the_manifest_is_valid(manifest):
    package = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    parsed = package.parse_package_string((ROOT / manifest).read_text(), filename=manifest, warnings=warnings)
    parsed.validate(warnings)  # raises for what colcon would refuse, an e-mail that is none among it
    assert warnings == []
    assert parsed.package_format == 3


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that `pip install .` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    unrelated = shutil.ignore_patterns(".*", "build", "install", "log", "runs", "data", "*.egg-info")
    source = shutil.copytree(ROOT, folder / "source", ignore=unrelated)
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    built = run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=folder)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    """A file of the wheel's dist-info."""
    return wheel.read(next(path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))).decode()


def requirements(wheel: zipfile.ZipFile, extra: str | None = None) -> set[str]:
    """The distributions that the wheel needs, or that one of its extras adds."""
    lines = re.findall(r"^Requires-Dist: ([\w.-]+)([^\n]*)$", metadata(wheel, "METADATA"), flags=re.MULTILINE)
    return {name.lower() for name, rest in lines if re.findall(r"extra == .(\w+)", rest) == ([extra] if extra else [])}


def test_the_wheel_holds_the_package_and_its_shared_files_and_nothing_else(wheel):
    names = {path for path in wheel.namelist() if not path.endswith("/")}
    assert {path.split("/")[0].split("-")[0] for path in names} == {"worldfm_ros"}
    shared = {path.split("/share/worldfm_ros/")[1] for path in names if "/share/worldfm_ros/" in path}
    assert shared == shared_files()
    assert any(path.endswith(".data/data/share/ament_index/resource_index/packages/worldfm_ros") for path in names)
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "worldfm_ros").rglob("*.py")}
    assert sources <= names and "worldfm_ros/page/static/page.html" in names


def test_the_wheel_and_the_manifest_say_the_same(wheel):
    package = pytest.importorskip("catkin_pkg.package").parse_package(str(ROOT / "package.xml"))
    text = metadata(wheel, "METADATA")
    assert f"\nVersion: {package.version}\n" in text
    assert f"\nMaintainer-email: {package.maintainers[0].email}\n" in text

    def rosdep_keys(names: set[str]) -> set[str]:
        return {f"python3-{ROSDEP_KEY_OF.get(name, name)}" for name in names - WITHOUT_ROSDEP_KEY}

    def python_depends(depends) -> set[str]:
        return {depend.name for depend in depends if depend.name.startswith("python3-")}

    assert python_depends(package.exec_depends) == rosdep_keys(requirements(wheel))
    assert python_depends(package.test_depends) == rosdep_keys(requirements(wheel, "test"))


def test_pixi_installs_the_ros_packages_of_the_manifest():
    tomllib = pytest.importorskip("tomllib")
    wanted = ElementTree.parse(ROOT / "package.xml").getroot().iterfind("exec_depend")
    names = {f"ros-jazzy-{each.text.replace('_', '-')}" for each in wanted if not each.text.startswith("python3-")}
    dependencies = tomllib.loads((ROOT / "pixi.toml").read_text())["dependencies"].keys()
    assert dependencies - names == {"python", "ros-jazzy-ros2cli-common-extensions"} and not names - dependencies


def test_every_requirement_is_pinned(wheel):
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    assert requirements(wheel) | requirements(wheel, "test") | requirements(wheel, "training") <= pinned


def test_the_executables_are_where_pip_and_ros_look_for_them(wheel):
    entry_points = ConfigParser(delimiters="=")
    entry_points.read_string(metadata(wheel, "entry_points.txt"))
    assert set(entry_points["console_scripts"]) == EXECUTABLES
    for target in entry_points["console_scripts"].values():
        module = target.split(":")[0].replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & set(wheel.namelist()), f"{target} has no module"


# -------------------------------------------------------------------------------------------------- the workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A colcon workspace in which this checkout is built."""
    if not shutil.which("colcon", path=str(Path(sys.executable).parent)) and not shutil.which("colcon"):
        pytest.skip("colcon is not installed")
    folder = tmp_path_factory.mktemp("workspace")
    built = colcon(folder, "build")
    assert built.returncode == 0, built.stdout + built.stderr
    assert "1 package finished" in built.stdout
    return folder


def colcon(workspace: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess:
    bases = ("--base-paths", ROOT, "--build-base", workspace / "build", "--install-base", workspace / "install")
    return run(sys.executable, "-m", "colcon", "--log-base", workspace / "log", verb, *bases, *arguments, cwd=workspace)


def test_colcon_installs_what_ros_looks_for(workspace):
    prefix = workspace / "install" / "worldfm_ros"
    share = prefix / "share" / "worldfm_ros"
    assert {path.name for path in (prefix / "lib" / "worldfm_ros").iterdir()} == EXECUTABLES
    assert (share / "hook/ament_prefix_path.sh").is_file(), "colcon did not take it for a ROS package"
    assert shared_files() <= {str(path.relative_to(share)) for path in share.rglob("*")}


def test_the_sourced_workspace_is_found_by_the_ament_index_and_runs(workspace):
    pytest.importorskip("rclpy")
    lookup = (
        "import worldfm_ros, ament_index_python.packages as index;"
        "print(index.get_package_share_directory('worldfm_ros')); print(worldfm_ros.__file__)"
    )
    camera = "install/worldfm_ros/lib/worldfm_ros/frame_camera --ros-args -p world:=/does/not/exist"
    script = f". install/setup.bash && {sys.executable} -c \"{lookup}\" && exec {camera}"
    started = run("bash", "-c", script, cwd=workspace)
    share, module, *_ = started.stdout.splitlines()
    prefix = workspace / "install" / "worldfm_ros"
    assert Path(share) == prefix / "share/worldfm_ros"
    assert (Path(share) / "launch/sim.launch.py").is_file()
    assert prefix in Path(module).parents
    assert started.returncode == 2, started.stderr
    assert "/does/not/exist" in started.stderr


def test_colcon_runs_the_tests(workspace):
    # Without the `test` extra in setup.py colcon would run unittest, find nothing, and be content.
    chosen = ("test/test_packaging.py", "-k", "test_the_manifest_is_valid")
    tested = colcon(workspace, "test", "--return-code-on-test-failure", "--pytest-args", *chosen)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    log = ("--log-base", workspace / "log")
    results = ("test-result", "--all", "--test-result-base", workspace / "build")
    summary = run(sys.executable, "-m", "colcon", *log, *results, cwd=workspace)
    assert re.search(r"pytest\.xml: [1-9]\d* tests?, 0 errors, 0 failures", summary.stdout), summary.stdout


# ------------------------------------------------------------------------------------------- the environment script


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What scripts/setup.sh needs of a checkout, with no .venv."""
    for name in ("constraints.txt", "requirements-ros.txt", "setup.py", "package.xml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("scripts", "interfaces"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def call_setup(checkout: Path, call: str, **environment: str) -> str:
    """What a function of scripts/setup.sh prints, with `python` and `ros` set as its main part does."""
    script = f". scripts/setup.sh; python=$(find_python); ros=$(find_ros); mkdir -p $VENV; {call}"
    called = run("bash", "-c", script, cwd=checkout, PYTHON=sys.executable, **environment)
    assert called.returncode == 0, called.stderr
    return called.stdout.strip()


def test_a_second_setup_does_nothing_until_its_inputs_change(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.complete").write_text(call_setup(checkout, "fingerprint") + "\n")
    before = sorted(checkout.rglob("*"))
    again = run("bash", checkout / "scripts/setup.sh", PYTHON=sys.executable)
    assert (again.returncode, again.stdout) == (0, "setup: .venv is up to date\n")
    assert sorted(checkout.rglob("*")) == before

    complete = call_setup(checkout, "fingerprint")
    (checkout / "interfaces/tf2_msgs/msg/TFMessage.msg").write_text("# changed\n")
    assert call_setup(checkout, "fingerprint") != complete


def test_setup_names_the_pythons_that_it_can_use(checkout):
    old = checkout / "python3.9"
    old.write_text("#!/bin/sh\n[ $1 = -V ] && echo Python 3.9.2\nexit 1\n")
    old.chmod(0o755)
    refused = run("bash", checkout / "scripts/setup.sh", PYTHON=str(old))
    assert refused.returncode == 1
    assert re.search(r"no Python from 3.10 to 3.12 .*3\.9\.2.* PYTHON=/path/to/python3.11 make setup", refused.stderr)
    assert not (checkout / ".venv").exists()


def test_a_sourced_ros_keeps_its_own_packages(checkout):
    ros = checkout / "ros" / "site-packages"
    for name, version in {"rclpy": "7.1.0", "numpy": "1.26.4", "scipy": "1.11.4"}.items():
        (ros / name).mkdir(parents=True)
        (ros / name / "__init__.py").touch()
        (ros / f"{name}-{version}.dist-info").mkdir()
        (ros / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    sourced = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(checkout / "ros"), "PYTHONPATH": str(ros)}
    assert call_setup(checkout, "echo $ros", **sourced) == "jazzy"
    constraints = Path(call_setup(checkout, "choose_constraints", **sourced)).read_text().splitlines()
    assert "numpy>=1,<2" in constraints
    assert not [line for line in constraints if line.startswith(("numpy==", "scipy==", "opencv"))]
    assert "rosbags==0.11.9" in constraints
    assert call_setup(checkout, "echo $ros; choose_constraints", ROS_DISTRO="") == str(checkout / "constraints.txt")
