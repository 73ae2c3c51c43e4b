"""The device mesh of a run, the shardings of its arrays, and the transfer of batches to it.

All code is written for global arrays. The compiler splits the work by the shardings defined here,
so no other module names a device.
"""

import queue
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from input_pipeline.programs.wording import counted

# Axes that a batch is split over. `fsdp` is data parallelism that also splits the state.
BATCH_AXES = ("data", "fsdp")

# Rules (pattern of an array's path, axis that is split over `fsdp`); the first match counts. The
# paths of teachers and of the optimizer's moments end with the paths of their parameters. An array
# without a rule is whole on every device: biases, norms and tokens, a thousandth of the state.
FSDP_RULES = (
    # The axis of a layer's outputs, also if layers are stacked: a layer is gathered for its use.
    (r"/(kernel|prototypes|position_embedding)$", -1),
)


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes one mesh of all devices of all processes.

    Args:
        fsdp: Size of the axis `fsdp`; the axis `data` gets the rest.
        devices: Devices to use instead, such as those of a topology that a program is compiled for.

    Returns:
        A `Mesh` with axes `data` and `fsdp`, both of type Auto.

    Raises:
        ValueError: `fsdp` does not divide the number of devices.
    """
    count = len(devices) if devices is not None else jax.device_count()
    if fsdp < 1 or count % fsdp:
        allowed = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
        raise ValueError(
            f"config.parallel.fsdp is {fsdp}; allowed with {counted(count, 'device')}: {allowed}"
        )
    # Auto lets the compiler propagate shardings; jax.make_mesh now defaults to Explicit.
    return jax.make_mesh(
        (count // fsdp, fsdp),
        BATCH_AXES,
        axis_types=(AxisType.Auto,) * len(BATCH_AXES),
        devices=devices,
    )


def platform() -> str:
    """Returns the platform that the current program is for: "cpu", "gpu" or "tpu".

    This is the platform of the mesh in use (`jax.sharding.use_abstract_mesh`), whose devices need
    not be here, or without a mesh that of this process's devices.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def compute_dtype(name: str) -> jnp.dtype:
    """Returns the dtype of matrix products.

    Args:
        name: Name of the dtype, or "auto": float32 on CPUs, bfloat16 elsewhere.
    """
    if name == "auto":
        return jnp.dtype(jnp.float32 if platform() == "cpu" else jnp.bfloat16)
    return jnp.dtype(name)


def check_batch_size(
    batch_size: int, mesh: Mesh, field: str = "batch_size", accumulate: int = 1
) -> None:
    """Refuses a global batch size that the mesh cannot split evenly.

    Args:
        batch_size: Examples per step, over all devices and processes.
        mesh: Device mesh of the run.
        field: Field of the config that holds the batch size, for the message.
        accumulate: `config.parallel.accumulate`, the number of parts of each device's share.

    Raises:
        ValueError: The batch size does not split evenly. The message names the nearest that do.
    """
    unit = mesh.size * accumulate
    if batch_size > 0 and batch_size % unit == 0:
        return
    below = batch_size // unit * unit
    nearest = [size for size in (below, below + unit) if size > 0]
    parts = f" times config.parallel.accumulate={accumulate}" if accumulate > 1 else ""
    raise ValueError(
        f"config.{field}={batch_size} does not split evenly over "
        f"{counted(mesh.size, 'device')}{parts}; "
        f"the nearest allowed: {' or '.join(map(str, nearest[:2]))}."
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch's arrays: the first axis is split over all devices."""
    return NamedSharding(mesh, P(BATCH_AXES))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Returns the shardings of a state's leaves, by `FSDP_RULES`.

    Args:
        state: A pytree of arrays or `jax.ShapeDtypeStruct`.
        mesh: Device mesh of the run.

    Returns:
        A pytree of `NamedSharding` with the structure of `state`. An axis that `fsdp` does not
        divide is not split.
    """

    def sharding_of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axis = next((axis for rule, axis in FSDP_RULES if re.search(rule, name)), None)
        if axis is None or leaf.shape[axis] % mesh.shape["fsdp"]:
            return NamedSharding(mesh, P())
        spec = [None] * leaf.ndim
        spec[axis] = "fsdp"
        return NamedSharding(mesh, P(*spec))

    return jax.tree_util.tree_map_with_path(sharding_of, state)


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Adds shardings to shapes, and changes 64-bit dtypes to what JAX stores on devices.

    Args:
        shapes: Pytree whose leaves have a shape and a dtype.
        shardings: Pytree of shardings, of the same structure.

    Returns:
        Pytree of `jax.ShapeDtypeStruct`, to compile for.
    """
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(
            x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=s
        ),
        shapes,
        shardings,
    )


