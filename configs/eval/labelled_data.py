"""The `data` section of the evaluations' configs, and the documentation of its fields."""

import ml_collections


def section(dataset: str) -> ml_collections.ConfigDict:
    """Returns the section.

    Args:
        dataset: Kind of data: "prepared", "folder" or "generated".
    """
    data = ml_collections.ConfigDict()
    # prepared: output of `python -m input_pipeline.prepare`. folder: `<class>/<files>`, or
    # `<split>/<class>/<files>`. generated: moving shapes with sound, made on first use.
    data.dataset = dataset
    data.path = ""
    # Splits for training, testing and choosing (C, k or the epoch). Empty: what the data have.
    # UCF101, HMDB51 and ESC-50 have official partitions. Other data have train, test, and val for
    # choosing; Kinetics is tested on val, as usual. A folder has splits if it has train/ and one of
    # test/ and val/, or similar names: Training/, Testing/, validation/. Data with none of these
    # are tested on a random part.
    data.train_split = ""
    data.test_split = ""
    data.validation_split = ""
    # Official partitions to use, such as ("1",); (): all of them.
    data.partitions = ()
    # Share of the recordings of each class in the random test part.
    data.test_share = 0.2
    # If there is no validation split, share of the training recordings on which C, k or the epoch
    # is chosen, with clips like those for testing. Then a probe trains on all of them.
    data.held_out = 0.2
    # Seed of both random draws.
    data.seed = 0
    # Decoding threads (0: one per core), and batches prepared ahead. Neither changes the data.
    data.threads = 0
    data.prefetch = 2
    # Share of unusable files in a folder above which the evaluation refuses to start.
    data.max_bad_fraction = 0.5
    # Recordings in each split of the generated data, and the seed that determines them.
    data.generated = ml_collections.ConfigDict({"train": 512, "test": 128, "val": 0, "seed": 0})
    return data
