"""Results of other methods, by protocols that configs/eval/ has.

docs/elsewhere.md has them as a table, with what is known of the differences in protocol.
"""

from typing import NamedTuple


class Number(NamedTuple):
    """A result of another method.

    Attributes:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        protocol: "finetune"; "linear", one layer on frozen features; "attentive", a pooler and a
            layer on frozen tokens; or "retrieval".
        modality: "audio", "video" or "joint"; of a retrieval, the one that asks.
        percent: mAP on AudioSet, top-1 on other data, recall at 1 of a retrieval.
        model: Name of the method, and its network where that is known.
        pretraining: Data of the pretraining.
        source: Address of what reports the number.
        unlike: How the protocol is known to differ from the one here; may be empty.
        quoted: Whether the number was read where others quote it, not at its source.
    """

    dataset: str
    protocol: str
    modality: str
    percent: float
    model: str
    pretraining: str
    source: str
    unlike: str
    quoted: bool


# The config in configs/eval/ with a protocol, by protocol and data set.
CONFIGS = {
    ("finetune", "audioset"): "finetune_audioset_20k",
    ("finetune", "audioset_20k"): "finetune_audioset_20k",
    ("finetune", "vggsound"): "finetune_vggsound",
    ("finetune", "kinetics400"): "finetune_k400",
    ("finetune", "something_something"): "finetune_video",
    ("linear", "audioset_20k"): "linear_audioset_20k",
    ("linear", "vggsound"): "linear_vggsound",
    ("attentive", "audioset_20k"): "attentive",
    ("attentive", "kinetics400"): "attentive",
    ("attentive", "something_something"): "attentive",
    ("retrieval", "audioset"): "retrieval",
    ("retrieval", "vggsound"): "retrieval",
}


def find(dataset: str, protocol: str, modality: str) -> list[Number]:
    """Finds the results to show beside one's own, in the order of `NUMBERS`.

    Args:
        dataset: As in `Number`, and so are the others.
        protocol: "finetune", "linear" or "attentive". Recall depends on which recordings are
            searched, which no two sources share, so retrievals have nothing beside them.
        modality: "audio", "video" or "joint".
    """
    key = (dataset, protocol, modality)
    return [number for number in NUMBERS if number[:3] == key and protocol != "retrieval"]


def _numbers(
    protocol: str, source: str, lines: str, unlike: str = "", quoted: bool = False
) -> tuple[Number, ...]:
    """Makes numbers of lines with fields apart by at least two spaces.

    The fields are data set, modality, number, model, pretraining data, and what else is unlike.
    """
    found = []
    for line in lines.strip().splitlines():
        dataset, modality, percent, model, data, *more = line.strip().split("  ")
        differences = "; ".join(filter(None, (unlike, *more)))
        found.append(
            Number(
                *(dataset, protocol, modality, float(percent), model, data),
                *(source, differences, quoted),
            )
        )
    return tuple(found)