def by_example(activations: jax.Array, axis: int = 0) -> jax.Array:
    """Keeps activations split by example, so that the compiler gathers weights instead.

    If weights are split over `fsdp`, the compiler would by itself gather the activations of all
    examples, which are larger. Use this after each product with weights. It does nothing without a
    mesh with `fsdp` in use (`jax.sharding.use_abstract_mesh`).

    Args:
        activations: Array of any shape.
        axis: Axis of the examples.

    Returns:
        The activations.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get("fsdp", 1) == 1:
        return activations
    return jax.lax.with_sharding_constraint(activations, P(*[None] * axis, BATCH_AXES))


def row_major(activations: jax.Array) -> jax.Array:
    """Keeps activations and their gradient row by row in a GPU's memory.

    The compiler would by itself take the order of what they are made from, such as transposed
    positions or the scatter behind a shuffled sequence, and carry it through every residual sum,
    while products and attention need rows: each block would transpose its tokens four times. It
    does nothing on other platforms, or without a mesh in use (`jax.sharding.use_abstract_mesh`).

    Args:
        activations: Array of any shape, split by example on its first axis.

    Returns:
        The activations.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if platform() != "gpu" or mesh.empty or activations.shape[0] % mesh.size:
        return activations
    rows = Layout(tuple(range(activations.ndim)))
    # Each device for itself: the compiler does not split this operation, but would gather for it.
    by_batch = P(BATCH_AXES)
    return jax.shard_map(
        lambda x: with_layout_constraint(x, rows), mesh=mesh, in_specs=by_batch, out_specs=by_batch
    )(activations)


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Starts to copy a batch to the devices.

    Args:
        batch: A pytree of arrays `(B / processes, ...)`, this process's examples. Do not write to
            them afterwards: on CPUs the device reads them in place.
        mesh: Device mesh of the run, which divides `B`.

    Returns:
        The pytree of global arrays `(B, ...)`, split over the mesh on the first axis.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies a pytree of arrays, equal in all processes, to every device of a mesh."""
    sharding = NamedSharding(mesh, P())

    def put(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


class Prefetch:
    """Iterates over batches on the devices, which it copies there before the steps that use them.

    A thread reads the batches and starts their copies, so that reading, copying and computing
    overlap. An error of the source is raised in place of the batch. Use it as a context manager,
    which ends the thread.

    Args:
        batches: Iterates over this process's batches, see `put_batch`.
        mesh: Device mesh of the run.
        size: Number of batches on the devices besides the one in use.
    """

    def __init__(self, batches: Iterable[Any], mesh: Mesh, size: int = 2) -> None:
        self._queue = queue.Queue(maxsize=size)
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(batches, mesh), name="prefetch", daemon=True
        )
        self._thread.start()

    def _fill(self, batches: Iterable[Any], mesh: Mesh) -> None:
        end = StopIteration()
        try:
            for batch in batches:
                self._offer(put_batch(batch, mesh))
                if self._closing.is_set():
                    return
        except Exception as error:  # `__next__` raises it in the thread of the loop
            end = error
        self._offer(end)

    def _offer(self, item: Any) -> None:
        while not self._closing.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        item = self._queue.get()
        if isinstance(item, Exception):
            self._queue.put(item)  # the next call raises it again
            raise item
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
