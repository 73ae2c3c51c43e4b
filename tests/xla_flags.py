"""XLA's flags in the tests: programs compile in a third of the time, to slower code."""

ONE_DEVICE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
# As a user's programs are compiled, for one program of a test: `compile(compiler_options=SHIPPED)`.
SHIPPED = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
# Eight devices: what works on one device only must fail. XLA ends a program whose devices have
# waited for each other for 40 s; where other programs have the cores, they may need longer.
EIGHT_DEVICES = (
    f"{ONE_DEVICE} --xla_force_host_platform_device_count=8"
    " --xla_cpu_collective_call_terminate_timeout_seconds=300"
)
