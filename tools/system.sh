#!/bin/sh
# Install what the project needs from the distribution (Debian, Ubuntu), if something is missing: QGIS with its Python
# bindings, a virtual screen, Python's venv, and Qt's translation compiler.
set -eu

missing=""
command -v qgis_process >/dev/null 2>&1 || [ -x /usr/bin/qgis_process.bin ] || missing="$missing qgis qgis-providers"
/usr/bin/python3 -c "import qgis.core" >/dev/null 2>&1 || missing="$missing python3-qgis"
/usr/bin/python3 -c "import venv, ensurepip" >/dev/null 2>&1 || missing="$missing python3-venv"
command -v xvfb-run >/dev/null 2>&1 || missing="$missing xvfb xauth"
command -v git >/dev/null 2>&1 || missing="$missing git"
command -v lrelease >/dev/null 2>&1 || [ -x /usr/lib/qt5/bin/lrelease ] || missing="$missing qttools5-dev-tools"
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Please install with this system's package manager:$missing" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "Please install as root: apt-get install$missing" >&2; exit 1; }
    as_root="sudo"
fi
echo "Installing from the distribution:$missing"
$as_root apt-get update -q </dev/null
# shellcheck disable=SC2086 # the list is meant to fall apart into words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing </dev/null
