"""A row of the paper's ablations, on Kinetics400.

    python -m xkd_jax.main --config=configs/ablation.py:list
    python -m input_pipeline.prepare --dataset=kinetics400 --source=K400 --output=DATA
    python -m xkd_jax.main --config=configs/ablation.py:da1 --config.data.path=DATA --workdir=RUN

The first prints the names of all rows, and the paper's numbers of each; without a name, it is the
ablations' default. Data, model and hardware as
configs/k400.py, for the ablations' 400 epochs; the rows of appendix B with its teacher
temperatures, 0.04 to 0.06 for both. The paper's number of a row, such as 53.5 on HMDB51 without
refinement, is the paper's, not ours. `student` and `mas` are evaluated with
--config.network=student. `python -m xkd_jax.ablate` runs rows on any config (docs/ablations.md).
"""

from configs import k400, k400_mas, k400_mats
from xkd_jax.ablation import rows

# Where a variant is shipped with a recipe of its own.
_VARIANTS = {"xkd": k400, "xkd_mas": k400_mas, "xkd_mats": k400_mats}


def get_config(name: str = "default"):
    """The config of a row by its name; for `list`, all of them as text."""
    if name == "list":
        # Here and not above: it brings in what draws tables, which training does not need.
        from xkd_jax.ablation import listing

        return listing.text()
    if name not in rows.ROWS:
        raise ValueError(f"no ablation {name!r}: {rows.unknown(name, (*rows.ROWS, 'list'))}")
    row = rows.ROWS[name]
    config = _VARIANTS[row.changes.get("model.variant", "xkd")].get_config()
    config.update_from_flattened_dict(rows.STUDIES[rows.study_of(name)].recipe)
    config.update_from_flattened_dict(rows.changed(config, row))
    return config
