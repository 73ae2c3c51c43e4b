"""From media files to batches, on tf.data. Imports no JAX."""

import os

# TensorFlow imports Keras, which nothing here uses, and with it scikit-learn: a third of the time
# it takes. Told to use the former Keras, which is not installed, it imports neither.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
