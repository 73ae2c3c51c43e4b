"""The comparison on recordings of languages, with a package and programs made by the test."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.launch.fakes import tool

ROOT = pathlib.Path(__file__).parents[2]
# Commands that launch/real_sound.sh needs beside those of Debian's packages.
TOOLS = (
    *("bash", "basename", "cat", "cksum", "cp", "dirname", "mkdir", "mktemp", "mv", "python3"),
    *("rm", "sed", "tail", "xargs"),
)
RECORDINGS = {
    "cs": (20, 19),
    "fr": (20, 20),
    "ml": (30, 200),
    "nb": (25, 0),
}  # letters and syllables


@pytest.fixture
def repository(tmp_path):
    """The scripts in a folder of their own, with an apt-get, and a Python that logs programs.

    The apt-get gives a package with `RECORDINGS` unless the file `failure` exists.
    """
    if not shutil.which("dpkg-deb"):
        pytest.skip("needs dpkg-deb")
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "launch", root / "launch")
    shutil.copy(ROOT / "requirements.txt", root)
    (root / "runs/demo").mkdir(parents=True)

    content = tmp_path / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN/control").write_text(
        "Package: klettres-data\nVersion: 4:1\nArchitecture: all\nMaintainer: a <a@b>\n"
        "Description: a\n"
    )
    share = content / "usr/share/klettres"
    for language, counts in RECORDINGS.items():
        for kind, count in zip(("alpha", "syllab"), counts, strict=True):
            (share / language / kind).mkdir(parents=True)
            for number in range(count):
                (share / language / kind / f"a-{number:03d}.ogg").write_text(f"{kind} {number}")
        (share / language / "sounds.xml").write_text("<klettres/>")
    (share / "pics").mkdir()
    (share / "pics/kids.svg").write_text("<svg/>")
    build = ["dpkg-deb", "-Znone", "--build", content, tmp_path / "klettres-data_4%3a1_all.deb"]
    subprocess.run(build, check=True, capture_output=True)

    (tmp_path / "bin").mkdir()
    for name in (*TOOLS, "dpkg-deb", "tar"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    tool(
        tmp_path / "bin/apt-get",
        f"""
        echo "apt-get $*" >> {tmp_path}/log
        echo "W: not in the sandbox" >&2
        if [ -e {tmp_path}/failure ]; then echo "E: Unable to locate package" >&2; exit 100; fi
        cp {tmp_path}/*.deb .""",
    )
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/xkd-lock").symlink_to(pathlib.Path(sys.prefix, "xkd-lock"))
    tool(tmp_path / "venv/bin/python", f'echo "$*" >> {tmp_path}/log')
    return root


def real_sound(repository, *arguments):
    return subprocess.run(
        ["bash", repository / "launch/real_sound.sh", *arguments],
        env={
            "PATH": str(repository.parent / "bin"),
            "XKD_VENV": str(repository.parent / "venv"),
            "XKD_LOCK": str(ROOT / "requirements.txt"),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_real_sounds_are_laid_out_prepared_and_compared(repository, tmp_path):
    done = real_sound(repository, "--workdir=out")
    assert done.returncode == 0, done.stderr
    for language, counts in (("cs", "20 letters and 19"), ("nb", "25 letters and 0")):
        assert f"Left out {language}, which has {counts} syllables; " in done.stdout
    assert done.stdout.endswith("  fr      20  20\n  ml      30 100\n")

    data = repository / "data"
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) == 170, "nothing but the recordings is left"
    assert (data / "klettres/train/fr/a-019.ogg").read_text() == "alpha 19"
    assert (data / "klettres/test/fr/a-019.ogg").read_text() == "syllab 19"
    numbers = sorted(int(path.stem[2:]) for path in data.glob("klettres/test/ml/*"))
    assert numbers == list(range(1, 200, 2)), "they are spread evenly"

    commands = (tmp_path / "log").read_text().splitlines()
    assert len(commands) == 4
    assert commands[0] == "apt-get download klettres-data"
    assert commands[1] == (
        "-m input_pipeline.prepare --dataset=folder --require=sound --source=data/klettres "
        "--output=data/klettres_prepared"
    )
    assert "--config=configs/demo.py --workdir=runs/klettres " in commands[2]
    assert commands[2].endswith("--config.data.require=any --config.steps=3000")
    assert "--config=configs/eval/compare.py --config.checkpoint=runs/klettres " in commands[3]
    assert commands[3].endswith("--config.modalities=('audio',) --workdir=out")

    again = real_sound(repository, "runs/demo")
    assert again.returncode == 0, again.stderr
    [comparison] = (tmp_path / "log").read_text().splitlines()[5:]
    assert "--config.checkpoint=runs/demo " in comparison
    assert (tmp_path / "log").read_text().count("apt-get") == 1, "the recordings are reused"


def test_real_sounds_that_cannot_be_had(repository, tmp_path):
    (tmp_path / "failure").touch()
    done = real_sound(repository)
    assert done.returncode == 1
    assert done.stderr == (
        "error: apt-get cannot download klettres-data (E: Unable to locate package); "
        "try again after 'apt-get update'\n"
    )
    assert not list((repository / "data").iterdir())

    (tmp_path / "bin/apt-get").unlink()
    done = real_sound(repository)
    assert done.returncode == 1
    assert done.stderr == (
        "error: apt-get is not on this machine; allowed: a system with Debian's packages\n"
    )
    assert not list((repository / "data").iterdir())
