"""Features of units from raw observations of StarCraft II."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt64

from perceiver_io.config.unit_features import COLUMN, OWN, UNIT_FEATURES, Category
from perceiver_io.errors import UserError


def units_of(raw: Any, name: str) -> tuple[Float32[np.ndarray, "n F"], UInt64[np.ndarray, " n"]]:
    """The features and tags of all units of an observation, passengers after their transports.

    Args:
        raw: a message `ObservationRaw` of the protocol.
        name: of the observation, for messages.

    Raises UserError without any unit, and for numbers of which the model has no table.
    """
    if not raw.units:
        raise UserError(
            f"{name} has no raw units: the game must be observed through its raw interface "
            "(InterfaceOptions.raw). Record it again."
        )
    types = {unit.tag: unit.unit_type for unit in raw.units}
    rows, tags = [], []
    for unit in raw.units:
        for tag, features in _with_passengers(unit, types):
            rows.append([features.get(key, 0) for key in UNIT_FEATURES])
            tags.append(tag)
    units = np.array(rows, np.float32)
    _check(units, name)
    return units, np.array(tags, np.uint64)


def _with_passengers(unit: Any, types: dict[int, int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Tag and features of a unit and of those that it carries."""
    yield unit.tag, _unit(unit, types)
    for passenger in unit.passengers:
        # The game says little about them; they are where their transport is.
        carried = dict(
            type=passenger.unit_type,
            alliance=OWN,
            display=unit.display_type,
            x=unit.pos.x,
            y=unit.pos.y,
            build_progress=1,
            in_cargo=1,
        )
        yield passenger.tag, carried | _amounts(passenger)


def _unit(unit: Any, types: dict[int, int]) -> dict[str, Any]:
    orders = unit.orders
    return dict(
        type=unit.unit_type,
        alliance=unit.alliance,
        display=unit.display_type,
        cloak=unit.cloak,
        x=unit.pos.x,
        y=unit.pos.y,
        build_progress=unit.build_progress,
        cargo_taken=unit.cargo_space_taken,
        cargo_most=unit.cargo_space_max,
        minerals=unit.mineral_contents,
        vespene=unit.vespene_contents,
        harvesters_assigned=unit.assigned_harvesters,
        harvesters_ideal=unit.ideal_harvesters,
        cooldown=unit.weapon_cooldown,
        order_length=len(orders),
        **{f"order_{i}": order.ability_id for i, order in enumerate(orders[:4], 1)},
        **{f"order_progress_{i}": order.progress for i, order in enumerate(orders[:2], 1)},
        addon_type=types.get(unit.add_on_tag, 0),
        **{f"buff_{i}": buff for i, buff in enumerate(unit.buff_ids[:2], 1)},
        hallucination=unit.is_hallucination,
        active=unit.is_active,
        on_screen=unit.is_on_screen,
        blip=unit.is_blip,
        powered=unit.is_powered,
        selected=unit.is_selected,
        attack_upgrade=unit.attack_upgrade_level,
        armor_upgrade=unit.armor_upgrade_level,
        shield_upgrade=unit.shield_upgrade_level,
        **_amounts(unit),
    )


def _amounts(unit: Any) -> dict[str, float]:
    """Health, shield and energy, also relative to their greatest values; 0 of 0 is 0."""
    found = {}
    for name in ("health", "shield", "energy"):
        value, most = getattr(unit, name), getattr(unit, f"{name}_max")
        found |= {name: value, f"{name}_ratio": value / most if most else 0}
    return found


def _check(units: Float32[np.ndarray, "n F"], name: str) -> None:
    for feature, (_, encoding) in UNIT_FEATURES.items():
        if isinstance(encoding, Category) and units[:, COLUMN[feature]].max() >= encoding.size:
            raise UserError(
                f"{name}: the {feature} of a unit is {units[:, COLUMN[feature]].max():.0f}, but "
                f"the table has {encoding.size} numbers: enlarge it in "
                "perceiver_io/config/unit_features.py and train again."
            )
