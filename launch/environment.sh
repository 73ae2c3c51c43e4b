# shellcheck shell=bash
# Makes the Python environment of the other scripts and puts it first on the PATH. Source this file.
#
# XKD_ACCELERATOR: cuda13, tpu or cpu, the accelerator for JAX; by default the one that is found.
# XKD_VENV: folder of the environment; .venv by default.
# XKD_LOCK: lock file to install; by default the one for the accelerator.
# PYTHON: interpreter that makes the environment; python3 by default.
# An existing environment is reused, and updated if the lock has changed.

# Prints the name of the accelerator on this machine and a description of it.
xkd_accelerator() {
    local gpus
    if gpus="$(nvidia-smi --list-gpus 2>/dev/null)" && [[ "$gpus" == GPU* ]]; then
        echo "cuda13 $(grep -c ^GPU <<<"$gpus") NVIDIA GPU(s)"
    elif compgen -G "/dev/accel*" >/dev/null || [[ "${TPU_ACCELERATOR_TYPE:-}" ]]; then
        echo "tpu TPU"
    else
        echo "cpu no accelerator"
    fi
}

xkd_environment() {
    local venv="${XKD_VENV:-.venv}" python="${PYTHON:-python3}" wanted lock found accelerator
    found="$(xkd_accelerator)"
    accelerator="${XKD_ACCELERATOR:-${found%% *}}"
    case "$accelerator" in
        cuda13) lock=requirements-cuda.txt ;;
        tpu) lock=requirements-tpu.txt ;;
        cpu) lock=requirements.txt ;;
        *)
            echo "error: XKD_ACCELERATOR=$accelerator; allowed: cuda13, tpu, cpu" >&2
            return 1
            ;;
    esac
    lock="${XKD_LOCK:-$lock}"
    if ! "$python" -c 'import sys; sys.exit(not sys.version_info >= (3, 11))' 2>/dev/null; then
        echo "error: $python is not Python 3.11 or newer; name one: PYTHON=python3.12 bash $0" >&2
        return 1
    fi
    # One line that scripts can show.
    export XKD_FOUND="Found ${found#* }; JAX runs on $accelerator, from $lock in $venv"
    wanted="$(cksum <"$lock")"
    if [[ "$(cat "$venv/xkd-lock" 2>/dev/null)" != "$wanted" ]]; then
        echo "Installing $lock into $venv (a minute or two; more for an accelerator)"
        [[ -x "$venv/bin/python" ]] || "$python" -m venv "$venv" || return
        # Modules are compiled to byte code when they are imported. Compiling all of them now would
        # double the time of the installation.
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
            --requirement "$lock" || return
        echo "$wanted" >"$venv/xkd-lock"
    fi
    PATH="$(cd "$venv" && pwd)/bin:$PATH"
    export PATH
    # Byte code is kept even if the machine forbids it, as containers do. Without it, each process
    # compiles all its imports again: 9 CPU-seconds instead of 3 with TensorFlow and JAX.
    unset PYTHONDONTWRITEBYTECODE
    # Use huge pages: a step on CPU allocates and frees a GB of buffers, and would spend a third of
    # its time on mapping them page by page. Let each thread allocate from an arena of its own, as
    # on a machine with many cores: compiling leaves an arena in pieces, and a step and a loader that
    # share it are slower by a tenth (docs/performance.md).
    local malloc=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=128:glibc.malloc.arena_test=128
    export GLIBC_TUNABLES="${GLIBC_TUNABLES:-$malloc}"
}

xkd_environment
