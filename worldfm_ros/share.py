"""Where the package's launch, config and model files are: in a checkout, or installed."""

from __future__ import annotations

from pathlib import Path
import sys

PACKAGE = "worldfm_ros"


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
