"""A stand-in for `python -m MODULE` that starts at once: TensorFlow and JAX are imported already.

One process of a test session, the server, imports what takes long, and nothing else: it has no
thread, no device and no state of a run. For each start it forks a child, which is given the
arguments, the environment, the folder and the output of who asked. The stand-in itself passes
signals on and ends as the child does; the child is killed where the stand-in is.

It serves tests that do not look at how a program starts. With the session's folder as its argument,
this file is the server; with more arguments it is the stand-in, without site-packages.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).parents[1]
_SOCKET, _LOG = "warm.socket", "warm.log"
_COMPILING = 120.0  # seconds to wait for a program that another process compiles
# All that the programs import sooner or later, but for the programs themselves.
_IMPORTS = (
    *("clu.metric_writers", "sklearn.svm", "matplotlib.figure"),
    *("xkd_jax.pretrain_run", "xkd_jax.measure.compile_check", "xkd_jax.ablation.tables"),
    *(
        "xkd_jax.downstream.probe",
        "xkd_jax.downstream.compare",
        "xkd_jax.downstream.finetuning.finetune",
    ),
    *("input_pipeline.datasets", "input_pipeline.loader", "input_pipeline.evaluation"),
)


def environment() -> pathlib.Path:
    """A folder like that of a virtual environment, whose python is the stand-in."""
    from tests import session

    def make(folder: pathlib.Path) -> None:
        python = folder / "bin" / "python"
        python.parent.mkdir()
        command = f"'{sys.executable}' -IS '{__file__}' '{session.folder()}'"
        python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        python.chmod(0o755)
        # To launch/environment.sh it is as complete as the one that the tests run in.
        (folder / "xkd-lock").symlink_to(pathlib.Path(sys.prefix, "xkd-lock"))

    return session.shared("environment", make)


def stand_in(folder: pathlib.Path, argv: list[str]) -> None:
    """Ends as the program does."""
    if argv[0] != "-m":
        os.execv(sys.executable, [sys.executable, *argv])
    connection = _connect(folder)
    request = {"argv": argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(request).encode()
    try:
        socket.send_fds(connection, [len(text).to_bytes(8)], [0, 1, 2])
        connection.sendall(text)
        answers = connection.makefile()
        child = int(answers.readline())
    except OSError:
        sys.exit(f"error: the server has ended: {(folder / _LOG).read_text()}")

    def pass_on():
        while True:
            number = signal.sigwait(passed_on)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    # A thread waits for signals. A handler runs only once the main thread is back from a system
    # call, so it would miss a signal that comes just before the call that waits for the end.
    passed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    threading.Thread(target=pass_on, daemon=True).start()
    code = int(answers.readline())
    if code >= 0:
        sys.exit(code)
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)


def _connect(folder: pathlib.Path) -> socket.socket:
    """To the server, which the first to ask for it starts."""
    connection = socket.socket(socket.AF_UNIX)
    with (folder / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = None
        while True:
            try:
                connection.connect(str(folder / _SOCKET))
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                if server is None:
                    (folder / _SOCKET).unlink(missing_ok=True)
                    server = _start(folder)
                if server.poll() is not None:
                    sys.exit(f"error: the server has ended: see {folder / _LOG}")
                time.sleep(0.01)


def _start(folder: pathlib.Path) -> subprocess.Popen:
    with (folder / _LOG).open("w") as log:
        return subprocess.Popen(
            [sys.executable, __file__, folder],
            cwd=ROOT,
            # NumPy's own threads would be there before any child is.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def serve(folder: pathlib.Path) -> dict:
    """Listens until the session ends; returns in each child alone, with what it is to run."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / _SOCKET))
    listener.listen(64)
    sys.path[0] = str(ROOT)
    from input_pipeline.programs import program

    program.collect_garbage_rarely()
    for name in _IMPORTS:
        __import__(name)
    from jax._src import xla_bridge

    if xla_bridge.backends_are_initialized() or len(os.listdir("/proc/self/task")) > 1:
        sys.exit(
            "error: what is imported has started devices or threads, which no child would have"
        )
    _share_programs()
    # The first start may be by a script that ignores it, as launch/local_processes.sh does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from tests import garbage

    garbage.set_older_objects_aside()
    owner = int((folder / "pid").read_text())
    while pathlib.Path(f"/proc/{owner}").exists():
        if select.select([listener], [], [], 1.0)[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                return _supervise(connection)
            connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    sys.exit()


def _share_programs() -> None:
    """Has process 0 of a run compile for all of its processes.

    On CPUs, JAX takes the devices of each process for a topology of its own. Only process 0 keeps
    programs, so the others would compile theirs every time, all at once.
    """
    from jax._src import cache_key, compilation_cache, distributed

    find = compilation_cache.get_executable_and_time

    def hash_devices(hash_obj, devices):
        places = [(device.id, device.process_index) for device in devices.flat]
        hash_obj.update(repr((distributed.global_state.num_processes, places)).encode())

    def find_or_wait(key, options, backend, devices):
        is_of_several = len({device.process_index for device in devices}) > 1
        if not (is_of_several and distributed.global_state.process_id):
            return find(key, options, backend, devices)
        end = time.monotonic() + _COMPILING
        while time.monotonic() < end:
            with contextlib.suppress(Exception):  # what is half written cannot be decompressed
                program, seconds = find(key, options, backend, devices)
                if program is not None:
                    return program, seconds
            time.sleep(0.05)
        return None, None

    cache_key._hash_accelerator_config = hash_devices
    compilation_cache.get_executable_and_time = find_or_wait


def _supervise(connection: socket.socket) -> dict:
    """Forks the child, tells the stand-in its end, and is its end where the stand-in is gone."""
    size, files, *_ = socket.recv_fds(connection, 8, 3)
    request = json.loads(connection.makefile("rb").read(int.from_bytes(size)))
    child = os.fork()
    if not child:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return request
    for file in (0, 1, 2, *files):  # whoever reads the child's output waits for its last holder
        os.close(file)
    _tell(connection, child)
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, connection], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    _tell(connection, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)


def _tell(connection: socket.socket, number: int) -> None:
    """Sends a number to the stand-in, which may have been killed already."""
    with contextlib.suppress(OSError):
        connection.sendall(f"{number}\n".encode())


def become(request: dict, folder: pathlib.Path) -> None:
    """Runs a module as `python -m` does."""
    environ = request["environment"]
    for name in {*os.environ, *environ}:
        read = name.startswith("JAX_") or name == "TF_ENABLE_ONEDNN_OPTS"
        if read and os.environ.get(name) != environ.get(name):
            sys.exit(f"error: {name} is read when imported: start this one with python -m")
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    sys.executable = str(folder / "environment" / "bin" / "python")
    sys.argv = request["argv"]
    # Python's own, of the server, take the files for what they were then: a log.
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", 1, closefd=False)  # noqa: SIM115
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    session_folder, *rest = sys.argv[1:]
    if rest:
        stand_in(pathlib.Path(session_folder), rest)
    else:
        become(serve(pathlib.Path(session_folder)), pathlib.Path(session_folder))
