#!/usr/bin/env bash
# Runs the program as N processes on this machine and divides its GPUs evenly among them.
#
#   bash launch/local_processes.sh N [--restarts=K] --config=configs/k400.py --workdir=RUN [flags]
#
# Process 0 writes to the terminal, the others to RUN/logs/process-I.log. If a process fails, the
# others are stopped and all are restarted from the newest checkpoint, up to K times (default 0).
# Ctrl-C, SIGTERM and SIGHUP are passed to all processes, which save and stop.
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

# Only this script holds the other end of this pipe. If the script is killed, the processes notice,
# save and stop.
folder="$(mktemp -d)"
trap 'rm -r "$folder"' EXIT
mkfifo "$folder/alive"
exec {alive}<> "$folder/alive"

free_port() {
    python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts all processes and waits until the last has ended. Returns the exit code of the first one that
# failed, or 0.
run_all() {
    local port index code status=0 patience=""
    port="$(free_port)"
    pids=()
    for ((index = 0; index < count; index++)); do
        local log=/dev/stdout
        ((index == 0)) || log="$workdir/logs/process-$index.log"
        (
            # Ctrl-C reaches the whole process group, but this script alone passes it on, once.
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
    # Poll, because a signal would interrupt `wait`.
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
    # 3: nothing is left to train, so a restart would not help.
    if ((status == 0 || status == 3 || attempt >= restarts)) || [[ "$stopping" ]]; then
        exit "$status"
    fi
    echo "a process ended with code $status: restarting all ($((attempt + 1)) of $restarts)" >&2
done
