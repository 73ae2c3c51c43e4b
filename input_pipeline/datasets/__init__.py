"""How data sets lie on disk, and the function that opens the configured one."""

import ml_collections

from input_pipeline import data_folders
from input_pipeline.sources import ClipSource

DATASETS = ("folder", "generated", "prepared")


def open_dataset(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool = True
) -> ClipSource:
    """Opens the source that `data.dataset` names.

    Args:
        data: `data` section of the config (xkd_jax/config/pretraining.py).
        views: `views` section of the config: length, frame rate, size and sample rate of the clips.
        picture: Whether every recording must have a picture. If so, prepared data with recordings
            that have none are refused; every file of a folder has one.

    Returns:
        The source. Its files are scanned, and at least one is usable.

    Raises:
        ValueError: `data.dataset` is unknown, `data.path` holds nothing usable, or the sets of a
            mixture do not go together.
        FileNotFoundError: `data.path` does not exist.
    """
    data_folders.check(data)
    # Imported here: `python -m input_pipeline.datasets.generated` must not find itself loaded.
    if data.dataset == "folder":
        from input_pipeline.datasets import folder

        return folder.open_folder(data, views)
    if data.dataset == "generated":
        from input_pipeline.datasets import generated

        return generated.open_generated(data, views)
    if data.dataset == "prepared":
        from input_pipeline.datasets import prepared

        return prepared.open_prepared(data, views, picture)
    raise ValueError(
        f"config.data.dataset is {data.dataset!r}; allowed: {', '.join(map(repr, DATASETS))}"
    )
