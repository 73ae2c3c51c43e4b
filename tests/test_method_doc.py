"""docs/method.md declares every difference: its table has a row for each, with switches that exist.

The facts known of the paper and the release are typed here a second time, each by words or numbers
that its row must have.
"""

import pathlib
import re

import pytest

from xkd_jax.config import finetuning, pretraining, probing, schema

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs/method.md").read_text()


def section(number: int) -> str:
    return re.search(rf"^## {number}\. .*?(?=^## |\Z)", PAGE, re.M | re.S)[0]


def rows(text: str) -> list[list[str]]:
    """Returns the cells of the tables' rows, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {place - 1 for place, row in enumerate(cells) if set(row[0]) == {"-"} and row[0]}
    return [row for place, row in enumerate(cells) if place not in heads and place - 1 not in heads]


DIFFERENCES = rows(section(6))
TABLES = rows(section(9))


def row_of(topic: str, table: list[list[str]]) -> str:
    return next(" | ".join(row) for row in table if row[0] == topic)


def test_every_row_is_whole():
    assert len(DIFFERENCES) > 50
    for row in DIFFERENCES:
        assert len(row) == 6 and all(row), row
        assert row[3] != "-" or row[1] != "-"
    topics = [row[0] for row in DIFFERENCES]
    assert len(set(topics)) == len(topics)


def test_every_switch_is_a_field():
    sections = [pretraining.fields(), probing.fields(), *map(finetuning.fields, ("video", "audio"))]
    fields = {name for section in sections for name in schema.rules(section)} | {":release"}
    for row in DIFFERENCES:
        switches = re.findall(r"`(.+?)`", row[5])
        assert switches or row[5] == "-", row
        assert set(switches) <= fields, row


@pytest.mark.parametrize(
    ("topic", "facts"),
    [
        # The method itself.
        ("teacher's view", "global; index slip; first local view"),
        ("total of the terms", "sums; averaged; / 7; / 14; `xkd.total`"),
        ("refine weight", "Eq. 6; **features**; **means**; root; `ratio`; `xkd.refine_weight`"),
        ("MMD", "one sigma; 7 gammas; per device; global batch"),
        ("a row's distance to itself in MMD", "rounding"),
        ("projector's hidden norms", "every layer; share parameters; separate"),
        ("MATS teachers' EMA", "once; twice"),
        ("local views of MAS and MATS", "1 video + 1 audio; 3 video + 1 audio"),
        ("centers, order of the EMA", "current batch statistics"),
        # What is easily misread in the paper.
        ("random crop in audio finetuning", "A.6; [0.6, 1.5]; [1, 1.5]; time mask, then the crop"),
        ("clips of K400's linear evaluation", "3 **random**; in training and in testing"),
        ("without refine (Table 4)", "4.4; no gradient; targets"),
        ("without CLS (B.8)", "no CLS token; mean of the softmaxed rows"),
        # Where the release goes its own way, or fills in what the paper leaves open.
        ("HMDB51 layer decay", ".55; .75"),
        ("K400 finetuning warm-up", "30; 5"),
        ("RandAugment", "(9, .05); magnitude 7, 4 operations, deviation .5, increasing severity"),
        ("RandAugment", "magnitude 9; 26; 230; 1 ± .81; 1.72; posterize keeps 1 bit"),
        ("crop area in video finetuning", "multi-scale crop; [.2, .766]"),
        ("random erasing in video finetuning", ".25"),
        ("test views of video finetuning", "3 clips (A.6); 3 clips x 3 crops"),
        ("FSD50K finetuning batch", "64; 128"),
        ("ESC50 finetuning head", "linear; l2-normalized first"),
        ("K400 linear layer", "20 epochs, batch 512"),
        ("K400 linear layer", "100 epochs, batch 256, warm-up 10, no decay, crop 224"),
        ("test crop of linear evaluation", "short side 128, center 112"),
        ("late fusion", "simply concatenated; l2-normalized first"),
        ("clips without sound in pretraining", "both streams must be there; 1.1 s"),
        ("sounds shorter than the clip", "zero padding"),
        ("temperature ramp of MAS", "linear, one value an epoch"),
        ("projector's last layer at the start", "PyTorch's default for a linear layer"),
        # The paper against itself.
        ("teacher temperatures", "S4: .1 (video), .07 (sound); [.04, .06]; S8; B.1; misprints"),
        ("FSD50K finetuning epochs", "100 (A.6); 30 (S7)"),
        ("epochs of the ablations", "400; 800"),
        # What this code does in its own way.
        ("initial positions, projectors, finetuning heads", "0.0176; deviation of .02"),
        ("choice of C", "on the test set of split 1; chosen as in the paper"),
        ("epoch of a linear layer", "held-out"),
        ("clips of ESC50's linear evaluation", "10 epochs; 100"),
        ("targets of reconstruction", "Eq. 1; normalized"),
        ("CLS in the attention row's softmax", "Eq. 3; not renormalized"),
        ("features of `load_encoder`", "antialiasing"),
        ("positions at other sizes", "CPU; GPU; .09"),
        ("decoder of ViT-L", "512; 8; 16; assumption"),
        ("network behind MAS in Tables 7 to 9", "student; assumption"),
        ("mixed precision", "fp16; bfloat16"),
        ("frames", "JPEG; 90; 128"),
        # What the paper leaves to its reader.
        ("heads of ViT-L beside ViT-B in Eq. 4", "16, 12; averaged; assumption"),
        ("teachers and centers at the start", "Alg. 1; copies of the students; 0"),
        ("sum or mean in L_kd", "Eq. 11; mean over the student's views and the batch"),
        ("details of the networks", "no bias on QKV; 1e-5; learned positions; no final norm"),
        ("projector without norms (B.5, B.6)", "no LayerNorm; unit length; weight normalization"),
        ("AMSGrad", "A.3, A.5, A.6; without it"),
        ("schedules of learning rate and EMA", "S4; by step"),
        ("clips of pretraining", "one random clip of each recording in an epoch"),
        ("Multi-Scale Crop", "S1; random resized crop"),
        ("Random Crop of sound", "[.6, 1.5]; [1, 1.5]; S2; canvas, 1 in frequency and 1.5 in time"),
        ("local views in time", "4.1; independently"),
        ("test crop of finetuning", "central square; 224"),
        ("features", "A.5; after the final norm, without CLS"),
        ("score of a recording", "A.6; decision values (SVM) or probabilities"),
        ("test set of Kinetics400 and Kinetics-Sound", "val"),
        ("validation split of FSD50K", "never trained on"),
        ("recordings without sound in Kinetics-Sound's fusion", "silence"),
        ("dropout in finetuning", "S6, S7; before the head"),
        ("learning rates of finetuning", "LR Base; as printed"),
        ("network behind L_recon and L_ae in Tables 1 to 3 and 9", "4.6; the teacher"),
        ("time and frequency masks", "S7; filled with the mean; 2 of each"),
        ("temperature ramp of MAS", "3.6 leaves all else as in XKD; constant (S4)"),
        ("centers, order of the EMA", "L_kd, not in L_da"),
        # What the paper says of its own numbers, against them.
        ("what a higher temperature does", "sharpens; Eq. 10; flattens"),
        ("more local views of video", "B.3; 2 views lose .4 on UCF101, 3 lose 1.0 on HMDB51"),
        ("L_recon of one modality beside L_ae", "30.7 and 32.2; 44.6 and 44.3; the same encoder"),
        ("VideoMAE\\* of S16", "B.11; 56.8, 30.7"),
        ("size of AudioSet", "1.8M (4.7, A.1); 2M; 4.8"),
    ],
)
def test_a_difference_is_declared(topic, facts):
    text = row_of(topic, DIFFERENCES)
    assert not [fact for fact in facts.split("; ") if fact not in text], text


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        ("Table 1", "800, L_recon (video), L_ae, Kinetics-Sound, Kinetics400, split 1"),
        ("Table 2", "800, 44.3, 90.0"),
        *((f"Table {number}", "800") for number in (3, 4, 5, 6, 9)),
        ("Table 7", "AudioSet 400"),
        ("Tables S1, S2", "augmentations"),
        ("Tables S3, S4, S5", "architecture"),
        ("Tables S6, S7", "finetuning"),
        ("Tables S8 to S14", "400, temperatures, projector layers, projector outputs, alignment"),
        ("Table S15", "800, MATS, 52.4, 80.0, 89.8"),
        (
            "Table S16",
            "224, 80.0, 54.3, 112, 77.1, 51.6, 78.9, 51.5, own code, not the L_recon row",
        ),
        ("Figure 4", "AudioSet with ViT-B"),
        ("Figures S1, S2", "EMA, mask ratios"),
        ("Figures S3, S4", "training curves"),
        ("Figure 2", "distributions"),
        ("Figures 3, S7", "with and without refinement"),
        ("Figures 5, S8 to S12", "reconstructions, 60 to 90%, 50 to 80%"),
        ("Figure S5", "projector's norms"),
        ("Figure S6", "teacher and student"),
    ],
)
def test_a_table_of_the_paper_is_known(table, facts):
    text = row_of(table, TABLES)
    assert not [fact for fact in facts.split(", ") if fact not in text], text


def test_the_protocol_of_the_ablations_is_known():
    text = " ".join(section(9).split())
    assert (
        "linear evaluation on split 1 of UCF101, HMDB51 and ESC50, with the protocols of A.5"
        in text
    )


def test_the_tables_are_said_to_be_complete():
    assert "not complete" not in section(9)
    assert "xkd_jax/paper/tables.py" in section(9)


@pytest.mark.parametrize("wrong", [r"appendix C of the paper", r"\(section 3\.3 of the paper"])
def test_no_wrong_section_of_the_paper_is_cited(wrong):
    folders = ("xkd_jax", "configs", "input_pipeline")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert not [str(path) for path in files if re.search(wrong, path.read_text())]
