"""How XLA compiles in the tests: in half the time, to slower code, which hardly runs."""

ONE_DEVICE = "--xla_backend_optimization_level=0"
# Eight, so that what only works on one does not pass.
EIGHT_DEVICES = f"{ONE_DEVICE} --xla_force_host_platform_device_count=8"
