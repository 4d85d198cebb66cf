"""The features of units in StarCraft II, and how a model encodes each of them.

They are those of AlphaStar Unplugged (2308.03526), and whether a unit is selected. Data write them
as one array [units, features] of plain numbers, from which the model makes its encodings.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Category(NamedTuple):
    """One of `size` numbers from 0 on; others are refused."""

    size: int


class Count(NamedTuple):
    """A number, rounded down; those above `most` count as that."""

    most: int


class Root(NamedTuple):
    """The square root of a number, rounded down; those above `most` count as that."""

    most: int


class Bits(NamedTuple):
    """The last `digits` binary digits of a number, which is rounded down."""

    digits: int


class Share(NamedTuple):
    """A number divided by `whole`."""

    whole: int


Encoding = Category | Count | Root | Bits | Share


class UnitFeature(NamedTuple):
    """Where a feature is in a `Unit` of the game's protocol, and how a model encodes it."""

    source: str
    encoding: Encoding


# Larger than all numbers that the game has so far.
TYPES, ABILITIES, BUFFS = 2560, 4608, 512
FLAG = Category(2)

UNIT_FEATURES: Mapping[str, UnitFeature] = MappingProxyType(
    {
        "type": UnitFeature("unit_type", Category(TYPES)),
        "alliance": UnitFeature("alliance", Category(5)),
        "display": UnitFeature("display_type", Category(5)),
        "cloak": UnitFeature("cloak", Category(5)),
        "x": UnitFeature("pos.x", Bits(8)),
        "y": UnitFeature("pos.y", Bits(8)),
        "build_progress": UnitFeature("build_progress", Share(1)),
        "health": UnitFeature("health", Root(1500)),
        "shield": UnitFeature("shield", Root(1000)),
        "energy": UnitFeature("energy", Root(200)),
        "health_ratio": UnitFeature("health / health_max", Share(1)),
        "shield_ratio": UnitFeature("shield / shield_max", Share(1)),
        "energy_ratio": UnitFeature("energy / energy_max", Share(1)),
        "cargo_taken": UnitFeature("cargo_space_taken", Count(8)),
        "cargo_most": UnitFeature("cargo_space_max", Count(8)),
        "in_cargo": UnitFeature("in the passengers of another unit", FLAG),
        "minerals": UnitFeature("mineral_contents", Share(100)),
        "vespene": UnitFeature("vespene_contents", Share(100)),
        "harvesters_assigned": UnitFeature("assigned_harvesters", Count(24)),
        "harvesters_ideal": UnitFeature("ideal_harvesters", Count(16)),
        "cooldown": UnitFeature("weapon_cooldown", Count(32)),
        "order_length": UnitFeature("number of orders", Count(8)),
        "order_1": UnitFeature("orders[0].ability_id", Category(ABILITIES)),
        "order_2": UnitFeature("orders[1].ability_id", Category(ABILITIES)),
        "order_3": UnitFeature("orders[2].ability_id", Category(ABILITIES)),
        "order_4": UnitFeature("orders[3].ability_id", Category(ABILITIES)),
        "order_progress_1": UnitFeature("orders[0].progress", Share(1)),
        "order_progress_2": UnitFeature("orders[1].progress", Share(1)),
        "addon_type": UnitFeature("unit_type of the unit add_on_tag", Category(TYPES)),
        "buff_1": UnitFeature("buff_ids[0]", Category(BUFFS)),
        "buff_2": UnitFeature("buff_ids[1]", Category(BUFFS)),
        "hallucination": UnitFeature("is_hallucination", FLAG),
        "active": UnitFeature("is_active", FLAG),
        "on_screen": UnitFeature("is_on_screen", FLAG),
        "blip": UnitFeature("is_blip", FLAG),
        "powered": UnitFeature("is_powered", FLAG),
        "selected": UnitFeature("is_selected", FLAG),
        "attack_upgrade": UnitFeature("attack_upgrade_level", Count(4)),
        "armor_upgrade": UnitFeature("armor_upgrade_level", Count(4)),
        "shield_upgrade": UnitFeature("shield_upgrade_level", Count(4)),
    }
)

COLUMN: Mapping[str, int] = MappingProxyType(
    {name: index for index, name in enumerate(UNIT_FEATURES)}
)
"""The column of each feature in an array [units, features]."""

# Values of `alliance`.
OWN, ALLY, NEUTRAL, ENEMY = 1, 2, 3, 4
