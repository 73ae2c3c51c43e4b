#!/usr/bin/env bash
# Installs the environment, pretrains a toy model, and shows pictures and a table of what it has
# learned, in some minutes on two CPU cores.
#
#   bash launch/demo.sh [flags of xkd_jax.main, such as --config.steps=800 --workdir=runs/long]
#
# The same command again resumes where the run stopped and reuses the environment and the data. Flags
# that name other data (--config.data.NAME=VALUE) replace the generated data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
echo "$XKD_FOUND"

workdir=runs/demo
data_flags=() seed=()
for flag in "$@"; do
    case "$flag" in
        --config.data.split=*) ;;
        --config.data.*=*) data_flags+=("$flag") ;;
        --config.data.*) echo "error: write $flag=VALUE, with =" >&2 && exit 1 ;;
        --config.seed=*) seed=("$flag") ;; # of the untrained networks too
        --workdir=*) workdir="${flag#--workdir=}" ;;
        --workdir) echo "error: write --workdir=FOLDER, with =" >&2 && exit 1 ;;
        --help | -h) exec python -m xkd_jax.main --help ;;
    esac
done

data=(--config.data.dataset=generated --config.data.path=data/shapes
    --config.data.generated.train=1024 --config.data.generated.val=256
    --config.data.generated.test=256 "${data_flags[@]}")
if ((${#data_flags[@]} == 0)); then
    # Preparing pays off for any data that are read often: decoding videos costs more than these
    # networks.
    python -m input_pipeline.datasets.generated --output=data/shapes \
        --train=1024 --val=256 --test=256
    python -m input_pipeline.prepare --dataset=generated --source=data/shapes \
        --output=data/shapes_prepared --short_side=64
    data=(--config.data.dataset=prepared --config.data.path=data/shapes_prepared)
fi

stopped=0 status=0
trap 'stopped=1' INT # the run saves and ends by itself; this script then skips the comparison
python -m xkd_jax.main --config=configs/demo.py --workdir="$workdir" "${data[@]}" "$@" || status=$?
# 3: the run was complete already; its results are still worth showing.
((status == 0 || status == 3)) || exit "$status"
((stopped)) && exit 130
trap - INT

cat <<EOF
In $workdir:
  images/          reconstructions: original, masked, reconstructed
  metrics.jsonl    every loss term and monitor, one JSON object per line
  tensorboard/     the same for TensorBoard: tensorboard --logdir $workdir
  checkpoints/     the same command resumes from these
  compare/         the table that follows, in half a minute, as results.json and compare.png

To see the run on one page, and what its losses mean: python -m xkd_jax.report --workdir=$workdir

What the networks have learned, compared with untrained ones (compared with autoencoders: docs/demo.md):
EOF
python -m xkd_jax.main --config=configs/eval/compare.py --config.checkpoint="$workdir" \
    --workdir="$workdir/compare" "${data[@]}" "${seed[@]}" \
    --config.clips.train.count=3 --config.clips.test.count=3
