#!/usr/bin/env bash
# From nothing to a pretrained toy model with pictures and a table of what it has learned, in some
# minutes on two CPU cores.
#
#   bash launch/demo.sh [flags of xkd_jax.main, such as --config.steps=800 --workdir=runs/long]
#
# Run again, it goes on where it stopped and reuses the environment and the data. With flags that name
# other data (--config.data.NAME=VALUE), it takes those.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
echo "$XKD_FOUND"

workdir=runs/demo
given=()
for flag in "$@"; do
    case "$flag" in
        --config.data.split=*) ;;
        --config.data.*=*) given+=("$flag") ;;
        --config.data.*) echo "error: write $flag=VALUE, with =" >&2 && exit 1 ;;
        --workdir=*) workdir="${flag#--workdir=}" ;;
        --workdir) echo "error: write --workdir=FOLDER, with =" >&2 && exit 1 ;;
        --help | -h) exec python -m xkd_jax.main --help ;;
    esac
done

data=(--config.data.dataset=generated --config.data.path=data/shapes
    --config.data.generated.train=1024 --config.data.generated.test=256 "${given[@]}")
if ((${#given[@]} == 0)); then
    # As for any data set that is trained on for long: decoding videos costs more than these networks.
    python -m input_pipeline.datasets.generated --output=data/shapes --train=1024 --test=256
    python -m input_pipeline.prepare --dataset=generated --source=data/shapes \
        --output=data/shapes_prepared --short_side=64
    data=(--config.data.dataset=prepared --config.data.path=data/shapes_prepared)
fi

stopped=0 status=0
trap 'stopped=1' INT # the run saves and ends well; what follows it is not wanted then
python -m xkd_jax.main --config=configs/demo.py --workdir="$workdir" "${data[@]}" "$@" || status=$?
# 3: the run had reached its end before; what it left is what one came for.
((status == 0 || status == 3)) || exit "$status"
((stopped)) && exit 130
trap - INT

cat <<EOF
In $workdir:
  images/          reconstructions: original, masked, reconstructed
  metrics.jsonl    every loss term and monitor, a JSON object a line
  tensorboard/     the same: tensorboard --logdir $workdir
  checkpoints/     what the same command goes on from
  compare/         the table that follows in half a minute, as results.json and compare.png

To look inside, in one page: python -m xkd_jax.report --workdir=$workdir

What it has learned, beside the same networks untrained:
EOF
python -m xkd_jax.main --config=configs/eval/compare.py --config.checkpoint="$workdir" \
    --workdir="$workdir/compare" "${data[@]}" \
    --config.clips.train.count=3 --config.clips.test.count=3
