"""The package's metadata and what it installs. Pinned versions: constraints.txt; the oldest: constraints-oldest.txt."""

from pathlib import Path
import xml.etree.ElementTree as ElementTree

from setuptools import find_packages, setup

NAME = "worldfm_ros"
ROOT = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


def shared_files() -> list[tuple[str, list[str]]]:
    """Everything that the ament index must find below share/, with its folder structure kept."""
    share = Path("share", NAME)
    installed = {
        "share/ament_index/resource_index/packages": [f"resource/{NAME}"],
        str(share): ["package.xml"],
    }
    for folder in ("launch", "config", "models"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                source = path.relative_to(ROOT)
                installed.setdefault(str(share / source.parent), []).append(str(source))
    return sorted(installed.items())


setup(
    name=NAME,
    version=MANIFEST.findtext("version"),
    description=" ".join(MANIFEST.findtext("description").split()),
    maintainer=MANIFEST.findtext("maintainer"),
    maintainer_email=MANIFEST.find("maintainer").get("email"),
    license=MANIFEST.findtext("license"),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={f"{NAME}.page": ["static/*"]},
    data_files=shared_files(),
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "diffusers",
        "matplotlib>=3.6.3",
        "numba>=0.59",
        "numpy>=1.26.4",
        "open3d",
        "opencv-python-headless>=4.6",
        "pillow>=10.2",
        "plyfile>=0.8",
        "pyyaml>=6.0.1",
        "rich>=13.7.1",
        "rosbags",
        "safetensors",
        "scikit-image>=0.22",
        "scipy>=1.11.4",
        "setuptools",
        "torch>=2.9",
        "tyro",
    ],
    extras_require={
        "perceptual": ["torch-fidelity", "torchmetrics>=1.9", "torchvision"],
        "export": ["datumaro"],
        "lerobot": ["lerobot>=0.4"],
        "ray": ["ray"],
        "spz": ["gsply", "zstandard"],
        "training": ["accelerate", "tensorboard", "webdataset"],
        "test": [
            *("gsply", "hypothesis", "mcap", "mcap-ros2-support", "pytest", "pytest-timeout", "pytest-xdist"),
            *("rosbag-doctor", "zstandard"),
        ],
        "dev": ["catkin_pkg", "colcon-common-extensions", "ruff", "wheel"],
    },
    entry_points={
        "console_scripts": [
            "worldfm = worldfm_ros.cli.main:main",
            "frame_camera = worldfm_ros.nodes.frame_camera:main",
            "camera_rig = worldfm_ros.nodes.camera_rig:main",
            "demo_robot = worldfm_ros.nodes.demo_robot:main",
            "bag_recorder = worldfm_ros.nodes.bag_recorder:main",
            "viewer = worldfm_ros.nodes.viewer:main",
        ],
    },
)
