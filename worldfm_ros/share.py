"""Where the package's launch, config and model files are: in a checkout, or installed."""

from __future__ import annotations

from pathlib import Path
import sys

PACKAGE = "worldfm_ros"
MODEL_MANIFEST = "model.json"  # what makes a folder a model
COMPOSER = "composer"  # of a model's parts the one that tells how far pictures can be trusted
NO_NETWORK = "anchors"  # the name of the model that is no folder


def share_directory() -> Path:
    """The folder of launch/, config/ and models/: the checkout that runs, else the ament index, else sys.prefix."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "package.xml").exists():
        return checkout
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return _installed()
    try:
        return Path(get_package_share_directory(PACKAGE))
    except (PackageNotFoundError, OSError):  # OSError: AMENT_PREFIX_PATH is not set
        return _installed()


def _installed() -> Path:
    share = Path(sys.prefix) / "share" / PACKAGE
    if not share.is_dir():
        raise FileNotFoundError(
            f"{PACKAGE}'s share folder is neither in the ament index nor at {share}; install the package again"
        )
    return share


def tells_confidence(name: str | Path) -> bool:
    """Whether a model tells how far its pictures can be trusted. Raises ValueError when there is no such model."""
    return name == NO_NETWORK or (find_model(name) / COMPOSER).is_dir()


def models_directory() -> Path:
    """Where the models are that come with the package."""
    return share_directory() / "models"


def installed_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(file.parent.name for file in models_directory().glob(f"*/{MODEL_MANIFEST}"))


def find_model(name: str | Path) -> Path:
    """The folder of an installed model, or `name` itself when it is one. Raises ValueError listing the models."""
    for path in (Path(name).expanduser(), models_directory() / name):
        if (path / MODEL_MANIFEST).is_file():
            return path
    models = ", ".join([f"{NO_NETWORK} (no network)", *installed_models()])
    raise ValueError(f"there is no model {str(name)!r}: "
                     f"it is neither a folder with {MODEL_MANIFEST} nor one of {models}")
