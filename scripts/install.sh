#!/usr/bin/env bash
# Makes the virtual environment $VENV (default .venv) with the locked packages and this project in editable
# mode. Run again it finds out in a second that there is nothing to do; a broken, moved or half-made
# environment is repaired. Exit codes: 0 done, 3 something has to be installed on the machine first.
set -euo pipefail
cd "$(dirname "$0")/.."

checkout=$(pwd -P)
VENV=${VENV:-.venv}
lock=requirements/lock.txt
# Settings that would send packages elsewhere than into the environment, or put others before them.
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_HASHES PIP_PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf 'install: %s\n' "$*" >&2; }

# Two installs at once (two terminals, make -j) wait for each other.
exec 9<scripts/install.sh
if command -v flock >/dev/null 2>&1 && ! flock --nonblock 9; then
    say "another install in this folder is under way, waiting for it"
    flock 9
fi

wanted_stamp() {
    { printf '%s\n' "$checkout" "$(realpath -m "$VENV")"; cat "$lock" pyproject.toml setup.py scripts/install.sh; } |
        sha256sum | cut -d' ' -f1
}

runs_here() { # the environment's interpreter runs, is 3.10, has pip, and was made in this very folder
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c '
import os, re, sys
home = os.path.realpath(sys.argv[1])
text = open(os.path.join(home, "bin", "activate"), encoding="utf-8").read()
made = re.search(r"VIRTUAL_ENV=([\"\x27]?)(/.+)\1", text)
same = os.path.realpath(sys.prefix) == home and made and os.path.realpath(made[2]) == home
raise SystemExit(not (same and sys.version_info[:2] == (3, 10)))' "$VENV" >/dev/null 2>&1 </dev/null &&
        "$VENV/bin/python" -m pip --version >/dev/null 2>&1 </dev/null
}

verify() { "$VENV/bin/python" scripts/verify_env.py "$lock" "$checkout" </dev/null; }

fill() {
    local pip=("$VENV/bin/python" -m pip)
    # Twice quiet: errors only. The build backend's own warnings (beta tables) tell a user nothing.
    "${pip[@]}" install -qq --require-hashes -r "$lock" </dev/null &&
        PYTHONWARNINGS=ignore "${pip[@]}" install -qq --no-build-isolation --no-deps --no-index -e . </dev/null
}

stamp="$VENV/.installed"
wanted=$(wanted_stamp)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$VENV/bin/python" ] && verify >/dev/null 2>&1; then
    exit 0
fi

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    say "this machine is $(uname -s) $(uname -m); paddlelite 2.13rc0 exists for Linux x86_64 only"
    exit 3
fi
python=$(scripts/find-python.sh)
"$python" scripts/system_libraries.py

rm -f "$stamp"
fresh=
if ! runs_here; then
    if [ -e "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
        say "$VENV exists and is no virtual environment; remove it or name another with VENV=folder"
        exit 2
    fi
    say "making $VENV with $python"
    "$python" -m venv --clear "$VENV"
    fresh=yes
fi
say "installing the locked packages (1.3 GB on disk; a minute or two)"
if [ -n "$fresh" ]; then
    fill
    verify >&2
elif ! fill || ! problems=$(verify 2>&1); then
    say "rebuilding $VENV: $(printf '%s\n' "${problems:-pip could not repair it}" | tail -n 1)"
    "$python" -m venv --clear "$VENV"
    fill
    verify >&2
fi
printf '%s\n' "$wanted" >"$stamp"
say "done: $VENV/bin/slim"
