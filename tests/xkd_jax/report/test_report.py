"""The report's command line: what it writes, and what it refuses."""

import errno
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import full_disk
from tests.saved_runs import save_run
from tests.xkd_jax.report import browser
from tests.xkd_jax.report.conftest import log_line, write_log
from xkd_jax.interop import export
from xkd_jax.report import __main__ as program
from xkd_jax.report import clips

LARGEST = 3_000_000  # largest page of these small models, in bytes


class Parsed(html.parser.HTMLParser):
    """Collects the addresses in a page, and checks that its elements are closed in order."""

    void = frozenset(("meta", "link", "img", "input", "br"))

    def __init__(self, text):
        super().__init__()
        self.addresses, self.identities, self.titles, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [v for k, v in attributes.items() if k in ("src", "href")]
        self.identities += [v for k, v in attributes.items() if k == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def make(workdir, output, *flags):
    """Runs the program; returns the parsed page and the numbers."""
    arguments = [f"--workdir={workdir}", f"--output={output}", "--shown=2", *map(str, flags)]
    program.main(arguments)
    page = Parsed((output / "report.html").read_text("utf-8"))
    outside = [a for a in page.addresses if not a.startswith(("data:", "#"))]
    assert not outside
    assert len(page.identities) == len(set(page.identities))
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.identities)
    assert (output / "report.html").stat().st_size < LARGEST
    return page, json.loads((output / "report.json").read_text())


@pytest.fixture(scope="module")
def made(run, media, tmp_path_factory):
    """Makes a report of a run on files, which several tests share."""
    output = tmp_path_factory.mktemp("report")
    page, numbers = make(run, output, "--input", media)
    return output, page, numbers


@pytest.mark.slow
def test_a_run_on_files(made):
    output, page, numbers = made
    assert page.titles == [
        "Verdict",
        "Training",
        "Reconstruction",
        "Attention",
        "Representations",
        "Retrieval",
    ]
    assert numbers["training"]["steps"] == [10, 100]
    # 0.85 is the share that the training masks.
    assert set(numbers["reconstruction"]["error"]["video"]) == {"0.6", "0.7", "0.8", "0.85", "0.9"}
    assert set(numbers["reconstruction"]["error"]["audio"]) == {"0.5", "0.6", "0.7", "0.8"}
    assert numbers["retrieval"]["clips"] == 5
    spaces = numbers["retrieval"]["spaces"]
    assert set(spaces["teacher asks, student answers"]) == {"sound → video", "video → sound"}
    assert numbers["representations"]["neighbor_accuracy"]["chance"] == pytest.approx(3 / 5)
    text = (output / "report.html").read_text("utf-8")
    assert text.count("<audio") == 2 * 4 * 3  # clips; ratios; original, masked and reconstructed
    assert text.count("data:audio/mpeg;base64,") == text.count("<audio")
    assert text.count('class="player"') == 2 * 5
    assert text.count("85%, as in training") == text.count("80%, as in training") == 1


@pytest.mark.slow
def test_pictures_are_there_as_png_and_show_something(made):
    output, _, _ = made
    names = {path.stem for path in output.glob("*.png")}
    for name in (
        "training_total_loss",
        "reconstruction_video_90",
        "reconstruction_audio_50",
        "representations_map_video",
        "retrieval_audio",
    ):
        assert name in names
    assert any(name.startswith("attention_video_") for name in names)
    for path in output.glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image).std() > 1, path


@pytest.mark.slow
def test_names_of_files_are_text_and_damaged_ones_are_told(made, media):
    output, _, numbers = made
    text = (output / "report.html").read_text("utf-8")
    assert "<b>&\"x'" not in text
    assert "horn/" in text
    assert numbers["verdict"]["left_out"] == [[str(media / "horn" / "damaged.mp4"), "unreadable"]]


@pytest.mark.slow
def test_the_data_of_the_page_is_json(made):
    text = (made[0] / "report.html").read_text("utf-8")
    [data] = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S)
    charts = json.loads(data)
    assert charts["training_total_loss"]["x"] == list(range(10, 110, 10))
    assert {chart["kind"] for chart in charts.values()} == {"lines", "scatter"}


