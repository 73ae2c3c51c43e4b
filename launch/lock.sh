#!/usr/bin/env bash
# Rewrites requirements.txt, the exact lock that demo.sh and test.sh install, from pyproject.toml.
# Needs uv (pip install uv). One version a package for every Python we support, so that what is
# tested on one is what runs on the other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
    --index-strategy unsafe-best-match --no-emit-index-url --no-emit-find-links --no-annotate \
    --custom-compile-command "bash launch/lock.sh" --output-file requirements.txt --quiet "$@"
