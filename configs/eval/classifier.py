"""The `classifier` section of probes, and the one place where its fields are documented."""

import ml_collections


def section(name: str) -> ml_collections.ConfigDict:
    """A classifier on features, with the paper's numbers for Kinetics400.

    Args:
        name: svm, linear or knn.
    """
    classifier = ml_collections.ConfigDict()
    # svm: scikit-learn's LinearSVC on features as they are. linear: one linear layer, with a
    # softmax, or sigmoids where recordings are of several classes. knn: the nearest clips by
    # cosine, which the paper has not.
    classifier.name = name

    svm = classifier.svm = ml_collections.ConfigDict()
    svm.c = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # tried; one of them is chosen
    svm.max_iterations = 1000
    # Values of C fitted at the same time, each with copies of all features that take six times
    # their memory; 0: one a core.
    svm.jobs = 0

    linear = classifier.linear = ml_collections.ConfigDict()
    linear.learning_rate = 0.01  # AdamW's
    linear.schedule = "cosine"  # to 0 at the end | constant
    linear.weight_decay = 0.01
    linear.dropout = 0.0  # of the features
    linear.batch_size = 512  # clips
    linear.epochs = 20  # at most; the one after which to stop is chosen

    knn = classifier.knn = ml_collections.ConfigDict()
    knn.k = (5, 10, 20, 50, 100, 200)  # tried; one of them is chosen
    # Neighbors vote with the softmax of their cosine over this (DINO, arXiv 2104.14294).
    knn.temperature = 0.07
    return classifier