def test_an_export_of_everything(run, media, tmp_path):
    export.export(run, tmp_path / "export", everything=True)
    flags = ("--shown=1", "--input", media / "drum")
    page, numbers = make(tmp_path / "export", tmp_path / "report", *flags)
    assert "Training" not in page.titles
    assert "Reconstruction" in page.titles
    assert "Explained: how far" in (tmp_path / "report" / "report.html").read_text("utf-8")
    assert any("metrics.jsonl" in line for line in numbers["verdict"]["not_shown"])


def test_encoders_alone_show_what_they_can(run, media, tmp_path):
    export.export(run, tmp_path / "export")
    page, numbers = make(tmp_path / "export", tmp_path / "report", "--input", media)
    assert page.titles == ["Verdict", "Attention", "Representations"]
    reasons = " ".join(numbers["verdict"]["not_shown"])
    for what in ("Reconstructions of video and audio", "retrieval", "untrained"):
        assert what in reasons


def test_encoders_without_files_say_what_is_missing(run, tmp_path):
    export.export(run, tmp_path / "export")
    page, numbers = make(tmp_path / "export", tmp_path / "report")
    assert page.titles == ["Verdict"]
    assert any("--input" in line for line in numbers["verdict"]["not_shown"])


def test_a_run_whose_data_are_gone_shows_its_log(run, tmp_path, capsys):
    page, numbers = make(run, tmp_path)
    assert page.titles == ["Verdict", "Training"]
    [_, line] = numbers["verdict"]["not_shown"]
    assert "--input" in line and f"not shown: {line}\n" in capsys.readouterr().out


def test_networks_that_cannot_be_read_are_told_beside_the_log(tmp_path, capsys):
    write_log(tmp_path, [log_line(10), log_line(20)])
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    _, numbers = make(tmp_path, tmp_path / "report")
    [line] = numbers["verdict"]["not_shown"]
    assert line.startswith("What the networks do: ") and "checkpoints/20 is not a" in line
    assert not line.endswith("..") and f"not shown: {line}\n" in capsys.readouterr().out


def test_a_log_without_a_checkpoint(tmp_path):
    write_log(tmp_path, [log_line(10), log_line(20)])
    page, _ = make(tmp_path, tmp_path / "report")
    assert page.titles == ["Verdict", "Training"]


def test_a_name_that_is_not_utf8_does_not_lose_the_page(tmp_path):
    workdir = tmp_path / b"caf\xe9\x1b[31m".decode(errors="surrogateescape")
    workdir.mkdir()
    write_log(workdir, [log_line(10), log_line(20)])
    page, _ = make(workdir, tmp_path / "report")
    assert page.titles == ["Verdict", "Training"]
    assert (
        r"<h1>caf\xe9\x1b[31m: what its networks have learned</h1>"
        in (tmp_path / "report/report.html").read_text()
    )


def test_names_of_clips_are_printable_and_closed_folders_are_told(tmp_path, media, monkeypatch):
    odd, real = b"caf\xe9\x1b[31m".decode(errors="surrogateescape"), os.scandir
    for name in (odd, "other", "closed"):
        (tmp_path / name).mkdir()
        shutil.copy(media / "drum" / "0.mp4", tmp_path / name / f"{odd}.mp4")
    shutil.copy(media / "drum" / "0.mp4", tmp_path / "other")

    def scandir(path):
        if pathlib.Path(path) == tmp_path / "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = clips.of_files([tmp_path], {}, 10)
    assert found.class_names == (r"caf\xe9\x1b[31m", "other")
    assert found.names[0] == rf"{tmp_path}/caf\xe9\x1b[31m/caf\xe9\x1b[31m.mp4"
    assert found.left_out == [(f"{tmp_path}/closed", "folder that cannot be read")]


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "_log", lambda *_: pytest.fail("reads the log first"))
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "report"
    with pytest.raises(SystemExit, match=f"^error: --output={output} cannot be written: "):
        program.main([f"--workdir={tmp_path}", f"--output={output}"])


