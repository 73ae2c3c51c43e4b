"""All evaluations of the paper: classifiers on features, finetuning, and their results."""
