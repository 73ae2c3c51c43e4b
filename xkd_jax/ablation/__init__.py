"""The paper's ablations: rows as changes of a config, plans of runs, and tables of results."""