@pytest.mark.faults
def test_a_full_disk_is_one_line_and_leaves_the_page_of_before(tmp_path):
    write_log(tmp_path, [log_line(10), log_line(20)])
    output = tmp_path / "report"
    make(tmp_path, output)
    before = {path: path.read_bytes() for path in output.iterdir()}
    smallest, largest = sorted(map(len, before.values()))[:: len(before) - 1]
    for size in (smallest - 1, largest - 1):
        with full_disk.largest_file(size), pytest.raises(SystemExit, match=f"^error: .*'{output}/"):
            make(tmp_path, output)
        assert output.joinpath("report.html").read_bytes() == before[output / "report.html"]
        assert {path.name for path in output.iterdir()} == {path.name for path in before}
    make(tmp_path, output)


@pytest.mark.slow
def test_a_checkpoint_of_a_run_finds_the_log(run, media, tmp_path):
    [checkpoint] = (run / "checkpoints").glob("[0-9]*")
    page, _ = make(checkpoint, tmp_path, "--input", media / "drum" / "0.mp4")
    assert "Training" in page.titles


@pytest.mark.slow
def test_one_file_and_shared_blocks(media, tmp_path):
    save_run(tmp_path / "run", "xkd_mats")
    page, _ = make(tmp_path / "run", tmp_path / "report", "--input", media / "drum" / "0.mp4")
    assert "Reconstruction" in page.titles


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workdir=NOWHERE"], "--workdir=NOWHERE: no such folder"),
        (["--workdir=EMPTY"], "holds no weights"),
        (["--workdir=RUN", "--input=NOWHERE"], "--input=NOWHERE: no such file or folder"),
        (["--workdir=RUN", "--input=DAMAGED"], "none of 1 file is usable"),
    ],
)
def test_refusals_are_one_line(run, media, tmp_path, monkeypatch, capsys, flags, words):
    (tmp_path / "EMPTY").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"RUN": run, "DAMAGED": media / "horn" / "damaged.mp4"}
    for name, place in places.items():
        flags = [flag.replace(name, str(place)) for flag in flags]
    with pytest.raises(SystemExit) as exit:
        program.main([*flags, f"--output={tmp_path / 'report'}"])
    assert words in str(exit.value)
    assert "\n" not in str(exit.value)
    assert not (tmp_path / "report").exists()


needs_browser = pytest.mark.skipif(
    browser.find() is None,
    reason=f"no browser: $XKD_BROWSER is not set, and PATH has none of {', '.join(browser.NAMES)}",
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with browser.started(browser.find(), tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [browser.DESKTOP, browser.PHONE])
def test_in_a_browser(made, opened, tmp_path, size, dark):
    """The page loads nothing, has no errors, fits the width, and follows the color scheme."""
    opened.requests.clear()
    opened.errors.clear()
    opened.open(made[0] / "report.html", size, dark)
    assert not opened.errors
    assert all(r.startswith(("file:", "data:")) for r in opened.requests)
    assert sum(r.startswith("file:") for r in opened.requests) == 1
    assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]
    if size == browser.DESKTOP:  # a phone scrolls its tables
        cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        assert opened.evaluate(f"{cut}.length") == 0
    background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 300) == dark
    charts = opened.evaluate("document.querySelectorAll('[data-chart]').length")
    assert opened.evaluate("document.querySelectorAll('[data-chart] svg').length") == charts
    opened.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == size
        assert np.asarray(image).std() > 3


