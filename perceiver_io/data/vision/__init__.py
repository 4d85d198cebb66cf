"""Images: datasets, decoding, augmentation."""
