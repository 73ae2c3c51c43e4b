#!/usr/bin/env bash
# Makes the environment and runs the tests.
#
#   bash launch/test.sh [arguments of pytest, --all for the slow tests too, --reverse]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
# A process a core. One that has nothing left to do takes half of what another one has.
exec python -m pytest --numprocesses=auto --dist=worksteal "$@"
