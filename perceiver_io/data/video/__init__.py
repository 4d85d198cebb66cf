"""Video files: frames and sound."""

AUTOENCODING = {"standin": "perceiver_io.data.video.standin.standin"}
