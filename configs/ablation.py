"""One method of the paper's tables and ablations, on Kinetics400.

    python -m xkd_jax.main --config=configs/ablation.py:list
    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/ablation.py:da1 --config.data.path=DATA --workdir=RUN

The first command prints the name and the paper's numbers of every row. Without a name, the config
is the default of appendix B. Data, model and hardware are those of configs/k400.py. Rows of Tables
1 to 9, S15 and S16 have 800 epochs, and 400 on AudioSet. Rows of Tables S8 to S14 have 400 epochs
and appendix B's teacher temperatures, 0.04 to 0.06 for both modalities. Numbers shown with a row,
such as 53.5 on HMDB51 without refinement, are the paper's, not ours. Evaluate `student`, `mas` and
`mats_student` with --config.network=student. `python -m xkd_jax.ablate` runs rows on any config
(docs/ablations.md).
"""

import ml_collections

from configs import k400
from xkd_jax.ablation import selection
from xkd_jax.paper import rows


def get_config(name: str = "default") -> ml_collections.ConfigDict | str:
    """Returns the config of a row, or, for `list`, a text that lists all rows."""
    if name == "list":
        # Imported here, because it imports libraries for tables that training does not need.
        from xkd_jax.ablation import listing

        return listing.text()
    if name not in rows.ROWS:
        raise ValueError(f"no ablation {name!r}: {selection.unknown(name, (*rows.ROWS, 'list'))}")
    config = k400.get_config()
    config.update_from_flattened_dict(rows.recipe_of(name))
    config.update_from_flattened_dict(rows.changed(config, rows.ROWS[name]))
    return config
