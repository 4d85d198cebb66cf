"""Links for the blocks that all Perceivers have in common: cross-attend, latent stack, MLP.

The two published families name the same layers differently; a `Dialect` has the names of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perceiver_io.pretrained.mapping import Layout, Link

STACK = "params/encoder/latent_stack/__layer_stack_no_per_layer/self_attend"


@dataclass(frozen=True)
class Dialect:
    """The names of layers and arrays in one family.

    separator: separates the parts of a name.
    linear: for each array of a linear layer, its name and layout.
    norm: for each array of a layer norm, its name and layout.
    cross_attend: for each layer of a cross-attend, its name.
    self_attend: for each layer of a self-attend, its name.
    """

    separator: str
    linear: Mapping[str, tuple[str, Layout]]
    norm: Mapping[str, tuple[str, Layout]]
    cross_attend: Mapping[str, str]
    self_attend: Mapping[str, str]

    def join(self, *parts: str) -> str:
        """A name from its parts, skipping empty ones."""
        return self.separator.join(part for part in parts if part)

    def linear_links(self, ours: str, theirs: str) -> list[Link]:
        """Links for a linear layer."""
        return [
            Link(f"{ours}/{leaf}", self.join(theirs, name), layout)
            for leaf, (name, layout) in self.linear.items()
        ]

    def cross_attend_links(self, ours: str, theirs: str) -> list[Link]:
        """Links for a cross-attend block."""
        return self._block(self.cross_attend, ours, [theirs], stacked=False)

    def stack_links(self, layers: Sequence[str]) -> list[Link]:
        """Links for the latent stack, whose layers have these names in the file."""
        return self._block(self.self_attend, STACK, layers, stacked=True)

    def _block(self, table, ours, prefixes, *, stacked) -> list[Link]:
        links = []
        for layer, name in table.items():
            leaves = self.norm if "norm" in layer else self.linear
            for leaf, (their_leaf, layout) in leaves.items():
                names = tuple(self.join(prefix, name, their_leaf) for prefix in prefixes)
                links.append(Link(f"{ours}/{layer}/{leaf}", names if stacked else names[0], layout))
        return links
