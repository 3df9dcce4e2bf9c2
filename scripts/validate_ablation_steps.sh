#!/bin/sh
# The same check as `make check-all`, for those who know it by this name.
# Arguments go to make: STEP=6 checks one step, PYTHON=… picks an environment.
cd "$(dirname "$0")/.." && exec make check-all "$@"
