"""The `data` section of all evaluations, and the one place where its fields are documented."""

import ml_collections


def section(dataset: str) -> ml_collections.ConfigDict:
    """Labelled data of some kind, with the partitions that come with them.

    Args:
        dataset: prepared, folder or generated.
    """
    data = ml_collections.ConfigDict()
    # prepared: what `python -m input_pipeline.prepare` has made. folder: `<class>/<files>`, or
    # `<split>/<class>/<files>`. generated: moving shapes with sound, made on first use.
    data.dataset = dataset
    data.path = ""
    # Splits to train, test and choose on. Empty: what the data set has. That is its official
    # partitions, as of UCF101, HMDB51 and ESC-50; or train, test and, for choosing, val, of which
    # Kinetics, as is usual, is tested on val. A folder has splits if it has train/ and one of test/
    # and val/, or the like: Training/, Testing/, validation/. Where there is nothing of the kind, a
    # random part is tested on.
    data.train_split = ""
    data.test_split = ""
    data.validation_split = ""
    # Which of the official partitions, such as ("1",); (): all of them.
    data.partitions = ()
    # Share of all recordings that the random part is, each class in proportion.
    data.test_share = 0.2
    # Share of the training recordings on which C, the epoch or k is chosen, where there is no split
    # for that, in clips like those to test on; the choice made, all of them are trained on.
    data.held_out = 0.2
    # Of both random draws.
    data.seed = 0
    # Decoding threads; 0: one a core. Batches made ahead. Neither changes the data.
    data.threads = 0
    data.prefetch = 2
    # Of a folder, the share of unusable files above which nothing is begun.
    data.max_bad_fraction = 0.5
    # The generated data set's clips in each split, and what they are a function of.
    data.generated = ml_collections.ConfigDict({"train": 512, "test": 128, "val": 0, "seed": 0})
    return data
