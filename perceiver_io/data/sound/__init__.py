"""Sounds, and videos with their sound, tagged with classes."""

# The choices of config.data.name, as dotted names.
DATASETS = {
    "audioset": "perceiver_io.data.sound.audioset.audioset",
    "clip_windows": "perceiver_io.data.sound.windows.clip_windows",
    "sound_folder": "perceiver_io.data.sound.folder.sound_folder",
    "sound_mixtures": "perceiver_io.data.sound.sounds.sound_mixtures",
    "sounds": "perceiver_io.data.sound.sounds.sounds",
}
