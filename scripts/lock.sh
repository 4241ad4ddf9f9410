#!/usr/bin/env bash
# Resolves pyproject.toml (all extras and the build backend) into requirements/lock.txt: exact versions, the
# hashes of every file of each, no index address. Versions already locked stay; `make lock ARGS=--upgrade`
# or `ARGS='--upgrade-package click'` moves them.
set -euo pipefail
cd "$(dirname "$0")/.."

PIP_TOOLS=7.6.2
python=$(scripts/find-python.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
# The machine's own pip settings (mirrors, local folders of wheels) must not reach the lock.
export PIP_CONFIG_FILE=/dev/null
export PYTHONWARNINGS=ignore
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL PIP_CONSTRAINT
"$work/venv/bin/python" -m pip install --quiet "pip-tools==$PIP_TOOLS"
CUSTOM_COMPILE_COMMAND="make lock" "$work/venv/bin/python" -m piptools compile \
    --quiet --generate-hashes --allow-unsafe --strip-extras --all-extras --all-build-deps \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
    --output-file requirements/lock.txt "$@" pyproject.toml
if grep -nE '^ *(--(extra-)?index-url|-i |--find-links|-f )|file://|https?://' requirements/lock.txt; then
    echo "lock.sh: the lock names an index or a file of this machine (lines above)" >&2
    exit 1
fi
grep -cE '^[a-z0-9].*==' requirements/lock.txt | sed 's/$/ packages locked in requirements\/lock.txt/'
