"""Parallel strategies: how training is distributed over devices, chosen by `config.parallel`.

`Mesh` and `Pmap` have the same interface and run the same `TrainStep`; they differ in batch norm
and in dropout masks, as documented in `Pmap`. A batch is split over all devices of all processes.
Every process supplies its own rows of the batch, and runs the same program.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from perceiver_io.axes import DATA, FSDP, SEQUENCE, shard_spec
from perceiver_io.config.annotations import Count
from perceiver_io.errors import UserError
from perceiver_io.training.state import TrainState, map_names, num_stacked
from perceiver_io.training.step import Gradients, TrainStep


class Mesh:
    """One program for all devices, using `jit` over a named mesh. The default.

    The state is replicated, or, with `fsdp` > 1, split into that many shards, each parameter along
    its longest suitable axis (fully sharded data parallelism). Loss and gradient are those of the
    global batch; batch norm uses the statistics of a microbatch over all devices. The compiler
    inserts the communication, except that of cross-attends whose inputs are split, see
    `perceiver_io.models.sequence`.

    Attributes:
        num_replicas: the number of parts of a batch that are augmented independently.
        num_batch_shards: the number of parts of a batch that are on different devices.
        splits_examples: whether each example, too, is split over devices.
    """

    num_replicas = 1

    def __init__(
        self,
        devices: Sequence[jax.Device] | None = None,
        /,
        *,
        fsdp: Count = 1,
        sequence: Count = 1,
    ):
        """Makes the mesh.

        Args:
            devices: of the mesh; None for all. Those of a machine that one does not have can be
                compiled for.
            fsdp: the number of shards of each parameter; 1 replicates the parameters.
            sequence: the number of devices of one host that share an example, each with a part of
                its inputs and outputs; for Perceivers.

        Raises UserError if the number of devices is not a multiple of `fsdp` times `sequence`, or
        devices that share an example are not all of one host.
        """
        devices = jax.devices() if devices is None else devices
        num_devices = len(devices)
        if num_devices % fsdp:
            raise UserError(
                f"config.parallel.fsdp is {fsdp}, but there are {num_devices} devices, which is "
                "not a multiple of it. Set --config.parallel.fsdp to a divisor of "
                f"{num_devices} (1 replicates the parameters), or use more devices."
            )
        self.num_batch_shards = num_devices // sequence
        if num_devices % (fsdp * sequence):
            raise UserError(
                f"config.parallel.sequence is {sequence} and config.parallel.fsdp {fsdp}, but "
                f"there are {num_devices} devices, which is not a multiple of their product. Set "
                "--config.parallel.sequence to 1, which does not split examples, or to another "
                f"divisor of {num_devices // fsdp}."
            )
        shape = (self.num_batch_shards // fsdp, fsdp, sequence)
        self._fsdp, self._sequence = fsdp, sequence
        types = (AxisType.Auto,) * 3
        self._mesh = jax.sharding.Mesh(arranged(devices, shape), (DATA, FSDP, SEQUENCE), types)
        self._replicated = self._sharding()
        self._rows = self._sharding((DATA, FSDP))
        check_groups(self._mesh.devices)

    @property
    def splits_examples(self) -> bool:
        """Whether each example is split over devices."""
        return self._sequence > 1

    def template(self, shapes: PyTree) -> PyTree:
        """Adds to the shapes (`ShapeDtypeStruct`s) of a state the sharding of each array."""

        def place(name, x):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._cut(name, x.shape))

        return map_names(place, shapes)

    def batch_template(self, shapes: PyTree) -> PyTree:
        """Adds shardings to the shapes of a global batch, for compilation without data."""

        def place(x):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._parts(x.shape))

        return jax.tree.map(place, shapes)

    def adopt(self, state: TrainState) -> TrainState:
        """Converts a state, sharded as in `template`, to the form that compiled steps take."""
        return state

    def snapshot(self, state: TrainState) -> TrainState:
        """Converts a state to the form that checkpoints store."""
        return state

    def place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts this process's rows of a batch on its devices, as part of the global batch."""

        def put(x):
            return jax.make_array_from_process_local_data(self._parts(x.shape), x)

        return jax.tree.map(put, batch)

    def compile_train(self, step: TrainStep, state: TrainState) -> jax.stages.Wrapped:
        """`(state, batch) -> (state, metrics)` for states like the given one; donates the state."""

        def train(state, batch):
            with self._known_to_models():
                return step.update(state, step.gradients(state, batch))

        shardings = jax.tree.map(lambda x: x.sharding, state)
        return jax.jit(train, donate_argnums=0, out_shardings=(shardings, self._replicated))

    def compile_evaluation(self, step: Callable) -> Callable:
        """Compiles an evaluation `(params, model_state, batch) -> (sums, predictions, outputs)`.

        Sums over the batch and predictions [B, ...] are replicated; outputs [B, ...] are sharded
        like the batch.
        """

        def evaluate(params, model_state, batch):
            with self._known_to_models():
                return step(params, model_state, batch)

        return jax.jit(evaluate, out_shardings=(self._replicated, self._replicated, self._rows))

    def compile_summary(self, function: Callable[[PyTree], PyTree]) -> Callable:
        """Compiles a function of parameters or state that gives little, to be fetched."""
        return jax.jit(function, out_shardings=self._replicated)

    def replica(self, tree: PyTree) -> PyTree:
        """Whole parameters or state on a device of each process; all processes must call it.

        They are sent from device to device, and have to fit onto one.
        """
        whole = jax.jit(lambda x: x, out_shardings=self._replicated)(tree)
        return jax.tree.map(lambda x: x.addressable_data(0), whole)

    def fetch(self, tree: PyTree) -> PyTree:
        """Gathers whole arrays on every host: not for parameters. All processes must call it."""
        return jax.tree.map(_whole, tree)

    def fetch_rows(self, tree: PyTree) -> PyTree:
        """This process's rows of arrays [B, ...]."""
        return jax.tree.map(lambda x: np.concatenate(_local_shards(x)), tree)

    def _known_to_models(self) -> contextlib.AbstractContextManager:
        """A context for tracing, in which models split examples and bring parameters together."""
        if self._fsdp * self._sequence == 1:
            return contextlib.nullcontext()
        return jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh)

    def _parts(self, shape: tuple[int, ...]) -> NamedSharding:
        """How an array [B, ...] of a batch is split: along B, and the first axis that divides."""
        if not self.splits_examples:
            return self._rows
        axes = (axis for axis in range(1, len(shape)) if shape[axis] % self._sequence == 0)
        axis = next(axes, None)
        if axis is None:
            return self._rows
        return self._sharding((DATA, FSDP), *(None,) * (axis - 1), SEQUENCE)

    def _sharding(self, *axes: Any) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    def _cut(self, name: str, shape: tuple[int, ...]) -> NamedSharding:
        """How an array of the state is split."""
        return self._sharding(*shard_spec(shape, self._fsdp, num_stacked(name)))


