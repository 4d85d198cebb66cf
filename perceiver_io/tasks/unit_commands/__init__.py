"""Commands to units in StarCraft II, learned from players (behaviour cloning)."""
