#!/usr/bin/env bash
# Runs tests with the oldest versions that setup.py allows (constraints-oldest.txt), in build/oldest; all else is .venv's.
# For Python 3.11, where all of them have wheels.   scripts/test_oldest.sh [pytest's arguments]
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly OLDEST=$PWD/build/oldest
readonly TESTS=(test/test_bag.py test/test_clip_sources.py test/test_fit.py test/test_geometry.py test/test_other_writers.py
    test/test_renderer.py test/test_rgbd_folder.py test/test_sources.py test/test_wild_bags.py test/test_world.py)

if [[ ! -e $OLDEST/.complete || constraints-oldest.txt -nt $OLDEST/.complete ]]; then
    .venv/bin/python -m venv --clear "$OLDEST"
    "$OLDEST/bin/pip" install --quiet --disable-pip-version-check --no-deps llvmlite==0.42.0 --requirement constraints-oldest.txt
    # behind its own packages come those of .venv
    .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$("$OLDEST/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_rest.pth"
    ln -sf "$PWD/.venv/bin/rosbag-doctor" "$OLDEST/bin/"
    touch "$OLDEST/.complete"
fi
NUMBA_CACHE_DIR=$OLDEST/numba exec "$OLDEST/bin/python" -m pytest -q -p no:cacheprovider "${TESTS[@]}" "$@"
