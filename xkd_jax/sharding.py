"""Where arrays live: one mesh for the whole run, and the way of a batch onto it.

Everything is written on global arrays. The compiler splits the work by the shardings given here, so
no other module names a device.
"""

import queue
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# A batch is split over both: `fsdp` is data parallelism that also splits the state.
BATCH_AXES = ("data", "fsdp")

# Which axis of a state's array is split over `fsdp`, by its path, the first rule that fits; the
# paths of teachers and of the optimizer's moments end with those of their parameters. What no rule
# fits is whole on every device: biases, norms and tokens, a thousandth of the whole.
FSDP_RULES = (
    # Of a layer's outputs, of a stacked layer as well: each layer is gathered when it is used.
    (r"/(kernel|prototypes|position_embedding)$", -1),
)


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays all devices of all processes out as one mesh.

    Args:
        fsdp: Size of the `fsdp` axis; `data` gets the rest.
        devices: Others than those, such as a topology's that a program is compiled for.

    Returns:
        A `Mesh` with axes `data` and `fsdp`, both of type Auto.

    Raises:
        ValueError: If `fsdp` does not divide the number of devices.
    """
    count = len(devices) if devices is not None else jax.device_count()
    if fsdp < 1 or count % fsdp:
        allowed = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
        raise ValueError(f"config.parallel.fsdp is {fsdp}; allowed with {count} devices: {allowed}")
    # Auto lets the compiler propagate shardings; jax.make_mesh now defaults to Explicit.
    return jax.make_mesh(
        (count // fsdp, fsdp),
        BATCH_AXES,
        axis_types=(AxisType.Auto,) * len(BATCH_AXES),
        devices=devices,
    )


def platform() -> str:
    """cpu, gpu or tpu: what the program under way is for.

    Of the devices of the mesh in use (`jax.sharding.use_abstract_mesh`), which may be elsewhere;
    without one, of this process's.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def check_batch_size(
    batch_size: int, mesh: Mesh, field: str = "batch_size", accumulate: int = 1
) -> None:
    """Refuses a global batch that the mesh cannot split evenly.

    Args:
        batch_size: Examples a step, over all devices and processes.
        mesh: The mesh of the run.
        field: Of the config, which says that.
        accumulate: `config.parallel.accumulate`, the parts that a device takes its share in.

    Raises:
        ValueError: If the mesh does not divide it; names the nearest sizes that it does divide.
    """
    unit = mesh.size * accumulate
    if batch_size > 0 and batch_size % unit == 0:
        return
    below = batch_size // unit * unit
    nearest = [size for size in (below, below + unit) if size > 0]
    parts = f" times config.parallel.accumulate={accumulate}" if accumulate > 1 else ""
    raise ValueError(
        f"config.{field}={batch_size} does not split evenly over {mesh.size} devices{parts}; "
        f"the nearest allowed: {' or '.join(map(str, nearest[:2]))}."
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch's arrays: their first axis is split over all devices."""
    return NamedSharding(mesh, P(BATCH_AXES))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """The shardings of a state's leaves, by `FSDP_RULES`.

    Args:
        state: A pytree of arrays or `jax.ShapeDtypeStruct`.
        mesh: The mesh of the run.

    Returns:
        A pytree of `NamedSharding` with the structure of `state`. An axis that `fsdp` does not
        divide is left whole.
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


def placed(shapes: Any, shardings: Any) -> Any:
    """Shapes of arrays on devices, in the dtypes that these hold: what to compile for.

    Args:
        shapes: A pytree of what has a shape and a dtype.
        shardings: Likewise, of shardings.
    """
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(
            x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=s
        ),
        shapes,
        shardings,
    )


def by_example(activations: jax.Array, axis: int = 0) -> jax.Array:
    """Keeps activations split by example where weights are split too, so that those are gathered.

    Left to itself, the compiler leaves a layer's weights where they are, and gathers all examples'
    activations instead, which are more. To be used after each product with weights; it does nothing
    but in a program for a mesh with `fsdp`, that of `jax.sharding.use_abstract_mesh`.

    Args:
        activations: Of any shape.
        axis: That of the examples.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get("fsdp", 1) == 1:
        return activations
    return jax.lax.with_sharding_constraint(activations, P(*[None] * axis, BATCH_AXES))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Starts a batch's way to the devices.

    Args:
        batch: A pytree of arrays `(B / processes, ...)`, this process's examples. They must not be
            written to afterwards: on CPU the device reads them in place.
        mesh: The mesh of the run, which divides `B`.

    Returns:
        The pytree of global arrays `(B, ...)`, split over the mesh on the first axis.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a pytree of arrays, the same ones in each process, whole on every device of a mesh."""
    sharding = NamedSharding(mesh, P())

    def put(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


class Prefetch:
    """Iterates over batches on the devices, kept in flight ahead of the step that uses them.

    A thread takes batches from their source and starts their copies, so that reading, copying and
    computing overlap. An error of the source is raised where its batch would have come. Use it as a
    context manager: leaving it ends the thread.

    Args:
        batches: An iterator of this process's batches, see `put_batch`.
        mesh: The mesh of the run.
        size: Batches held on the devices beyond the one in use.
    """

    def __init__(self, batches: Iterable[Any], mesh: Mesh, size: int = 2):
        self._queue = queue.Queue(maxsize=size)
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(batches, mesh), name="prefetch", daemon=True
        )
        self._thread.start()

    def _fill(self, batches, mesh):
        end = StopIteration()
        try:
            for batch in batches:
                self._offer(put_batch(batch, mesh))
                if self._closing.is_set():
                    return
        except Exception as error:  # whatever it is, the loop's thread has to hear of it
            end = error
        self._offer(end)

    def _offer(self, item):
        while not self._closing.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def __iter__(self):
        return self

    def __next__(self):
        item = self._queue.get()
        if isinstance(item, Exception):
            self._queue.put(item)  # the end stays the end, however often one asks
            raise item
        return item

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._thread.join()
