#!/usr/bin/env bash
# Runs the program as N processes on this machine, which share its GPUs evenly.
#
#   bash launch/local_processes.sh N [--restarts=K] --config=configs/k400.py --workdir=RUN [flags]
#
# Process 0 writes to the terminal, the others to RUN/logs/process-I.log. If one ends with an error,
# the others are stopped, and all are started again, up to K times (0): they go on from the newest
# checkpoint. Ctrl-C, SIGTERM and SIGHUP reach all of them: they save and stop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

count="${1:-}"
case "$count" in
    -h | --help) usage && exit 0 ;;
    [1-9] | [1-9][0-9]) shift ;;
    *) echo "error: the first argument is '$count'; allowed: a number of processes, 1 to 99" >&2 && exit 1 ;;
esac

restarts=0
workdir=""
flags=()
for flag in "$@"; do
    case "$flag" in
        --restarts=*) restarts="${flag#--restarts=}" ;;
        --workdir=*) workdir="${flag#--workdir=}" && flags+=("$flag") ;;
        *) flags+=("$flag") ;;
    esac
done
[[ "$restarts" =~ ^[0-9]+$ ]] || { echo "error: --restarts=$restarts; allowed: a whole number" >&2 && exit 1; }
[[ "$workdir" ]] || { echo "error: --workdir=FOLDER is missing (write it with =)" >&2 && exit 1; }
source launch/environment.sh

mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null || true)
if ((${#gpus[@]} % count)); then
    echo "error: ${#gpus[@]} GPUs cannot be shared evenly by $count processes" >&2
    exit 1
fi
share=$((${#gpus[@]} / count))

pids=()
stopping=""
tell_all() {
    local pid
    for pid in "${pids[@]}"; do kill "-$1" "$pid" 2> /dev/null || true; done
}
trap 'stopping=1; tell_all TERM' TERM INT HUP

# A pipe whose other end nobody but this script holds: where it is killed, they notice, save and stop.
folder="$(mktemp -d)"
trap 'rm -r "$folder"' EXIT
mkfifo "$folder/alive"
exec {alive}<> "$folder/alive"

free_port() {
    python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# One go of all processes, until the last has ended; the exit code is that of the first that failed,
# or 0.
run_all() {
    local port index code status=0 patience=""
    port="$(free_port)"
    pids=()
    for ((index = 0; index < count; index++)); do
        local log=/dev/stdout
        ((index == 0)) || log="$workdir/logs/process-$index.log"
        (
            # A Ctrl-C reaches the whole group; that it is passed on once is this script's business.
            trap '' INT
            if ((share)); then
                CUDA_VISIBLE_DEVICES="$(IFS=,; echo "${gpus[*]:index * share:share}")"
                export CUDA_VISIBLE_DEVICES
            fi
            exec {alive}>&-
            export XKD_STARTED_BY_A_PROGRAM=1
            exec python -m xkd_jax.main "${flags[@]}" --coordinator="127.0.0.1:$port" \
                --processes="$count" --process="$index"
        ) < "$folder/alive" >> "$log" 2>&1 &
        pids+=($!)
    done
    # Not wait, which a signal cuts short.
    while ((${#pids[@]})); do
        sleep 0.2
        for index in "${!pids[@]}"; do
            kill -0 "${pids[index]}" 2> /dev/null && continue
            code=0
            wait "${pids[index]}" || code=$?
            unset "pids[index]"
            ((code && !status)) || continue
            status=$code
            [[ "$stopping" ]] && continue
            tell_all TERM
            patience=$((SECONDS + 5))
        done
        if [[ "$patience" ]] && ((SECONDS > patience)); then tell_all KILL; fi
    done
    return "$status"
}

mkdir -p "$workdir/logs"
for ((attempt = 0; ; attempt++)); do
    status=0
    run_all || status=$?
    # 3: nothing left to train, which no restart would change.
    if ((status == 0 || status == 3 || attempt >= restarts)) || [[ "$stopping" ]]; then
        exit "$status"
    fi
    echo "a process ended with code $status: starting all again ($((attempt + 1)) of $restarts)" >&2
done