@needs_browser
def test_hover_and_zoom(run, opened, tmp_path):
    make(run, tmp_path)
    opened.open(tmp_path / "report.html", browser.DESKTOP)
    chart = "[data-chart=training_total_loss] svg"
    box = opened.box(chart)
    middle = box["y"] + box["height"] / 2
    opened.mouse("mouseMoved", box["x"] + box["width"] * 0.6, middle)
    tip = "document.querySelector('[data-chart=training_total_loss] .tip')"
    assert opened.evaluate(f"{tip}.hidden") is False
    assert re.match(r"step \d+", opened.evaluate(f"{tip}.textContent"))
    points = "document.querySelector('{} polyline').points.length"
    other = "[data-chart=training_reconstruction_masked_patches] svg"
    assert opened.evaluate(points.format(chart)) == 10
    opened.drag((box["x"] + box["width"] * 0.4, middle), (box["x"] + box["width"] * 0.8, middle))
    zoomed = opened.evaluate(points.format(chart))
    assert 2 <= zoomed < 8
    assert opened.evaluate(points.format(other)) == zoomed  # all charts of training zoom together
    opened.evaluate("document.querySelector('.head button:nth-of-type(2)').click()")
    assert opened.evaluate(points.format(chart)) == 10


@needs_browser
def test_the_axis_of_a_share_ends_at_1(opened, tmp_path):
    values = {"probe/video_teacher": 0.99, "lidar/video_teacher": 0.99}
    write_log(tmp_path, [log_line(10, **dict.fromkeys(values, 0.5)), log_line(20, **values)])
    make(tmp_path, tmp_path / "report")
    opened.open(tmp_path / "report" / "report.html", browser.DESKTOP)
    highest = (
        "(() => {{ const p = document.querySelector('[data-chart={}] polyline').points;"
        "return p[p.length - 1].y; }})()"
    )
    # From the upper edge, at 16 pixels, to the lower one are 158. The axis of a share has 0.5 less
    # 0.03 to 1; that of another number has 0.03 more.
    assert opened.evaluate(
        highest.format("training_online_probe_nearest_neighbors")
    ) == pytest.approx(16 + 158 * 0.01 / 0.5294, abs=0.2)
    assert opened.evaluate(
        highest.format("training_lidar_directions_that_tell_recordings_apart")
    ) == pytest.approx(16 + 158 * 0.0294 / 0.5488, abs=0.2)


@pytest.mark.slow
@needs_browser
def test_players_play_and_sounds_can_be_played(made, opened):
    opened.open(made[0] / "report.html", browser.PHONE)
    opened.box("[data-tab].shown .player")
    slider = "document.querySelector('[data-tab].shown .player input').value"
    seen = {
        opened.evaluate(f"new Promise(r => setTimeout(() => r({slider}), 150))") for _ in range(12)
    }
    assert len(seen) > 2
    colors = opened.evaluate(
        "(() => { const c = document.querySelector('[data-tab].shown canvas');"
        "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size; })()"
    )
    assert colors > 2  # a blank canvas has at most two values
    opened.evaluate("document.querySelector('[data-tab].shown .player button').click()")
    stopped = opened.evaluate(slider)
    assert opened.evaluate(f"new Promise(r => setTimeout(() => r({slider}), 600))") == stopped
    opened.evaluate("document.querySelector('.tabs button[data-show=\"60%\"]').click()")
    assert opened.evaluate("document.querySelector('.tabs [data-tab].shown').dataset.tab") == "60%"
    durations = opened.evaluate(
        "Promise.all([...document.querySelectorAll('audio')].map(a => new Promise(r => {"
        "if (a.readyState > 0) r(a.duration); a.onloadedmetadata = () => r(a.duration);"
        "a.onerror = () => r(-1); a.load(); })))"
    )
    assert all(0.4 < d < 1.5 for d in durations), durations


@needs_browser
@pytest.mark.parametrize("size", [browser.DESKTOP, browser.PHONE])
def test_a_log_alone_in_a_browser(run, opened, tmp_path, size):
    make(run, tmp_path)
    opened.errors.clear()
    opened.open(tmp_path / "report.html", size)
    assert not opened.errors
    assert opened.evaluate("document.querySelectorAll('[data-chart] svg').length") > 5
    assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.skipif(not shutil.which("node"), reason="no node on PATH")
def test_the_script_is_javascript():
    """Checks the script without a browser."""
    script = pathlib.Path(program.__file__).with_name("page.js")
    subprocess.run(["node", "--check", script], check=True)


def test_imports_are_late():
    """--help must not wait for JAX."""
    code = "import sys, xkd_jax.report.__main__; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