class Pmap:
    """A replica of the state on each device, using `pmap`, as in the published experiments.

    The elements of each loss term are counted over all devices; then each device computes its share
    of loss and gradient, and the shares are summed. The result equals that of `Mesh`, whatever
    elements each device covers, except that batch norm normalises with the statistics of each
    device's own examples, not of the global batch. Running statistics are averaged, so that
    replicas never differ. Dropout masks are different from those under `Mesh`.

    Attributes:
        num_replicas: as for `Mesh`; here the number of devices.
        num_batch_shards: likewise.
    """

    _AXIS = "replicas"
    splits_examples = False

    def __init__(self):
        self._whole = Mesh(fsdp=1)
        self._num_local = jax.local_device_count()
        self.num_replicas = self.num_batch_shards = jax.device_count()

    def template(self, shapes: PyTree) -> PyTree:
        """As `Mesh.template`, with every array replicated."""
        return self._whole.template(shapes)

    def adopt(self, state: TrainState) -> TrainState:
        """Adds a leading axis of replicas to the state."""
        state = jax.tree.map(lambda x: x.addressable_data(0), state)
        copy = jax.pmap(lambda _, state: state, in_axes=(0, None))
        return copy(np.arange(self._num_local), state)

    def snapshot(self, state: TrainState) -> TrainState:
        """The first replica, on the host."""
        return self.fetch(state)

    def place(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds a leading axis of local devices to the batch."""
        return jax.tree.map(lambda x: x.reshape(self._num_local, -1, *x.shape[1:]), batch)

    def compile_train(self, step: TrainStep, state: TrainState) -> Callable:
        """As `Mesh.compile_train`."""

        def train(state, batch):
            counts = jax.lax.psum(step.counts(batch), self._AXIS)
            replica = jax.lax.axis_index(self._AXIS)
            share = step.share(state, batch, counts, replica)
            return step.update(state, self._add_up(share))

        return jax.pmap(train, axis_name=self._AXIS, donate_argnums=0)

    def compile_evaluation(self, step: Callable) -> Callable:
        """As `Mesh.compile_evaluation`."""

        def evaluate(params, model_state, batch):
            sums, predictions, outputs = step(params, model_state, batch)
            predictions = jax.lax.all_gather(predictions, self._AXIS, tiled=True)
            return jax.lax.psum(sums, self._AXIS), predictions, outputs

        return jax.pmap(evaluate, axis_name=self._AXIS)

    def compile_summary(self, function: Callable[[PyTree], PyTree]) -> Callable:
        """As `Mesh.compile_summary`."""
        return jax.pmap(function, axis_name=self._AXIS)

    def replica(self, tree: PyTree) -> PyTree:
        """As `Mesh.replica`."""
        return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)

    def fetch(self, tree: PyTree) -> PyTree:
        """As `Mesh.fetch`; takes the first replica, since all are equal."""
        return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)

    def fetch_rows(self, tree: PyTree) -> PyTree:
        """As `Mesh.fetch_rows`."""
        return jax.tree.map(
            lambda x: np.concatenate([shard[0] for shard in _local_shards(x)]), tree
        )

    def _add_up(self, share: Gradients) -> Gradients:
        """The gradients of the whole batch from the replicas' shares."""

        def mean(x):
            # Integers in the model's state are counters, which are equal on all replicas.
            return jax.lax.pmean(x, self._AXIS) if jnp.issubdtype(x.dtype, jnp.inexact) else x

        params, terms = jax.lax.psum(share[:2], self._AXIS)
        return Gradients(params, terms, jax.tree.map(mean, share.model_state))


Strategy = Mesh | Pmap
STRATEGIES = {"mesh": Mesh, "pmap": Pmap}


def make(initialise: Callable[..., PyTree], template: PyTree, *arguments: PyTree) -> PyTree:
    """`initialise(*arguments)`, computed with the shardings of the template.

    No device ever holds more than its shard. Pass arrays as arguments: an array that a compiled
    function closes over becomes a constant in it.
    """
    shardings = jax.tree.map(lambda x: x.sharding, template)
    return jax.jit(initialise, out_shardings=shardings)(*arguments)


def local_batch_size(batch_size: int, accumulate: int, num_shards: int) -> int:
    """The number of examples of a training batch that this process supplies.

    Raises UserError unless every microbatch divides evenly into a strategy's `num_batch_shards`.
    """
    step = num_shards * accumulate
    if batch_size % step or batch_size < 1:
        lower = batch_size // step * step
        near = " or ".join(str(size) for size in (lower, lower + step) if size > 0)
        raise UserError(
            f"config.training.batch_size is {batch_size}, which does not divide evenly over "
            f"{num_shards} devices times config.training.accumulate={accumulate} microbatches. Use "
            f"a multiple of {step}, such as {near or step}."
        )
    return batch_size // jax.process_count()


def arranged(devices: Sequence[jax.Device], shape: tuple[int, ...]) -> np.ndarray:
    """The devices as an array in which neighbours are close to each other, whatever its shape.

    Unlike in `jax.make_mesh`, an axis may be a part of one of the slice's, as 8 is in 4x4x4.
    """
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


def check_groups(devices: np.ndarray) -> None:
    """Raises UserError unless devices along the last axis, which share examples, are of one host.

    A host reads whole examples.
    """
    sequence = devices.shape[-1]
    groups = devices.reshape(-1, sequence)
    if any(len({device.process_index for device in group}) > 1 for group in groups):
        raise UserError(
            f"config.parallel.sequence is {sequence}, but some groups of that many devices are on "
            "several hosts, and a host reads whole examples. Set it to a divisor of the number of "
            "devices of a host."
        )


def _whole(x: jax.Array) -> np.ndarray:
    if x.is_fully_replicated or x.is_fully_addressable:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)


def _local_shards(x: jax.Array) -> list[np.ndarray]:
    own = [shard for shard in x.addressable_shards if shard.replica_id == 0]
    shards = sorted(own, key=lambda shard: shard.index[0].start or 0)
    return [np.asarray(shard.data) for shard in shards]
