"""Preparing with real processes that are killed, crashed by files, or given impossible tasks."""

import dataclasses
import errno
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from input_pipeline.datasets import listing
from input_pipeline.media import containers
from input_pipeline.prepare import __main__ as prepare
from input_pipeline.prepare import output_plan, shards, workers
from input_pipeline.prepared import metadata, preparation_report, records, verification
from tests import full_disk, media_files, preparing

ROOT = pathlib.Path(__file__).parents[3]
SETTINGS = shards.Settings(
    frame_rate=8.0, short_side=32, require="picture", min_seconds=0.0, max_seconds=60.0
)


class Fatal(os.PathLike):
    """A path that kills the process that opens it, like a file that crashes the decoder."""

    def __fspath__(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def __str__(self):
        return "the shard"


class Endless(os.PathLike):
    """A path that takes forever to open, like a file on which the decoder loops."""

    def __fspath__(self):
        time.sleep(3600)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return media_files.write_media(tmp_path_factory.mktemp("clip") / "clip.mp4", 1.0)


@pytest.fixture
def in_this_process(monkeypatch):
    preparing.in_this_process(monkeypatch)


def make_folder(root, clip, count):
    root.mkdir()
    for number in range(count):
        (root / f"{number}.mp4").write_bytes(clip.read_bytes())
    return root


def make_job(folder, entries, path=None):
    return shards.Job(
        path=str(path or folder / "shard"),
        note_path=str(folder / "note.json"),
        root="/",
        entries=tuple(entries),
        settings=SETTINGS,
        plan="plan",
    )


def contents(folder):
    """Returns the bytes of all files below a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def start(source, output):
    """Starts the command in its own session."""
    command = [sys.executable, "-m", "input_pipeline.prepare", "--dataset=folder", "--workers=2"]
    command += [f"--source={source}", f"--output={output}", "--short_side=64"]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_shards(process, output, count):
    """Waits until some shards are finished."""
    while process.poll() is None:
        if len(list((output / ".prepare").glob("train-*.json"))) >= count:
            return
        time.sleep(0.002)
    pytest.fail(f"ended with {process.returncode}: {process.stderr.read()}")


def finished_shards(output):
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in output.glob("*.array_record-*")
    }


def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(tmp_path, in_this_process):
    source, output = tmp_path / "source", tmp_path / "out"
    long = media_files.write_media(tmp_path / "long.mp4", 15.0, size=(340, 256))
    make_folder(source, long, 15)
    (source / "half ü.mp4").write_bytes(long.read_bytes()[:9000])
    fine = {"short_side": 64, "max_bad_fraction": 0.1}
    prepare.prepare(prepare.Task("folder", source, tmp_path / "at once", **fine))

    finished = {}
    for kill, exit_code in [(signal.SIGTERM, 143), (signal.SIGKILL, -9)]:
        process = start(source, output)
        wait_for_shards(process, output, len(finished) + 1)
        process.send_signal(kill)
        _, error = process.communicate(timeout=60)
        assert process.returncode == exit_code, error
        assert "Traceback" not in error
        assert not (output / "prepared.json").exists()
        if kill == signal.SIGTERM:
            assert not list(output.glob(".[!p]*"))  # no partial files
        time.sleep(1.0)  # orphaned processes finish their current shard and end
        finished = finished_shards(output)
        assert len(finished) < 16
    assert len(finished) >= 2
    (output / ".folder-train.array_record-00000-of-00016.77").write_bytes(b"left behind")

    process = start(source, output)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "--max_bad_fraction" in error, error
    assert "continuing after" in out
    assert not list(output.glob(".[!p]*"))
    after = finished_shards(output)
    assert len(after) == 16 and {name: after[name] for name in finished} == finished
    prepare.prepare(prepare.Task("folder", source, output, **fine))
    assert contents(output) == contents(tmp_path / "at once")


def test_a_file_that_crashes_the_decoder_or_is_not_there_is_left_out(tmp_path, clip):
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    entries = [
        listing.Entry("a", str(clip)),
        listing.Entry("b", Fatal()),
        listing.Entry("c", str(clip)),
        listing.Entry("d", "/nowhere.mp4"),
        listing.Entry("e", str(loop)),
        listing.Entry("f", str(clip / "g.mp4")),
    ]
    job, steps = make_job(tmp_path, entries), []
    workers.write_shards([job], 1, steps.append)
    note = shards.finished(job)
    assert [place for place, _, _ in note.kept] == [0, 2]
    lost = dict.fromkeys((3, 4, 5), "cannot be accessed")
    assert note.left_out == {1: shards.CRASHED} | lost
    assert sum(steps) == 6


@pytest.mark.slow
def test_a_file_that_never_ends_is_left_out(tmp_path, clip):
    entries = [listing.Entry("a", Endless()), listing.Entry("b", str(clip))]
    job = make_job(tmp_path, entries)
    workers.write_shards([job], 1, patience=1.5)  # long enough to read the file
    note = shards.finished(job)
    assert [place for place, _, _ in note.kept] == [1]
    assert note.left_out == {0: shards.CRASHED}


def test_a_crash_at_no_file_is_an_error_and_no_endless_loop(tmp_path):
    job = make_job(tmp_path, [], path=tmp_path / "shard")
    fatal = dataclasses.replace(job, path=Fatal())
    with pytest.raises(workers.WorkerError, match=r"the shard: the process .* exit code -9"):
        workers.write_shards([fatal], 1)


def test_a_full_disk_is_an_error_that_names_the_shard(tmp_path, clip):
    job = make_job(tmp_path, [listing.Entry("a", str(clip))], path=tmp_path / "no" / "shard")
    with pytest.raises(workers.WorkerError, match=r"^/.*no/shard: open\(\) failed: [\w ]+$"):
        workers.write_shards([job], 1)


def test_a_full_disk_loses_nothing_and_is_one_line(tmp_path, clip, in_this_process, capsys):
    """Any file may be the one that fills the disk. With space again, the bytes are the same."""
    source = make_folder(tmp_path / "source", clip, 3)
    flags = ["--dataset=folder", f"--source={source}", "--short_side=32"]
    assert prepare.main([*flags, f"--output={tmp_path / 'at once'}"]) == 0
    sizes = sorted({len(data) for data in contents(tmp_path / "at once").values()})
    flags.append(f"--output={tmp_path / 'out'}")
    for size in sizes:  # files of this size no longer fit
        with full_disk.largest_file(size - 1):
            assert prepare.main(flags) == 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(f"error: {tmp_path}") or f"'{tmp_path}" in said[-1]
        assert not any("Traceback" in line for line in said)
    assert prepare.main(flags) == 0
    expected, found = contents(tmp_path / "at once"), contents(tmp_path / "out")
    assert {k: v for k, v in found.items() if ".prepare" not in k} == {
        k: v for k, v in expected.items() if ".prepare" not in k
    }


def test_what_the_system_withholds_ends_the_run_and_is_not_left_out(tmp_path, clip, monkeypatch):
    """Missing rights and descriptors are temporary, but an entry in the data is permanent."""
    job = make_job(tmp_path, [listing.Entry("a", str(clip)), listing.Entry("b", str(clip))])

    def refuse(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files", str(clip))

    monkeypatch.setattr(containers, "_RETRY_SECONDS", ())
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(containers, "_open", refuse)
        shards.write(job)
    assert shards.finished(job) is None
    shards.write(job)
    assert len(shards.finished(job).kept) == 2


def test_a_shard_counts_as_finished_only_whole_and_of_the_same_plan(tmp_path, clip):
    job = make_job(tmp_path, [listing.Entry("a", str(clip))])
    assert shards.finished(job) is None
    shards.write(job)
    assert shards.finished(job).kept == ((0, 8, 16000),)
    assert shards.finished(dataclasses.replace(job, plan="another")) is None
    with open(job.path, "ab") as file:
        file.write(b"more")
    assert shards.finished(job) is None


def test_too_much_left_out_fails_with_a_report_and_can_be_allowed(
    tmp_path, clip, in_this_process, capsys
):
    source = make_folder(tmp_path / "source", clip, 3)
    (source / "3.mp4").write_bytes(b"")
    flags = ["--dataset=folder", f"--source={source}", f"--output={tmp_path / 'out'}"]
    assert prepare.main([*flags, "--max_bad_fraction=0.2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --max_bad_fraction is 0.2, but 0.25 of 4 recordings")
    assert "1 empty file" in error and error.count("\n") == 1
    result = preparation_report.load(tmp_path / "out")
    assert result["left_out"] == [{"split": "train", "name": "3.mp4", "reason": "empty file"}]
    with pytest.raises(FileNotFoundError):
        records.load_recipe(tmp_path / "out")
    before = finished_shards(tmp_path / "out")
    assert prepare.main([*flags, "--max_bad_fraction=0.25"]) == 0
    assert finished_shards(tmp_path / "out") == before
    assert "left out 1: 1 empty file" in capsys.readouterr().out
    records.load_recipe(tmp_path / "out")


def test_what_is_missing_is_said_before_anything_is_decoded(tmp_path, clip, in_this_process):
    source = tmp_path / "source"
    (source / "audio").mkdir(parents=True)
    rows = "".join(f"{n}.wav,1,0,dog,True,{n},A\n" for n in range(4))
    (source / "esc50.csv").write_text(f"filename,fold,target,category,esc10,src_file,take\n{rows}")
    for number in range(3):
        (source / "audio" / f"{number}.wav").write_bytes(clip.read_bytes())
    with pytest.raises(output_plan.PrepareError, match="1 listed but missing"):
        prepare.prepare(prepare.Task("esc50", source, tmp_path / "out"))
    result = preparation_report.load(tmp_path / "out")
    assert not result["complete"] and not finished_shards(tmp_path / "out")
    assert result["total"]["listed"] == 4 and result["total"]["not_read"] == 3


def test_a_finished_data_set_says_so_at_once(tmp_path, clip, in_this_process, capsys):
    source = make_folder(tmp_path / "source", clip, 2)
    task = prepare.Task("folder", source, tmp_path / "out")
    result = prepare.prepare(task)
    before = contents(tmp_path / "out")
    (source / "0.mp4").unlink()  # finished data need their source no more
    assert prepare.prepare(task) == result
    assert contents(tmp_path / "out") == before and not (tmp_path / "out" / ".prepare").exists()
    other = dataclasses.replace(task, short_side=64)
    with pytest.raises(output_plan.PrepareError, match="with short_side 128, not 64"):
        prepare.prepare(other)


def test_a_finished_data_set_knows_its_files_and_is_not_finished_when_damaged(
    tmp_path, clip, in_this_process, capsys
):
    source, output = make_folder(tmp_path / "source", clip, 2), tmp_path / "out"
    flags = ["--dataset=folder", f"--source={source}", f"--output={output}"]
    assert prepare.main(flags) == 0
    contents = records.load_recipe(output).contents
    assert contents.splits == ("train",)
    assert set(contents.files) == {path.name for path in output.iterdir()} - {"prepared.json"}
    for name, file in contents.files.items():
        whole = (output / name).read_bytes()
        assert (file.bytes, file.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
        assert file.head == hashlib.sha256(whole[:4096]).hexdigest()
    expected = "all 6 files are as they were written; one record of each of 2 shards can be decoded"
    assert verification.verify(output) == f"{output}: {expected}"
    capsys.readouterr()
    for name in ("prepared.json", "report.json", "index-train.npz", *finished_shards(output)):
        whole = (output / name).read_bytes()
        (output / name).write_bytes(whole[:100] + b"?" + whole[101:])
        assert prepare.main(flags) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: --output is ") and error.count("\n") == 1 and name in error
        (output / name).write_bytes(whole)
    assert prepare.main(flags) == 0


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_a_damaged_plan_is_one_line(tmp_path, text):
    work = tmp_path / output_plan.WORK
    work.mkdir()
    (work / "plan.json").write_text(text)
    with (
        pytest.raises(output_plan.PrepareError, match=r"plan\.json is damaged: .* or delete it"),
        output_plan.working_folder(tmp_path, {}),
    ):
        pass


def test_another_source_or_other_settings_are_not_mixed_in(
    tmp_path, clip, in_this_process, monkeypatch
):
    source = make_folder(tmp_path / "source", clip, 2)
    task = prepare.Task("folder", source, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "write", lambda *_: 1 / 0)  # stops just before the end
        with pytest.raises(ZeroDivisionError):
            prepare.prepare(task)
    with pytest.raises(output_plan.PrepareError, match=r"with frame_rate 8\.0, not 4\.0"):
        prepare.prepare(dataclasses.replace(task, frame_rate=4.0))
    os.utime(source / "1.mp4", (1, 1))
    with pytest.raises(output_plan.PrepareError, match="whose files have changed"):
        prepare.prepare(task)


def test_one_process_at_a_time(tmp_path, clip, in_this_process):
    source = make_folder(tmp_path / "source", clip, 1)
    task = prepare.Task("folder", source, tmp_path / "out")
    with (
        output_plan.working_folder(task.output, {}),
        pytest.raises(output_plan.PrepareError, match="another process is preparing"),
    ):
        prepare.prepare(task)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dataset=kinetics"], "--dataset is 'kinetics'; allowed: kinetics400, "),
        (["--source={tmp}/nowhere"], "--source is '{tmp}/nowhere'; allowed: a folder that exists"),
        (["--output={tmp}/source/out"], "inside --source; allowed: a folder outside it"),
        (["--output={tmp}/taken"], "'{tmp}/taken', which holds something else"),
        (["--output={tmp}/taken/file"], "a file; allowed: a folder"),
        (["--output={tmp}/caf\udce9"], "--output is '{tmp}/caf\\udce9'; allowed: names in UTF-8"),
        (["--frame_rate=0"], "--frame_rate is 0.0; allowed: 0.01 to 120"),
        (["--short_side=8"], "--short_side is 8; allowed: 16 to"),
        (["--require=smell"], "--require is 'smell'; allowed: picture, sound, both, any"),
        (["--min_seconds=-1"], "--min_seconds is -1.0; allowed: 0 or more"),
        (["--max_bad_fraction=2"], "--max_bad_fraction is 2.0; allowed: 0 to 1"),
        (["--workers=-1"], "--workers is -1; allowed: 1 or more"),
        (["--dataset=ucf101"], "there is no ucfTrainTestlist/trainlist01.txt"),
        (["--dataset=hmdb51"], "there is no testTrainMulti_7030_splits/"),
        (["--dataset=esc50"], "there is no meta/esc50.csv"),
        (["--dataset=fsd50k"], "there is no FSD50K.ground_truth/vocabulary.csv"),
        (["--dataset=audioset"], "there is no balanced_train_segments.csv"),
        (["--dataset=audioset_20k"], "there is no balanced_train_segments.csv"),
        (["--dataset=vggsound"], "there is no vggsound.csv"),
        (["--dataset=something_something"], "there is no labels.json with train.json"),
        (["--dataset=kinetics400"], "there is neither train/<class>/<files> nor a CSV file"),
        (["--dataset=kinetics_sound"], "there is neither train/<class>/<files> nor a CSV file"),
        (["--source={tmp}/taken"], "there is no media file"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, clip, capsys, flags, words):
    make_folder(tmp_path / "source", clip, 1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    usual = ["--dataset=folder", "--source={tmp}/source", "--output={tmp}/out"]
    arguments = [flag.format(tmp=tmp_path) for flag in usual + flags]
    assert prepare.main(arguments) == 1
    out, error = capsys.readouterr()
    assert error.startswith("error: --") and error.count("\n") == 1 and not out
    assert words.format(tmp=tmp_path) in error
    assert (tmp_path / "taken" / "file").read_text() == "mine"
