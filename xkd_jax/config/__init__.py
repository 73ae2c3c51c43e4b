"""The fields of every task's config: default, allowed values and meaning. Imports no JAX."""
