#!/usr/bin/env bash
# Rewrites the exact locks from pyproject.toml: requirements.txt, which demo.sh and test.sh install
# for CPUs; requirements-cuda.txt and requirements-tpu.txt, the same with JAX for NVIDIA GPUs and for
# TPUs; and requirements-beam.txt, the same with Apache Beam and the older versions that it asks for.
# Needs uv (pip install uv). One version a package for every Python we support, so that what is
# tested on one is what runs on the other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock() { # file, arguments
    local file="$1"
    shift
    uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
        --fork-strategy fewest --index-strategy unsafe-best-match --no-emit-index-url \
        --no-emit-find-links --no-annotate --custom-compile-command "bash launch/lock.sh" \
        --output-file "$file" --quiet "$@"
}

lock requirements.txt "$@"
# What is there already is kept as far as it can be.
for accelerator in cuda tpu; do
    cp requirements.txt "requirements-$accelerator.txt"
    lock "requirements-$accelerator.txt" --extra "$accelerator" "$@"
done
cp requirements.txt requirements-beam.txt
lock requirements-beam.txt --extra prepare "$@"
