#!/usr/bin/env bash
# Prints the path of a Python 3.10 that RUNS and can make virtual environments; else says in one line what
# was found and what to install, and exits 3. A version manager's shim may exist and not run, so every
# candidate is tried. PYTHON=/path/to/python3.10 names one, and then no other is looked for.
set -uo pipefail

probe='
import sys
if sys.version_info[:2] != (3, 10):
    raise SystemExit("is Python %d.%d" % sys.version_info[:2])
if sys.maxsize < 2**32:
    raise SystemExit("is a 32-bit build")
missing = []
for name in ("venv", "ensurepip", "ssl", "zlib", "ctypes", "sqlite3"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if missing:
    raise SystemExit("lacks the module%s %s" % ("s"[: len(missing) > 1], ", ".join(missing)))
print(sys.executable)
'

candidates() {
    local name root
    type -ap python3.10 python3 python 2>/dev/null
    for root in "$(pyenv root 2>/dev/null)" "${PYENV_ROOT:-}" "${HOME:-/root}/.pyenv"; do
        [ -n "$root" ] && printf '%s\n' "$root"/versions/3.10*/bin/python3.10
    done
    printf '%s\n' /usr/bin/python3.10 /usr/local/bin/python3.10 /opt/python*/bin/python3.10 /opt/python/*/bin/python3.10
    for name in "${HOME:-/root}"/.local/share/uv/python/cpython-3.10* "${UV_PYTHON_INSTALL_DIR:-/nonexistent}"/cpython-3.10* \
        "${HOME:-/root}"/.asdf/installs/python/3.10* "${HOME:-/root}"/.local/share/mise/installs/python/3.10* \
        "${HOME:-/root}"/{miniconda3,anaconda3,miniforge3}{,/envs/*}; do
        printf '%s\n' "$name/bin/python3.10"
    done
    command -v uv >/dev/null 2>&1 && uv python find --no-python-downloads 3.10 2>/dev/null
    return 0
}

if [ -n "${PYTHON:-}" ]; then
    list=$(type -P "$PYTHON" || printf '%s' "$PYTHON")
else
    list=$(candidates | awk '!seen[$0]++')
fi

tried=""
while IFS= read -r candidate; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    if answer=$(env -u PYTHONHOME -u PYTHONPATH "$candidate" -c "$probe" 2>&1 </dev/null); then
        printf '%s\n' "$answer" | tail -n 1
        exit 0
    fi
    reason=$(printf '%s\n' "$answer" | head -n 1)
    tried="$tried${tried:+; }$candidate: ${reason:-does not run}"
done <<<"$list"

if grep -qs '^ID=debian' /etc/os-release && grep -qs '^VERSION_ID="1[2-9]"' /etc/os-release; then
    how="Debian $(. /etc/os-release && printf '%s' "$VERSION_ID") has no package of it: pyenv install 3.10, or uv python install 3.10"
else
    how="apt-get install python3.10 python3.10-venv, or pyenv install 3.10, or uv python install 3.10"
fi
if [ -n "${PYTHON:-}" ]; then tried=${tried:-$PYTHON: no such program}; fi
printf 'install: no Python 3.10 that runs (found: %s); %s; or name one with PYTHON=/path/to/python3.10\n' \
    "${tried:-no Python at all}" "$how" >&2
exit 3
