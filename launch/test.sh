#!/usr/bin/env bash
# Makes the environment and runs the tests.
#
#   bash launch/test.sh [arguments of pytest, or --all for the slow tests too]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
# A process a core, each with whole files, so that what a file's tests share is made once.
exec python -m pytest --numprocesses=auto --dist=loadfile "$@"
