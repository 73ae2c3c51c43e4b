#!/usr/bin/env bash
# Trains on GPU nodes under Slurm with one task per GPU, and resumes by itself after time limits,
# preemptions and node failures.
#
#   bash launch/slurm.sh [--dry_run] [options of sbatch] -- --config=configs/k400.py --workdir=RUN [flags]
#
# For example:
#
#   bash launch/slurm.sh --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --time=24:00:00 --partition=gpu \
#       -- --config=configs/k400.py --config.data.path=DATA --workdir=RUN
#
# The environment and the workdir must lie on a file system that all nodes share. Five minutes before
# the time limit, or on preemption, the run saves and stops, and the job is requeued. If a task fails,
# the job is requeued up to XKD_RETRIES times (default 3). --dry_run only prints the commands.
set -euo pipefail

usage() { sed -n '2,15s/^# \{0,1\}//p' "$script"; }

# Slurm runs a copy of this file, so XKD_ROOT tells where the clone is.
root="${XKD_ROOT:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
script="$root/launch/slurm.sh"
cd "$root"

dry_run="${XKD_DRY_RUN:-}"
run() {
    if [[ "$dry_run" ]]; then
        printf '%q ' "$@" && echo
    else
        "$@"
    fi
}

submit() {
    local options=()
    while (($#)) && [[ "$1" != -- ]]; do
        case "$1" in
            -h | --help) usage && exit 0 ;;
            --dry_run) dry_run=1 ;;
            *) options+=("$1") ;;
        esac
        shift
    done
    if (($# < 2)); then
        echo "error: no flags for the program; write them after --, see --help" >&2
        exit 1
    fi
    shift
    local workdir=""
    for flag in "$@"; do [[ "$flag" == --workdir=* ]] && workdir="${flag#--workdir=}"; done
    if [[ ! "$workdir" ]]; then
        echo "error: --workdir=FOLDER is missing (write it with =)" >&2
        exit 1
    fi
    run mkdir -p "$workdir"
    run sbatch --job-name=xkd --requeue --open-mode=append --output="$workdir/slurm-%j.log" \
        --signal=B:TERM@300 --export=ALL,XKD_ROOT="$root" "${options[@]}" "$script" "$@"
}

job() {
    # shellcheck source=launch/environment.sh
    [[ "$dry_run" ]] || source launch/environment.sh
    local status=0 stopping="" step
    # Signal the tasks but not this shell, which must outlive them.
    trap 'stopping=1; run scancel --signal=TERM "$SLURM_JOB_ID"' TERM
    # If a task fails, srun ends the others, which would wait for it.
    run srun --kill-on-bad-exit=1 --label python -m xkd_jax.main "$@" &
    step=$!
    # A signal ends `wait` but not the tasks. Once they have ended, bash still knows the exit code.
    wait "$step" || true
    while kill -0 "$step" 2> /dev/null; do wait "$step" || true; done
    wait "$step" || status=$?
    local restarts="${SLURM_RESTART_COUNT:-0}" retries="${XKD_RETRIES:-3}"
    if [[ "$stopping" ]]; then
        echo "Stopped before the time limit or by preemption: requeued"
        run scontrol requeue "$SLURM_JOB_ID"
        status=0
    elif ((status == 3)); then
        echo "Nothing left to train"
        status=0
    elif ((status && restarts < retries)); then
        echo "A task failed with code $status: requeued ($((restarts + 1)) of $retries)"
        run scontrol requeue "$SLURM_JOB_ID"
    fi
    return "$status"
}

if [[ "${SLURM_JOB_ID:-}" && "${XKD_ROOT:-}" ]]; then
    job "$@"
else
    submit "$@"
fi
