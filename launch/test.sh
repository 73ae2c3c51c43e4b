#!/usr/bin/env bash
# Makes the environment and runs the tests.
#
#   bash launch/test.sh [arguments of pytest] [--all to include slow tests] [--reverse]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
echo "$XKD_FOUND"
# Each test process has one core, so more threads for linear algebra would only slow each other down.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Start one process per core. A process without work takes half of another one's remaining tests.
exec python -m pytest --numprocesses=auto --dist=worksteal "$@"
