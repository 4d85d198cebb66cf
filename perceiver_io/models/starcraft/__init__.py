"""Models of StarCraft II: units in, a command out."""
