"""From media files to batches, on tf.data. Imports no JAX."""
