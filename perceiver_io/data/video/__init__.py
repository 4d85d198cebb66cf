"""Video files: frames and sound."""

# The choices of config.data.name for autoencoding, as dotted names.
AUTOENCODING = {
    "bundled_clips": "perceiver_io.data.video.autoencoding.bundled_clips",
    "kinetics": "perceiver_io.data.video.autoencoding.kinetics",
    "video_folder": "perceiver_io.data.video.autoencoding.video_folder",
    "video_shards": "perceiver_io.data.video.autoencoding.video_shards",
}
