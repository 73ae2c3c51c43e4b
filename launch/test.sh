#!/usr/bin/env bash
# Makes the environment and runs the tests.
#
#   bash launch/test.sh [arguments of pytest, --all for the slow tests too, --reverse]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
echo "$XKD_FOUND"
# Each process of the tests has a core to itself: more threads of linear algebra wait for one another.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# A process a core. One that has nothing left to do takes half of what another one has.
exec python -m pytest --numprocesses=auto --dist=worksteal "$@"
