#!/usr/bin/env bash
# Rewrites the lock files from pyproject.toml: requirements.txt, which demo.sh and test.sh install on
# CPUs; requirements-cuda.txt and requirements-tpu.txt, the same with JAX for NVIDIA GPUs and for
# TPUs; requirements-beam.txt, the same with Apache Beam and the older packages that it needs;
# requirements-trackers.txt, the same with Weights & Biases and MLflow; requirements-torch.txt, PyTorch
# and transformers without JAX; and requirements-mteb.txt, the same with MTEB.
# Needs uv (pip install uv). Each package has one version for all supported versions of Python, so
# that a test on one of them holds for the others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() { # file, arguments
    local file="$1"
    shift
    uv pip compile --universal --python-version 3.11 \
        --fork-strategy fewest --index-strategy unsafe-best-match --no-emit-index-url \
        --no-emit-find-links --no-annotate --custom-compile-command "bash launch/lock.sh" \
        --output-file "$file" --quiet "$@"
}

lock() { # file, arguments
    local file="$1"
    shift
    compile "$file" pyproject.toml --extra dev "$@"
}

lock requirements.txt "$@"
# Starting from the lock for CPUs keeps as many of its versions as possible.
for accelerator in cuda tpu; do
    cp requirements.txt "requirements-$accelerator.txt"
    lock "requirements-$accelerator.txt" --extra "$accelerator" "$@"
done
cp requirements.txt requirements-beam.txt
lock requirements-beam.txt --extra prepare "$@"
cp requirements.txt requirements-trackers.txt
lock requirements-trackers.txt --group trackers "$@"
previous=requirements.txt
for group in torch mteb; do
    cp "$previous" "requirements-$group.txt"
    compile "requirements-$group.txt" --group "$group" "$@"
    # PyTorch's builds for CPUs need none of these, and the others name their exact versions themselves.
    sed -i -E '/^(nvidia-|cuda-|triton)/d' "requirements-$group.txt"
    previous="requirements-$group.txt"
done
