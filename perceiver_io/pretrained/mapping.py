"""Links between the arrays of this project's models and those of published files.

A list of links gives the name and layout of each of a model's arrays in a published file. It is
used in both directions, so that writing is the inverse of reading.

Arrays have flat names here; ours are `params/MODULE/NAME` and `model_state/MODULE/NAME`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError

Arrays = dict[str, np.ndarray]
Tree = dict[str, dict[str, Any]]

# The maximum number of names in an error message; more would obscure the problem.
_MAX_LISTED = 12


class Layout(NamedTuple):
    """Converts an array from its layout in a published file to ours and back."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda x: x, lambda x: x)
TRANSPOSED = Layout(np.transpose, np.transpose)
# PyTorch stores convolution weights as [output, input, height, width].
CONVOLUTION = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# A 1x1 convolution [F, C, 1, 1] corresponds to a linear layer of ours.
POINTWISE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
_BATCH_NORM = Layout(lambda x: x.reshape(1, 1, 1, -1), lambda x: x.reshape(-1))
# Haiku corrects the bias of its moving averages in early steps, PyTorch does not: after this many
# steps there is nothing left to correct.
_SETTLED = 10_000
_COUNTER = Layout(
    lambda x: np.maximum(x, _SETTLED).astype(np.int32), lambda x: np.asarray(x, np.int64)
)


def row(axes: int = 1) -> Layout:
    """A vector [C] of ours with `axes` leading axes of length 1 in the file."""
    leading = (1,) * axes
    return Layout(lambda x: x.reshape(-1), lambda x: x.reshape(*leading, -1))


def frame_pair(neighbourhood: int) -> Layout:
    """A linear layer [2 k k C, F] over the neighbourhoods of two frames; ours is a convolution.

    The rows of theirs are ordered by frame, row, column, channel. Our convolution over concatenated
    frames, [k, k, 2 C, F], has the order row, column, frame, channel.
    """
    k = neighbourhood

    def to_ours(x):
        rows, outputs = x.shape
        frames = x.reshape(2, k, k, rows // (2 * k * k), outputs)
        return frames.transpose(1, 2, 0, 3, 4).reshape(k, k, -1, outputs)

    def to_theirs(x):
        outputs = x.shape[-1]
        return x.reshape(k, k, 2, -1, outputs).transpose(2, 0, 1, 3, 4).reshape(-1, outputs)

    return Layout(to_ours, to_theirs)


def followed_by(first: Layout, second: Layout) -> Layout:
    """Applies `first` to the file's array, then `second`."""
    return Layout(
        lambda x: second.to_ours(first.to_ours(x)),
        lambda x: first.to_theirs(second.to_theirs(x)),
    )


class Link(NamedTuple):
    """One of our arrays and its counterpart in a published file.

    ours: our flat name.
    theirs: the name in the file; one name per layer if ours is a stack [L, ...].
    layout: the layout of each array in the file.
    """

    ours: str
    theirs: str | tuple[str, ...]
    layout: Layout = SAME

    @property
    def sources(self) -> tuple[str, ...]:
        """All names in the file."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


def array_of(module: str | tuple[str, ...], name: str) -> str | tuple[str, ...]:
    """The name of an array of a PyTorch module; one name per layer if there are several modules."""
    return f"{module}.{name}" if isinstance(module, str) else tuple(f"{x}.{name}" for x in module)


def torch_batch_norm(ours: str, theirs: str | tuple[str, ...]) -> list[Link]:
    """Links for a batch norm of PyTorch, by the names of the modules; a tuple is a stack."""
    links = [
        Link(f"params/{ours}/scale", array_of(theirs, "weight"), _BATCH_NORM),
        Link(f"params/{ours}/offset", array_of(theirs, "bias"), _BATCH_NORM),
    ]
    for moment, name in (("mean_ema", "running_mean"), ("var_ema", "running_var")):
        state, source = f"model_state/{ours}/~/{moment}", array_of(theirs, name)
        # Two of Haiku's arrays are read from one. In writing, the last link to an array wins.
        links += [
            Link(f"{state}/hidden", source, _BATCH_NORM),
            Link(f"{state}/average", source, _BATCH_NORM),
            Link(f"{state}/counter", array_of(theirs, "num_batches_tracked"), _COUNTER),
        ]
    return links


def renamed(links: Sequence[Link], published: Mapping[str, np.ndarray], where: str) -> Arrays:
    """The arrays of a published file under our names and in our layout.

    Raises UserError listing the arrays that are missing, unexpected or of a wrong shape.
    """
    known = {name for link in links for name in link.sources}
    problems = _problems("missing", known - set(published))
    problems += _problems("unexpected", set(published) - known)
    if problems:
        raise UserError(
            f"{where} does not match the model that it resembles: {'; '.join(problems)}."
        )
    arrays, misshapen = {}, []
    for link in links:
        try:
            parts = [link.layout.to_ours(np.asarray(published[name])) for name in link.sources]
            arrays[link.ours] = parts[0] if isinstance(link.theirs, str) else np.stack(parts)
        except ValueError:
            misshapen += [f"{name} {published[name].shape}" for name in link.sources]
    if misshapen:
        raise UserError(f"{where} has {_problems('of wrong shape', misshapen)[0]}.")
    return arrays


def restored(links: Sequence[Link], arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The inverse of `renamed`: our arrays under the published names and in the file's layout."""
    published = {}
    for link in links:
        value = np.asarray(arrays[link.ours])
        parts = [value] if isinstance(link.theirs, str) else list(value)
        for name, part in zip(link.sources, parts, strict=True):
            published[name] = np.asarray(link.layout.to_theirs(part), order="C")
    return published


def check_shapes(
    links: Sequence[Link], arrays: Arrays, wanted: Mapping[str, Any], where: str
) -> None:
    """Raises UserError unless the renamed arrays match a model's in names and shapes.

    Args:
        links: the links used for renaming, which give the names in the file.
        arrays: the renamed arrays.
        wanted: the model's arrays or shapes, by the same names.
        where: the file, for error messages.
    """
    sources = {link.ours: link.sources[0] for link in links}
    wrong = [
        f"{sources[name]} has {arrays[name].shape} instead of {wanted[name].shape}"
        for name in arrays
        if name in wanted and arrays[name].shape != wanted[name].shape
    ]
    problems = _problems("of different shape", wrong)
    problems += _problems("not in the model", {sources[n] for n in arrays if n not in wanted})
    problems += _problems("missing", set(wanted) - set(arrays))
    if problems:
        raise UserError(
            f"{where} does not fit a model of its sizes (shapes are in this project's layout): "
            f"{'; '.join(problems)}. The file is damaged, or the given settings are not its own."
        )


def flat(tree: Tree, collection: str) -> Arrays:
    """The arrays of a Haiku tree by flat names `COLLECTION/MODULE/NAME`."""
    return {f"{collection}/{module}/{n}": x for module, xs in tree.items() for n, x in xs.items()}


def nested(arrays: Mapping[str, Any], collection: str) -> Tree:
    """The inverse of `flat`, for one collection."""
    tree: Tree = {}
    for name, value in arrays.items():
        if name.startswith(f"{collection}/"):
            module, _, leaf = name.removeprefix(f"{collection}/").rpartition("/")
            tree.setdefault(module, {})[leaf] = value
    return tree


def _problems(what: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if not names:
        return []
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return [f"{len(names)} {what}: {listing(names[:_MAX_LISTED])}{more}"]
