#!/usr/bin/env bash
# Trains on a Cloud TPU slice: creates it, installs this clone on all workers, runs the program there
# and shows the log of worker 0. If the slice is preempted, it resumes on another one.
#
#   bash launch/tpu_pod.sh --name=NAME --zone=ZONE --type=v5litepod-256 [options] \
#       -- --config=configs/k400.py --config.data.path=/mnt/data/k400 --workdir=/mnt/runs/k400 [flags]
#
#   --name=NAME          name of the slice; an existing slice of this name is reused
#   --zone=ZONE          zone, such as us-central1-a
#   --type=TYPE          accelerator type, such as v5litepod-256 or v4-128
#   --project=PROJECT    Google Cloud project; gcloud's default project by default
#   --version=VERSION    version of the TPU software (default v2-alpha-tpuv5-lite)
#   --setup=COMMAND      command to run first on every worker, e.g. to mount a bucket on /mnt
#   --spot               use a preemptible slice, at a lower price
#   --delete             delete the slice when the run has ended; without --, delete it now
#   --dry_run            print every command and run none
#
# Needs gcloud, logged in. Data and workdir are folders that all workers share. Ctrl-C ends the log
# but not the run; the same command shows the log again. Every command is safe to repeat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $1" >&2 && exit 1; }
usage() { sed -n '2,21s/^# \{0,1\}//p' launch/tpu_pod.sh; }

name="" zone="" type="" project="" version="v2-alpha-tpuv5-lite" setup="" spot="" delete="" dry_run=""
while (($#)) && [[ "$1" != -- ]]; do
    case "$1" in
        --name=*) name="${1#*=}" ;;
        --zone=*) zone="${1#*=}" ;;
        --type=*) type="${1#*=}" ;;
        --project=*) project="${1#*=}" ;;
        --version=*) version="${1#*=}" ;;
        --setup=*) setup="${1#*=}" ;;
        --spot) spot=1 ;;
        --delete) delete=1 ;;
        --dry_run) dry_run=1 ;;
        -h | --help) usage && exit 0 ;;
        *) fail "$1 is not an option; see --help (flags for the program go after --)" ;;
    esac
    shift
done
(($#)) && shift
[[ "$name" ]] || fail "--name=NAME is missing"
[[ "$zone" ]] || fail "--zone=ZONE is missing"
(($#)) || [[ "$delete" ]] || fail "no flags for the program; write them after --, see --help"
where=(--zone="$zone" --quiet)
[[ ! "$project" ]] || where+=(--project="$project")
[[ "$dry_run" ]] || command -v gcloud > /dev/null || fail "gcloud is not installed"

run() {
    if [[ "$dry_run" ]]; then
        printf '%q ' "$@" && echo
    else
        "$@"
    fi
}
tpus() { run gcloud compute tpus "$@" "${where[@]}"; }
on() { # worker (a number, or all), command
    tpus tpu-vm ssh "$name" --worker="$1" --command="$2"
}

# Prints the state of the slice: ACTIVE, WAITING_FOR_RESOURCES, ..., or nothing if there is none.
state() {
    gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format="value(state.state)" \
        2> /dev/null || true
}

create() {
    [[ "$type" ]] || fail "--type=TYPE is missing, and there is no slice named $name yet"
    tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
        --runtime-version="$version" ${spot:+--spot}
}

discard() { tpus queued-resources delete "$name" --force; }

# Waits until the slice is active. Replaces it if it has failed or is suspended.
acquire() {
    if [[ "$dry_run" ]]; then
        create
        return
    fi
    local now before=""
    while true; do
        now="$(state)"
        [[ "$now" == "$before" ]] || echo "$name: ${now:-does not exist}"
        before="$now"
        case "$now" in
            ACTIVE) return ;;
            "") create ;;
            FAILED | SUSPENDED) discard ;;
        esac
        sleep 20
    done
}

# Copies the committed state of the clone to all workers and makes its environment there.
install() {
    local archive
    archive="$(mktemp -d)/xkd_jax.tar.gz"
    run git archive --format=tar.gz --output="$archive" HEAD
    tpus tpu-vm scp "$archive" "$name:xkd_jax.tar.gz" --worker=all
    [[ ! "$setup" ]] || on all "$setup"
    on all 'mkdir -p xkd_jax && tar -xzf xkd_jax.tar.gz -C xkd_jax && cd xkd_jax &&
        export XKD_ACCELERATOR=tpu && source launch/environment.sh'
    rm -rf "$(dirname "$archive")"
}

# Starts the program on all workers, unless it is running, in a way that outlives this shell.
start() {
    local flags
    flags="$(printf '%q ' "$@")"
    on all "cd xkd_jax && if [ -e run.pid ] && kill -0 \$(cat run.pid) 2> /dev/null; then exit 0; fi &&
        rm -f run.status && export XKD_ACCELERATOR=tpu && source launch/environment.sh &&
        (nohup sh -c 'python -m xkd_jax.main $flags; echo \$? > run.status' > run.log 2>&1 &
        echo \$! > run.pid)"
}

# Shows the log of worker 0 until the program ends. Returns its exit code, or 255 if the worker is gone.
follow() {
    # shellcheck disable=SC2016
    on 0 'cd xkd_jax && tail --pid=$(cat run.pid) -n +1 -f run.log; exit $(cat run.status)'
}

if ((!$#)); then
    discard
    exit
fi
while true; do
    acquire
    status=0
    install && start "$@" && follow || status=$?
    # Stop if the program itself has ended, with or without an error; continue if the slice is gone.
    if [[ "$dry_run" ]]; then break; fi
    if ((status != 255)) && [[ "$(state)" == ACTIVE ]]; then break; fi
    echo "$name is gone, perhaps preempted: resuming from the newest checkpoint on another slice"
done
[[ ! "$delete" ]] || discard
exit "$status"
