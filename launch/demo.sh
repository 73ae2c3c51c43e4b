#!/usr/bin/env bash
# From nothing to a pretrained toy model with pictures, in some minutes on two CPU cores.
#
#   bash launch/demo.sh [flags of xkd_jax.main, such as --config.steps=800 --workdir=runs/long]
#
# Run again, it goes on where it stopped and reuses the environment and the data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

workdir=runs/demo
for flag in "$@"; do
    case "$flag" in
        --workdir=*) workdir="${flag#--workdir=}" ;;
        --workdir) echo "error: write --workdir=FOLDER, with =" >&2 && exit 1 ;;
        --help | -h) exec python -m xkd_jax.main --help ;;
    esac
done

status=0
python -m xkd_jax.main --config=configs/demo.py --workdir="$workdir" "$@" || status=$?
# 3: the run had reached its end before; what it left is what one came for.
((status == 0 || status == 3)) || exit "$status"

cat <<EOF
In $workdir:
  images/          reconstructions: original, masked, reconstructed
  metrics.jsonl    every loss term and monitor, a JSON object a line
  tensorboard/     the same: tensorboard --logdir $workdir
  checkpoints/     what the same command goes on from
EOF
