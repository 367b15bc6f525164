"""Runs at the start of every Python of .venv: the ament index also covers what is installed in it."""

import os
import sys

_prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
if sys.prefix not in _prefixes:
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([*_prefixes, sys.prefix])
