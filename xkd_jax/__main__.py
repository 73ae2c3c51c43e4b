"""`python -m xkd_jax` is the command `xkd`, where the package is not installed."""

from xkd_jax import command

command.run()
