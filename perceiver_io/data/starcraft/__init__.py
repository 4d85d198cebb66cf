"""Commands of players of StarCraft II."""

# The choices of config.data.name, as dotted names.
DATASETS = {
    "bundled_game": "perceiver_io.data.starcraft.sources.bundled_game",
    "game_folder": "perceiver_io.data.starcraft.sources.game_folder",
}
