"""Tracing for a GPU that is not here: what JAX asks of the device is answered, nothing else."""

import contextlib

import jax
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from xkd_jax import sharding

# The oldest GPU that computes in bfloat16, which has the strictest rules.
CAPABILITY = (8, 0)
CUDNN_VERSION = 91000


def mesh():
    """One GPU of no name."""
    device = jax.sharding.AbstractDevice(device_kind="any", num_cores=1, platform="gpu")
    return jax.sharding.AbstractMesh((1, 1), sharding.BATCH_AXES, abstract_device=device)


@contextlib.contextmanager
def rules(monkeypatch):
    """All that is traced inside is for a GPU, by the rules of cuDNN as JAX has them."""

    def numbers(capability):
        return tuple(int(n) for n in capability.split("."))

    with monkeypatch.context() as patch:
        patch.setattr(cudnn, "check_cudnn_version", lambda: CUDNN_VERSION)
        patch.setattr(cudnn, "check_compute_capability", lambda c: numbers(c) <= CAPABILITY)
        patch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda c: numbers(c) == CAPABILITY)
        with jax.sharding.use_abstract_mesh(mesh()):
            yield
