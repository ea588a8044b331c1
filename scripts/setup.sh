#!/usr/bin/env bash
# Everything a checkout needs: system packages (Debian), .venv, the release build with the Python
# module, and a working `lightning-core` in .venv. Only what is missing or changed is done.
#   PYTHON   the interpreter .venv is made with (python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv
log=$root/build/log
mkdir -p "$log"

# step TEXT NAME COMMAND...: one line on the terminal, the command's output in build/log/NAME.log.
step() {
  local text=$1 file=$log/$2.log
  shift 2
  echo "setup: $text"
  local rc=0
  "$@" >"$file" 2>&1 </dev/null || rc=$?
  if ((rc != 0)); then
    tail -n 60 "$file" >&2
    echo "setup: failed ($text); whole log: ${file#"$root"/}" >&2
    exit 1
  fi
}

# --- system packages
python=${PYTHON:-python3}
missing=()
need() { # PACKAGE TEST...
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
need g++ command -v g++
need git command -v git
need ccache command -v ccache
need clang-format-19 command -v clang-format-19
has_header() { [[ -e /usr/include/$1 || -e /usr/local/include/$1 ]]; }
need libhwy-dev has_header hwy/highway.h
need libgtest-dev has_header gtest/gtest.h
stamp=$(cat pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
venv_ready=0
if [[ -x $venv/bin/python && -f $venv/.stamp && $(<"$venv/.stamp") == "$stamp" ]]; then
  venv_ready=1
else
  need python3-venv "$python" -c 'import ensurepip, venv'
  need python3-dev "$python" -c 'import sysconfig, os, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
fi
if ((${#missing[@]})); then
  if ! command -v apt-get >/dev/null; then
    echo "setup: install these first (Debian's names): ${missing[*]}" >&2
    exit 1
  fi
  sudo=()
  if ((EUID != 0)); then sudo=(sudo); fi
  step "apt-get update" apt-update "${sudo[@]}" apt-get update
  step "apt-get install ${missing[*]}" apt-install "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"
fi

# --- .venv: what pyproject.toml names, for building and for every extra
requirements() { # torch's pin first, so that nothing else chooses its version
  "$venv/bin/python" - <<'PY'
try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as file:
    data = tomllib.load(file)
project = data["project"]
names = ["cmake", "ninja", *data["build-system"]["requires"], *project["dependencies"]]
for extra in project["optional-dependencies"].values():
    names += extra
for name in sorted(dict.fromkeys(names), key=lambda n: not n.startswith("torch==")):
    print(name)
PY
}
if ((!venv_ready)); then
  if [[ ! -x $venv/bin/python ]]; then
    step "making .venv" venv "$python" -m venv "$venv"
  fi
  names=$(requirements)
  mapfile -t packages <<<"$names"
  pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
  step "pip install ${packages[0]}" pip-torch "${pip[@]}" "${packages[0]}"
  step "pip install the other $((${#packages[@]} - 1)) packages" pip "${pip[@]}" "${packages[@]}"
  rm -f build/release/build.ninja # Python or nanobind may be another one now: configure again
fi

# --- the checkout importable in .venv, the command in .venv/bin
write_if_changed() { # FILE; the text comes on standard input
  local text
  text=$(cat)
  if [[ ! -f $1 || $(<"$1") != "$text" ]]; then printf '%s\n' "$text" >"$1"; fi
}
site=("$venv"/lib/python3*/site-packages)
write_if_changed "${site[0]}/lightning_core_checkout.pth" <<<"$root/python"
# A shell line that is also a Python string: the path may be longer than #! allows, or have spaces.
write_if_changed "$venv/bin/lightning-core" <<SH
#!/bin/sh
'''exec' "$venv/bin/python" "\$0" "\$@"
' '''
import sys

from lightning_core.cli import main

sys.exit(main())
SH
chmod +x "$venv/bin/lightning-core"
if ((!venv_ready)); then echo "$stamp" >"$venv/.stamp"; fi

# --- the release build
export PATH=$venv/bin:$PATH
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
cache=build/release/CMakeCache.txt
if [[ ! -f build/release/build.ninja ]] || ! grep -q '^LC_BUILD_PYTHON:BOOL=ON$' "$cache" ||
  ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache"; then
  step "configuring build/release" configure cmake --preset release --fresh \
    -DLC_BUILD_PYTHON=ON -DPython_EXECUTABLE="$venv/bin/python"
fi
step "building build/release (the first time takes minutes)" build cmake --build build/release
