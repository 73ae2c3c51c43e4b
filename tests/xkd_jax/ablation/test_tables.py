"""The table of an ablation: means, spreads, the paper's numbers, missing numbers."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests import full_disk
from tests.damage import damages
from tests.tiny import tiny_config
from xkd_jax.ablation import plan, selection, tables

SCORES = {("xkd", 0): 0.50, ("xkd", 1): 0.60, ("no_refine", 0): 0.40}


def write_evaluation(folder: pathlib.Path, score: float):
    """Writes the fields of a results.json of configs/eval/compare.py that the table needs."""

    def scores(value):
        return {"scores": {"top1": {"mean": value, "spread": None}}}

    found = {
        "metric": "top1",
        "chance": 0.1,
        "protocol": {},
        "rows": [
            {
                "features": features,
                "classifier": classifier,
                "pretrained": scores(score + more),
                "untrained": scores(0.25),
            }
            for features, more in (("video", 0.0), ("audio", 0.125))
            for classifier in ("svm", "knn")
        ],
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found))


@pytest.fixture
def found(tmp_path):
    base = plan.Base("configs/demo.py", (), tiny_config())
    selected = selection.select(["table3", "table4", "da1"])
    jobs = plan.jobs(base, selected, range(2), tmp_path)
    for job in jobs:
        if (job.run, job.seed) in SCORES:
            write_evaluation(job.evaluation("teacher"), SCORES[job.run, job.seed])
    return tables.collect(base, selected, jobs)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: [found],
        lambda found: found | {"protocol": None},
        lambda found: found | {"metric": "other"},
        lambda found: found | {"metric": ["top1"]},
        lambda found: found | {"chance": "0.1"},
        lambda found: found | {"rows": None},
        lambda found: found | {"rows": [3]},
        lambda found: found | {"rows": [found["rows"][0] | {"pretrained": {}}]},
        lambda found: found | {"rows": [found["rows"][0] | {"untrained": float("nan")}]},
    ],
)
def test_damaged_results_are_named_in_one_line(tmp_path, change):
    base = plan.Base("configs/demo.py", (), tiny_config())
    selected = selection.select(["xkd"])
    [job] = plan.jobs(base, selected, [0], tmp_path)
    write_evaluation(job.evaluation("teacher"), 0.5)
    path = job.evaluation("teacher") / "results.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=rf"^{path} is damaged") as caught:
        tables.collect(base, selected, [job])
    assert "\n" not in str(caught.value)


@pytest.mark.faults
def test_a_flipped_bit_of_results_is_no_traceback(tmp_path):
    base = plan.Base("configs/demo.py", (), tiny_config())
    selected = selection.select(["xkd"])
    [job] = plan.jobs(base, selected, [0], tmp_path)
    write_evaluation(job.evaluation("teacher"), 0.5)
    path = job.evaluation("teacher") / "results.json"
    for damaged in damages(path.read_bytes(), 200):
        path.write_bytes(damaged)
        try:
            json.dumps(tables.collect(base, selected, [job]), allow_nan=False)
        except ValueError as error:
            assert str(error).startswith(f"{path} is damaged")


def test_means_and_spreads_are_over_seeds(found):
    assert found["measures"] == ["video svm", "video knn", "audio svm", "audio knn"]
    terms, refinement, alignment = found["studies"]
    assert [row["row"] for row in terms["rows"]] == ["ae", "ae_kd", "ae_da", "xkd"]
    of = {row["row"]: row for study in (terms, refinement) for row in study["rows"]}
    assert of["xkd"]["scores"]["video svm"]["mean"] == pytest.approx(0.55)
    assert of["xkd"]["scores"]["video svm"]["spread"] == pytest.approx(np.sqrt(0.005))
    assert of["xkd"]["seeds"]["1"]["audio knn"] == pytest.approx(0.725)
    assert of["no_refine"]["scores"]["video svm"] == {"mean": 0.4, "spread": None}
    assert of["no_refine"]["changes"] == {"xkd.refine": False}
    assert of["ae_kd"]["seeds"] == of["ae_kd"]["scores"] == {}
    assert [row["paper"] for row in alignment["rows"]] == [
        {"HMDB51 SVM": 56.1, "UCF101 SVM": 81.1, "ESC50 SVM": 87.3}
    ]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_in_markdown(found):
    terms, refinement, _ = tables.markdown(found).split("\n\n**")
    heading, _, head, _, *lines = refinement.splitlines()
    assert "Ours: top-1 on the data of configs/demo.py" in heading
    assert "The paper's, by another protocol, in %: Table 4, split 1, 800 epochs" in heading
    assert cells(head)[:4] == ["row", "what", "seeds", "video svm"]
    table = {cells(line)[0]: dict(zip(cells(head), cells(line), strict=True)) for line in lines}
    assert table["xkd"]["video svm"] == "55.0 ± 7.1"
    assert table["xkd"]["seeds"] == "2"
    assert table["xkd"]["paper: UCF101 SVM"] == "84.7"
    assert table["no_refine"]["audio knn"] == "52.5"
    assert table["no_refine"]["what"] == "XKD without refinement"
    assert table["no_refine"]["paper: HMDB51 SVM"] == "53.5"
    assert table[tables.UNTRAINED]["video svm"] == "25.0"
    ae_kd = next(cells(line) for line in terms.splitlines() if line.startswith("| ae_kd "))
    assert ae_kd[2:5] == ["0", "-", "-"]


def test_the_table_on_the_terminal_has_the_same_numbers(found):
    text = tables.text(found)
    for number in ("55.0 ± 7.1", "40.0", "84.7", "53.5", "56.1"):
        assert number in text
    assert max(map(len, text.splitlines())) < 120


def test_what_is_written(found, tmp_path):
    tables.write(tmp_path / "new", found)
    assert json.loads((tmp_path / "new/results.json").read_text()) == found
    assert (tmp_path / "new/table.md").read_text() == tables.markdown(found)
    image = np.asarray(Image.open(tmp_path / "new/table.png"))
    assert image.shape[0] > 200 and image.shape[1] > 800
    # Our numbers and the paper's have different colors.
    assert (np.abs(image.astype(int) - (0x3B, 0x6E, 0xA5)).sum(-1) < 10).sum() > 50
    assert (np.abs(image.astype(int) - (0xD9, 0x8B, 0x3A)).sum(-1) < 10).sum() > 50


@pytest.mark.faults
def test_a_full_disk_names_the_file_and_leaves_the_old_ones(found, tmp_path):
    output = tmp_path / "new"
    tables.write(output, found)
    before = {path: path.read_bytes() for path in output.iterdir()}
    for size in map(len, before.values()):
        with full_disk.largest_file(size - 1), pytest.raises(OSError, match=f"'{output}/"):
            tables.write(output, found)
    assert {path: path.read_bytes() for path in output.iterdir()} == before


def test_before_there_is_anything_the_papers_numbers_stand_alone(tmp_path):
    base = plan.Base("configs/demo.py", (), tiny_config())
    selected = selection.select(["alignment"])
    found = tables.collect(base, selected, plan.jobs(base, selected, [0], tmp_path))
    tables.write(tmp_path, found)
    assert (
        "| da2 | alignment DA2 (S2) | 0 | 55.4 | 82.2 | 87.5 |"
        in (tmp_path / "table.md").read_text()
    )
