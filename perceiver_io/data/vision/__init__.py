"""Labelled images."""

# The choices of config.data.name, as dotted names.
DATASETS = {
    "cifar10": "perceiver_io.data.vision.cifar10.cifar10",
    "digits": "perceiver_io.data.vision.digits.digits",
    "image_folder": "perceiver_io.data.vision.image_folder.image_folder",
    "imagenet": "perceiver_io.data.vision.imagenet.imagenet",
    "mixture": "perceiver_io.data.vision.mixture.mixture",
    "photos": "perceiver_io.data.vision.photos.photos",
}
