#!/bin/sh
# The environment in .venv, from nothing: Python 3.11 or newer, Debian's libraries where they are missing and may be
# installed, then the packages of pyproject.toml in the versions of constraints.txt.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*"; }

debian() {                                  # debian PACKAGE...: install, or say what to install
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "installing $*"
        apt-get install -y -qq "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$@" >/dev/null; }
    else
        say "missing: $*. Debian and Ubuntu: sudo apt-get install $*"
        return 1
    fi
}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "needs Python 3.11 or newer; found $("$PYTHON" --version 2>&1 || echo none). Name another: make PYTHON=python3.12 $*"
    exit 1
}
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv 2>/dev/null || {
    rm -rf .venv
    debian python3-venv && "$PYTHON" -m venv .venv
}
# Open3D links these; without them simulation and a few LiDAR formats do not work, all else does.
for pair in libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libX11.so.6:libx11-6 libgomp.so.1:libgomp1; do
    ldconfig -p 2>/dev/null | grep -q "${pair%%:*}" || debian "${pair#*:}" || say "going on without it"
done

say "installing packages (several GB the first time)"
.venv/bin/python -m pip install -q --disable-pip-version-check uv 2>/dev/null || say "no uv, using pip"
if ! .venv/bin/python -m uv pip install -q --python .venv/bin/python -c constraints.txt -e '.[test,export,video,shards,hf]'; then
    say "uv could not; trying pip"
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,export,video,shards,hf]'
fi
.venv/bin/mmcycle --version
touch .venv/.ready
