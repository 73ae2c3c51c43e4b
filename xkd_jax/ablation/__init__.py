"""The paper's ablations: its rows as changes of a config, and what comes of running them."""
