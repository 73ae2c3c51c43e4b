"""The fields that the configs of all evaluations have in common.

As in `pretraining`: default, allowed values, meaning.
"""

from xkd_jax.config import pretraining
from xkd_jax.config.rules import PIXELS, SEED, SWITCH, TEXT, Rule, number, one_of, whole
from xkd_jax.config.schema import Field, Section
from xkd_jax.downstream import published

_PAPER = sorted({f"{n.dataset}/{n.protocol}" for n in published.numbers()})


def fields(task: str) -> Section:
    """The common fields of an evaluation, to be followed by those of its own.

    Args:
        task: Value of `config.task`.
    """
    base = pretraining.fields()
    config = Section()
    config.task = Field(task, one_of(task))
    config.seed = base.seed  # of all random draws, and of untrained weights
    # Result of the paper to print beside one's own, such as "ucf101/svm"; empty: none.
    config.paper = Field("", one_of("", *_PAPER))

    # The workdir of a run, one of its checkpoints, or what xkd_jax.interop.export or
    # xkd_jax.interop.import_release wrote.
    config.checkpoint = Field("", TEXT)
    config.network = Field("teacher", one_of("teacher", "student"))
    # Whether to use fresh weights of the same architecture instead, to compare with.
    config.untrained = Field(False, SWITCH)
    # Pixels, a multiple of the patch's; 0: as in pretraining. Positions are resized.
    config.frame_size = Field(0, whole(0, PIXELS))
    config.compute_dtype = base.compute_dtype
    # Clips at a time, over all devices and processes.
    config.batch_size = base.batch_size.with_default(64)
    config.data = labeled_data()
    return config


def labeled_data() -> Section:
    """The section `data`: labeled recordings, with the partitions that come with them."""
    base = pretraining.fields().data
    data = Section()
    # prepared: what `python -m input_pipeline.prepare` has made. folder: `<class>/<files>`, or
    # `<split>/<class>/<files>`. generated: moving shapes with sound, made on first use.
    data.dataset = base.dataset.with_default("prepared")
    data.path = base.path
    # Splits to train, test and choose on. Empty: what the data set has. These are its official
    # partitions, as for UCF101, HMDB51 and ESC-50; or train, test and, to choose on, val. Kinetics
    # is tested on val, as is usual. A folder has splits if it has train/ and one of test/ and val/,
    # or the like: Training/, Testing/, validation/. If there is nothing of the kind, a random part
    # is tested on.
    data.train_split = Field("", TEXT)
    data.test_split = Field("", TEXT)
    data.validation_split = Field("", TEXT)
    # Names of the official partitions to use, such as ("1",); (): all of them.
    data.partitions = Field(
        (),
        Rule(
            "(), or names such as ('1',)",
            lambda x: isinstance(x, tuple) and all(isinstance(name, str) and name for name in x),
        ),
    )
    # Share of all recordings in the random part, each class in proportion.
    data.test_share = Field(0.2, number(0.01, 0.5))
    # Share of the training recordings on which C, the epoch or k is chosen if there is no split for
    # that, in clips like those to test on.
    data.held_out = Field(0.2, number(0, 0.5))
    data.seed = Field(0, whole(0, SEED))  # of both random draws
    data.threads = base.threads
    data.prefetch = base.prefetch
    data.max_bad_fraction = base.max_bad_fraction
    # The generated data set: clips in each split, and the seed that they are a function of.
    generated = data.generated = Section()
    generated.train = Field(512, whole(2, 10**6))
    generated.test = Field(128, whole(1, 10**6))
    generated.val = base.generated.val
    generated.seed = base.generated.seed
    return data
