# shellcheck shell=bash
# Makes the Python environment of the other scripts, and puts it first on the PATH. To be sourced.
#
# XKD_ACCELERATOR: cuda13, tpu or cpu, what JAX is to run on; by default what there is.
# XKD_VENV: where the environment lies; .venv by default.
# XKD_LOCK: what to install; by default the lock for the accelerator.
# PYTHON: the interpreter to make it with; python3 by default.
# What is there already is reused; a changed lock is installed again.

# What JAX can run on here: name of the accelerator, and in words.
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
    # In one line, for scripts that show it.
    export XKD_FOUND="Found ${found#* }; JAX runs on $accelerator, from $lock in $venv"
    wanted="$(cksum <"$lock")"
    if [[ "$(cat "$venv/xkd-lock" 2>/dev/null)" != "$wanted" ]]; then
        echo "Installing $lock into $venv (a minute or two; more for an accelerator)"
        [[ -x "$venv/bin/python" ]] || "$python" -m venv "$venv" || return
        # Byte code is made of what is imported, when it is: of all that is installed it takes as
        # long as the rest of the installation.
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
            --requirement "$lock" || return
        echo "$wanted" >"$venv/xkd-lock"
    fi
    PATH="$(cd "$venv" && pwd)/bin:$PATH"
    export PATH
    # Byte code is kept even where the machine asks for none, as containers do: without, each process
    # compiles all that it imports again, 9 CPU-seconds in place of 3 with TensorFlow and JAX.
    unset PYTHONDONTWRITEBYTECODE
    # Huge pages: a step on CPU takes and returns a GB of buffers, and a third of its time would go
    # into mapping them page by page.
    export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
    # TensorFlow only feeds data: its start-up messages say nothing to the user.
    export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
}

xkd_environment
