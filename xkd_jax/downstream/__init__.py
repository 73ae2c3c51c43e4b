"""Every evaluation of the paper: features, classifiers on them, finetuning, and their results."""
