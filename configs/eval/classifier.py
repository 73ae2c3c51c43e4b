"""The `classifier` section of the probes' configs, and the documentation of its fields."""

import ml_collections


def section(name: str) -> ml_collections.ConfigDict:
    """Returns the section, with the paper's values for Kinetics400.

    Args:
        name: Classifier: "svm", "linear" or "knn".
    """
    classifier = ml_collections.ConfigDict()
    # svm: scikit-learn's LinearSVC on unscaled features. linear: one linear layer with a softmax,
    # or with sigmoids if recordings have several classes. knn: nearest neighbors by cosine
    # similarity, which the paper does not use.
    classifier.name = name

    svm = classifier.svm = ml_collections.ConfigDict()
    svm.c = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # values to try; one of them is chosen
    svm.max_iterations = 1000
    # Values of C to fit at the same time; 0: one per core. Each takes six times the memory of all
    # features, for copies of them.
    svm.jobs = 0

    linear = classifier.linear = ml_collections.ConfigDict()
    linear.learning_rate = 0.01  # of AdamW
    linear.schedule = "cosine"  # cosine, to 0 at the end | constant
    linear.weight_decay = 0.01
    linear.dropout = 0.0  # of the features
    linear.batch_size = 512  # clips
    linear.epochs = 20  # upper limit; the epoch to stop after is chosen

    knn = classifier.knn = ml_collections.ConfigDict()
    knn.k = (5, 10, 20, 50, 100, 200)  # values to try; one of them is chosen
    # Temperature of the softmax over cosines that weights the neighbors' votes (DINO, arXiv
    # 2104.14294).
    knn.temperature = 0.07
    return classifier
