#!/usr/bin/env bash
# The main job on both bundled models, from the float weights to checked .nb files in output/demo/<model>/.
# Exit code 1: a bound of a recipe was missed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${VENV:-.venv}/bin/python" -m slim.demo "$@"
