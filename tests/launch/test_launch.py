"""The launch scripts: what they would run, and how they take what becomes of it."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.fakes import tool

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("launch/*.sh"), ROOT / ".ci/run"])
POD = ("--name=pod", "--zone=here", "--type=v5litepod-256")
FLAGS = ("--config=configs/k400.py", "--workdir=/mnt/my runs/k400")


def run(script, *arguments, **environment):
    return subprocess.run(
        ["bash", ROOT / "launch" / script, *arguments],
        env=os.environ | {"XKD_VENV": sys.prefix} | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=f"{sys.prefix}/bin:{os.environ['PATH']}")
    done = subprocess.run(
        [shellcheck, "-x", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_dry_run_of_a_pod_prints_every_command_in_order():
    done = run("tpu_pod.sh", *POD, "--spot", "--delete", "--dry_run", "--", *FLAGS)
    assert done.returncode == 0, done.stderr
    create, archive, copy, install, start, follow, delete = done.stdout.splitlines()
    assert create.startswith("gcloud compute tpus queued-resources create pod ")
    for option in ("--accelerator-type=v5litepod-256", "--zone=here", "--spot"):
        assert option in create
    assert archive.startswith("git archive ")
    assert copy.startswith("gcloud compute tpus tpu-vm scp ") and "--worker=all" in copy
    assert "XKD_ACCELERATOR=tpu" in install and "--worker=all" in install
    assert "python -m xkd_jax.main --config=configs/k400.py" in start and "--worker=all" in start
    assert "run.log" in follow and "--worker=0" in follow
    assert delete.startswith("gcloud compute tpus queued-resources delete pod ")


def test_a_pod_is_deleted_on_request():
    done = run("tpu_pod.sh", *POD, "--delete", "--dry_run")
    assert done.stdout.split()[:6] == [
        "gcloud",
        "compute",
        "tpus",
        "queued-resources",
        "delete",
        "pod",
    ]
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("tpu_pod.sh", ["--zone=here", "--", "--x"], "--name=NAME is missing"),
        ("tpu_pod.sh", ["--name=pod", "--", "--x"], "--zone=ZONE is missing"),
        ("tpu_pod.sh", [*POD], "no flags for the program"),
        ("tpu_pod.sh", ["--nam=pod"], "--nam=pod is not an option"),
        ("tpu_pod.sh", [*POD[:2], "--dry_run", "--", "--x"], "--type=TYPE is missing"),
        ("slurm.sh", ["--nodes=2"], "no flags for the program"),
        ("slurm.sh", ["--nodes=2", "--", "--config=x"], "--workdir=FOLDER is missing"),
        ("local_processes.sh", ["two"], "the first argument is 'two'"),
        ("local_processes.sh", ["2", "--config=x"], "--workdir=FOLDER is missing"),
        ("local_processes.sh", ["2", "--restarts=x"], "--restarts=x; allowed: a whole number"),
        ("real_sound.sh", ["runs/none"], "the checkpoint is 'runs/none', which does not exist"),
    ],
)
def test_wrong_arguments(script, arguments, message):
    done = run(script, *arguments)
    assert done.returncode == 1
    assert f"error: {message}" in done.stderr


@pytest.mark.parametrize(
    "script", ["tpu_pod.sh", "slurm.sh", "local_processes.sh", "real_sound.sh"]
)
def test_help(script):
    done = run(script, "--help")
    assert done.returncode == 0
    assert f"bash launch/{script}" in done.stdout


@pytest.mark.parametrize(
    ("gpus", "chosen", "lock", "said"),
    [
        (0, "", "requirements.txt", "Found no accelerator; JAX runs on cpu"),
        (2, "", "requirements-cuda.txt", "Found 2 NVIDIA GPU(s); JAX runs on cuda13"),
        (2, "cpu", "requirements.txt", "Found 2 NVIDIA GPU(s); JAX runs on cpu"),
        (0, "tpu", "requirements-tpu.txt", "Found no accelerator; JAX runs on tpu"),
    ],
)
def test_the_environment_is_for_the_accelerator_that_is_there(tmp_path, gpus, chosen, lock, said):
    lines = "".join(f"echo 'GPU {n}: NVIDIA H100'\n" for n in range(gpus))
    tool(tmp_path / "nvidia-smi", lines or "echo 'No devices were found'; exit 6")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    tool(tmp_path / "venv" / "bin" / "python", f"echo $* >> {tmp_path}/log")
    script = ["bash", "-c", 'source launch/environment.sh && echo "$XKD_FOUND"']

    def source(accelerator):
        return subprocess.run(
            script,
            cwd=ROOT,
            env=os.environ
            | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable}
            | {"XKD_VENV": str(tmp_path / "venv"), "XKD_ACCELERATOR": accelerator},
            capture_output=True,
            text=True,
        )

    done = source(chosen)
    assert done.returncode == 0, done.stderr
    assert f"{said}, from {lock} in {tmp_path / 'venv'}" in done.stdout.splitlines()[-1]
    assert (tmp_path / "log").read_text().endswith(f" --requirement {lock}\n")
    assert "Installing" not in source(chosen).stdout, "what is there already is reused"
    done = source("gpu")
    assert done.returncode == 1
    assert done.stderr == "error: XKD_ACCELERATOR=gpu; allowed: cuda13, tpu, cpu\n"


@pytest.fixture
def cloud(tmp_path):
    """A gcloud that keeps a log, and slices that are preempted once in the middle of the run."""
    tool(
        tmp_path / "gcloud",
        f"""
        cd {tmp_path}
        echo "$*" >> log
        case "$*" in
            *describe*) if [ -e slice ]; then echo ACTIVE; fi ;;
            *create*) touch slice ;;
            *delete*) rm slice ;;
            *--worker=0*) if [ -e again ]; then exit 0; fi; touch again; rm slice; exit 255 ;;
        esac""",
    )
    tool(tmp_path / "sleep", "exit 0")
    return tmp_path


def test_a_preempted_pod_is_replaced_and_the_run_begun_again(cloud):
    path = f"{cloud}:{os.environ['PATH']}"
    done = run("tpu_pod.sh", *POD, "--setup=mount it", "--", *FLAGS, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "pod is gone" in done.stdout
    log = (cloud / "log").read_text()
    assert log.count("create pod") == 2
    assert log.count("--command=mount it") == 2
    assert log.count("python -m xkd_jax.main") == 2
    assert "delete" not in log


@pytest.fixture
def local(tmp_path):
    """Starts two processes that stand for the program: told to stop, they save for a second."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "xkd-lock").symlink_to(pathlib.Path(sys.prefix, "xkd-lock"))
    tool(
        tmp_path / "bin/python",
        f"""
        [ "$1" = -m ] || exec {sys.executable} "$@"
        cd {tmp_path}
        index="${{@: -1}}"; index="${{index#--process=}}"
        trap 'told=1; sleep 1; echo saved > saved-$index; exit $(cat code-$index)' TERM
        echo $$ > pid-$index
        # As the program takes the end of its input, where the variable is set.
        read -r || [ "$told" ] || [ -z "$XKD_STARTED_BY_A_PROGRAM" ] || kill -TERM $$""",
    )

    def start(codes):
        for index, code in enumerate(codes):
            (tmp_path / f"code-{index}").write_text(str(code))
        process = subprocess.Popen(
            ["bash", ROOT / "launch/local_processes.sh", "2", f"--workdir={tmp_path}/run"],
            env=os.environ | {"XKD_VENV": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while len(list(tmp_path.glob("pid-*"))) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        return process

    return start


def are_saved(folder, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(list(folder.glob("saved-*"))) < 2:
        time.sleep(0.05)
    return len(list(folder.glob("saved-*"))) == 2


@pytest.mark.parametrize(
    ("number", "codes"),
    [(signal.SIGTERM, (0, 0)), (signal.SIGHUP, (143, 143)), (signal.SIGINT, (0, 0))],
)
def test_processes_are_waited_for_however_often_they_are_told_to_stop(
    codes, number, local, tmp_path
):
    process = local(codes)
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.3)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == codes[0], output
    assert are_saved(tmp_path, 0), "it has left processes behind"


def test_processes_end_where_the_script_that_started_them_is_killed(local, tmp_path):
    process = local((0, 0))
    process.kill()
    assert are_saved(tmp_path, 60)


@pytest.fixture
def slurm(tmp_path):
    """Slurm's commands, with a log; srun's tasks end with the code in a file, or on a signal."""
    tool(
        tmp_path / "srun",
        f"""
        cd {tmp_path}
        echo "srun $*" >> log
        echo $$ > task
        trap 'exit 0' TERM
        while [ ! -e code ]; do sleep 0.1; done
        exit $(cat code)""",
    )
    tool(tmp_path / "scancel", f'cd {tmp_path}; echo "scancel $*" >> log; kill -TERM $(cat task)')
    tool(tmp_path / "scontrol", f'cd {tmp_path}; echo "scontrol $*" >> log')
    tool(tmp_path / "sbatch", f'cd {tmp_path}; echo "sbatch $*" >> log')
    return tmp_path


def job(folder, **environment):
    return subprocess.Popen(
        ["bash", ROOT / "launch/slurm.sh", *FLAGS],
        env=os.environ
        | {"XKD_VENV": sys.prefix, "PATH": f"{folder}:{os.environ['PATH']}"}
        | {"SLURM_JOB_ID": "7", "XKD_ROOT": str(ROOT)}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_job_is_submitted(slurm, tmp_path):
    path = f"{slurm}:{os.environ['PATH']}"
    flags = ("--config=configs/k400.py", f"--workdir={tmp_path}/run")
    done = run("slurm.sh", "--nodes=2", "--", *flags, PATH=path)
    assert done.returncode == 0, done.stderr
    log = (slurm / "log").read_text()
    assert "--requeue" in log and "--signal=B:TERM@300 " in log and "--nodes=2 " in log
    assert log.endswith(f"launch/slurm.sh {' '.join(flags)}\n")
    assert (tmp_path / "run").is_dir(), "sbatch does not make the folder of its log"


@pytest.mark.parametrize(
    ("code", "restarts", "expected", "queued"),
    [(0, 0, 0, False), (3, 0, 0, False), (1, 0, 1, True), (1, 3, 1, False)],
)
def test_a_job_that_ends(code, restarts, expected, queued, slurm):
    (slurm / "code").write_text(str(code))
    process = job(slurm, SLURM_RESTART_COUNT=str(restarts))
    output, _ = process.communicate(timeout=100)
    assert process.returncode == expected, output
    assert ("scontrol requeue 7" in (slurm / "log").read_text()) == queued


def test_a_job_near_its_time_limit_stops_its_tasks_and_is_queued_again(slurm):
    process = job(slurm)
    while not (slurm / "task").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert (slurm / "log").read_text().splitlines()[1:] == [
        "scancel --signal=TERM 7",
        "scontrol requeue 7",
    ]
