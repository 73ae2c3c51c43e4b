"""The fields that the configs of all evaluations have in common.

As in `pretraining`: default, allowed values, meaning.
"""

from xkd_jax.config import pretraining
from xkd_jax.config.rules import PIXELS, SEED, SWITCH, TEXT, names, number, one_of, whole
from xkd_jax.config.schema import Field, Section
from xkd_jax.paper.tables import BENCHMARKS

_PAPER = sorted("/".join(benchmark) for benchmark in BENCHMARKS)


def fields(task: str) -> Section:
    """Returns the common fields, to which an evaluation adds its own.

    Args:
        task: Value of `config.task`.
    """
    base = pretraining.fields()
    config = Section()
    config.task = Field(task, one_of(task))
    config.seed = base.seed  # of all random draws, and of random weights
    # Result of the paper to print beside your own, such as "ucf101/svm"; empty: none.
    config.paper = Field("", one_of("", *_PAPER))

    # The workdir of a run, one of its checkpoints, or the output of xkd_jax.interop.export or
    # xkd_jax.interop.import_release.
    config.checkpoint = Field("", TEXT)
    config.network = Field("teacher", one_of("teacher", "student"))
    # Whether to use random weights of the same architecture instead, for comparison.
    config.untrained = Field(False, SWITCH)
    # Pixels, a multiple of the patch size; 0: as in pretraining. Position embeddings are resized.
    config.frame_size = Field(0, whole(0, PIXELS))
    config.compute_dtype = base.compute_dtype
    # Clips at a time, over all devices and processes.
    config.batch_size = base.batch_size.with_default(64)
    config.data = labeled_data()
    return config


def labeled_data() -> Section:
    """Returns the section `data`: labeled recordings, and their partitions."""
    base = pretraining.fields().data
    data = Section()
    # prepared: output of `python -m input_pipeline.prepare`. folder: `<class>/<files>`, or
    # `<split>/<class>/<files>`. generated: moving shapes with sound, made on first use.
    data.dataset = base.dataset.with_default("prepared")
    data.path = base.path
    # Splits for training, testing and choosing (C, k or the epoch). Empty: what the data have.
    # UCF101, HMDB51 and ESC-50 have official partitions. Other data have train, test, and val for
    # choosing; Kinetics is tested on val, as usual. A folder has splits if it has train/ and one of
    # test/ and val/, or similar names: Training/, Testing/, validation/. Data with none of these
    # are tested on a random part.
    data.train_split = Field("", TEXT)
    data.test_split = Field("", TEXT)
    data.validation_split = Field("", TEXT)
    # Official partitions to use, such as ("1",); (): all of them.
    data.partitions = Field((), names("1"))
    # Share of the recordings of each class in the random test part.
    data.test_share = Field(0.2, number(0.01, 0.5))
    # If there is no validation split, share of the training recordings on which C, k or the epoch
    # is chosen, with clips like those for testing. Then a probe trains on all of them.
    data.held_out = Field(0.2, number(0, 0.5))
    data.seed = Field(0, whole(0, SEED))  # of both random draws
    # What follows a sound that is shorter than a clip. repeat: the same from its beginning, as in
    # pretraining. silence: for audio alone, from prepared data.
    data.short_sound = Field("repeat", one_of("repeat", "silence"))
    data.threads = base.threads
    data.prefetch = base.prefetch
    data.max_bad_fraction = base.max_bad_fraction
    # Recordings in each split of the generated data, and the seed that determines them.
    generated = data.generated = Section()
    generated.train = Field(512, whole(2, 10**6))
    generated.test = Field(128, whole(1, 10**6))
    generated.val = base.generated.val
    generated.seed = base.generated.seed
    return data


def sampling() -> Field:
    """Returns the field of `data` that says how often each recording is trained on."""
    # uniform: once in an epoch. balanced: by the sum of the inverse frequencies of its classes, so
    # that an epoch, which is as long, holds all classes about equally often.
    return Field("uniform", one_of("uniform", "balanced"))


def modalities(name: str) -> tuple[str, ...]:
    """Returns the modalities that a config is for.

    Args:
        name: Argument of the config, as in `configs/eval/NAME.py:video`.

    Raises:
        ValueError: It is another word.
    """
    found = {"audio": ("audio",), "video": ("video",), "joint": ("video", "audio")}.get(name)
    if found is None:
        raise ValueError(f"no modality {name!r}; allowed: 'audio', 'video', 'joint'")
    return found


def is_release(recipe: str) -> bool:
    """Returns which details a config takes where paper and release differ.

    Args:
        recipe: Argument of the config, as in `configs/eval/NAME.py:release`: "paper" or "release".

    Raises:
        ValueError: It is another word.
    """
    if recipe not in ("paper", "release"):
        raise ValueError(f"no recipe {recipe!r}; allowed: 'paper', 'release'")
    return recipe == "release"
