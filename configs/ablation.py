"""One row of the paper's ablations, on Kinetics400.

    python -m xkd_jax.main --config=configs/ablation.py:list
    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/ablation.py:da1 --config.data.path=DATA --workdir=RUN

The first command prints the name and the paper's numbers of every row. Without a name, the config
is the ablations' default. Data, model and hardware are those of configs/k400.py; a run has the
ablations' 400 epochs. Rows of appendix B use its teacher temperatures, 0.04 to 0.06 for both
modalities. Numbers shown with a row, such as 53.5 on HMDB51 without refinement, are the paper's,
not ours. Evaluate `student` and `mas` with --config.network=student. `python -m xkd_jax.ablate`
runs rows on any config (docs/ablations.md).
"""

import ml_collections

from configs import k400, k400_mas, k400_mats
from xkd_jax.ablation import rows

# The shipped recipe of each variant.
_VARIANTS = {"xkd": k400, "xkd_mas": k400_mas, "xkd_mats": k400_mats}


def get_config(name: str = "default") -> ml_collections.ConfigDict | str:
    """Returns the config of a row, or, for `list`, a text that lists all rows."""
    if name == "list":
        # Imported here, because it imports libraries for tables that training does not need.
        from xkd_jax.ablation import listing

        return listing.text()
    if name not in rows.ROWS:
        raise ValueError(f"no ablation {name!r}: {rows.unknown(name, (*rows.ROWS, 'list'))}")
    row = rows.ROWS[name]
    config = _VARIANTS[row.changes.get("model.variant", "xkd")].get_config()
    config.update_from_flattened_dict(rows.STUDIES[rows.study_of(name)].recipe)
    config.update_from_flattened_dict(rows.changed(config, row))
    return config