NUMBERS = (
    *_numbers(
        "finetune",
        "https://github.com/YuanGongND/cav-mae",
        """
        audioset  joint  51.2  CAV-MAE Scale+  AudioSet-2M, from ImageNet
        audioset  audio  46.6  CAV-MAE Scale+  AudioSet-2M, from ImageNet
        audioset_20k  joint  42.0  CAV-MAE Scale+  AudioSet-2M, from ImageNet
        audioset_20k  audio  37.7  CAV-MAE Scale+  AudioSet-2M, from ImageNet
        vggsound  joint  65.5  CAV-MAE Scale+  AudioSet-2M, from ImageNet
        vggsound  joint  65.9  CAV-MAE Scale+  AudioSet-2M and VGGSound, from ImageNet
        vggsound  audio  59.8  CAV-MAE Scale+  AudioSet-2M and VGGSound, from ImageNet
        """,
        "10 s of sound, single frames",
    ),
    *_numbers(
        "finetune",
        "https://arxiv.org/abs/2210.07839",
        "audioset  video  26.2  CAV-MAE Scale+  AudioSet-2M, from ImageNet",
        "single frames",
        quoted=True,
    ),
    *_numbers(
        "finetune",
        "https://github.com/google-research/scenic/tree/main/scenic/projects/av_mae",
        """
        audioset  joint  51.8  AV-MAE ViT-L  AudioSet-2M  trained on 508,994 recordings
        audioset  audio  46.6  AV-MAE ViT-L  AudioSet-2M  trained on 508,994 recordings
        audioset  video  31.1  AV-MAE ViT-L  AudioSet-2M  trained on 508,994 recordings
        vggsound  joint  65.0  AV-MAE ViT-L  VGGSound  trained on 172,427 recordings
        vggsound  audio  57.2  AV-MAE ViT-L  VGGSound  trained on 172,427 recordings
        vggsound  video  50.3  AV-MAE ViT-L  VGGSound  trained on 172,427 recordings
        """,
        "4 clips",
    ),
    *_numbers(
        "finetune",
        "https://github.com/facebookresearch/AudioMAE",
        """
        audioset  audio  47.3  AudioMAE ViT-B  AudioSet-2M
        audioset_20k  audio  37.0  AudioMAE ViT-B  AudioSet-2M
        """,
        "tested on 19,148 recordings",
    ),
    *_numbers(
        "finetune",
        "https://arxiv.org/abs/2212.08071",
        """
        audioset  joint  53.3  MAViL  AudioSet-2M, from ImageNet
        vggsound  joint  67.1  MAViL  AudioSet-2M, from ImageNet
        """,
    ),
    *_numbers(
        "finetune",
        "https://arxiv.org/abs/2403.09502",
        "vggsound  joint  67.1  EquiAV ViT-B  AudioSet-2M, from ImageNet",
        quoted=True,
    ),
    *_numbers(
        "finetune",
        "https://github.com/MCG-NJU/VideoMAE/blob/main/MODEL_ZOO.md",
        """
        kinetics400  video  80.9  VideoMAE ViT-B  Kinetics400  5 clips of 3 crops
        kinetics400  video  84.7  VideoMAE ViT-L  Kinetics400  5 clips of 3 crops
        something_something  video  70.6  VideoMAE ViT-B  Something-Something  2 clips of 3 crops
        """,
        "16 frames",
    ),
    *_numbers(
        "linear",
        "https://arxiv.org/abs/2505.01237",
        """
        audioset_20k  joint  30.5  CAV-MAE Sync  AudioSet-2M
        vggsound  joint  52.7  CAV-MAE Sync  AudioSet-2M
        """,
        "an attention layer in the head, by one of the accounts",
        quoted=True,
    ),
    *_numbers(
        "attentive",
        "https://github.com/facebookresearch/vjepa2",
        """
        something_something  video  73.7  V-JEPA 2 ViT-L  VideoMix22M  2 clips of 16 frames, 3 crops
        something_something  video  77.3  V-JEPA 2 ViT-g 384  VideoMix22M  2 of 64 frames, 3 crops
        """,
        "4 blocks",
    ),
    *_numbers(
        "attentive",
        "https://arxiv.org/abs/2506.09985",
        """
        kinetics400  video  85.1  V-JEPA 2 ViT-L  VideoMix22M
        kinetics400  video  86.6  V-JEPA 2 ViT-g  VideoMix22M
        kinetics400  video  87.3  V-JEPA 2 ViT-g 384  VideoMix22M
        """,
        "4 blocks",
        quoted=True,
    ),
    *_numbers(
        "attentive",
        "https://arxiv.org/abs/2606.25225",
        """
        audioset_20k  audio  38.89  MJEPA ViT-L  AudioSet-2M
        audioset_20k  video  25.38  MJEPA ViT-L  AudioSet-2M
        audioset_20k  joint  42.90  MJEPA ViT-L  AudioSet-2M
        audioset_20k  audio  34.25  EquiAV  AudioSet-2M, from ImageNet
        audioset_20k  video  18.60  EquiAV  AudioSet-2M, from ImageNet
        audioset_20k  joint  38.60  EquiAV  AudioSet-2M, from ImageNet
        audioset_20k  audio  19.38  CAV-MAE  AudioSet-2M, from ImageNet
        audioset_20k  video  18.14  CAV-MAE  AudioSet-2M, from ImageNet
        audioset_20k  joint  34.59  CAV-MAE  AudioSet-2M, from ImageNet
        audioset_20k  audio  21.66  CAV-MAE Sync  AudioSet-2M
        audioset_20k  video  16.20  CAV-MAE Sync  AudioSet-2M
        audioset_20k  joint  28.50  CAV-MAE Sync  AudioSet-2M
        """,
        "4 blocks",
        quoted=True,
    ),
    *_numbers(
        "retrieval",
        "https://arxiv.org/abs/2505.01237",
        """
        audioset  video  35.2  CAV-MAE Sync  AudioSet-2M
        audioset  audio  27.9  CAV-MAE Sync  AudioSet-2M
        vggsound  video  27.9  CAV-MAE Sync  AudioSet-2M
        vggsound  audio  23.2  CAV-MAE Sync  AudioSet-2M
        """,
        "among 5 recordings of each class",
        quoted=True,
    ),
    *_numbers(
        "retrieval",
        "https://arxiv.org/abs/2403.09502",
        "audioset  audio  29.6  EquiAV ViT-B  AudioSet-2M, from ImageNet",
        "among 5 recordings of each class",
        quoted=True,
    ),
    *_numbers(
        "retrieval",
        "https://github.com/facebookresearch/perception_models",
        "vggsound  video  48.3  PE-AV L  some 100M videos with captions",
        "among how many is not said",
    ),
)
