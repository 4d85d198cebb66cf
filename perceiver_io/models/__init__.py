"""Pure Haiku models: arrays in, arrays out."""
