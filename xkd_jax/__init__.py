"""XKD in JAX: pretraining, evaluation and pictures. Imports no TensorFlow."""
