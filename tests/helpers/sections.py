"""Config sections and model inputs that are small enough to test within seconds."""

import numpy as np


def core(num_latents=3, latent_dim=8, num_layers=2, **decoder):
    """Encoder and decoder of Perceiver IO; `decoder` has additional settings for the decoder."""
    return dict(
        encoder=dict(
            num_latents=num_latents,
            latent_dim=latent_dim,
            num_blocks=1,
            cross_attend=dict(num_heads=1, use_query_residual=True),
            latent_stack=dict(num_layers=num_layers, num_heads=2),
        ),
        decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=False), **decoder),
    )


# Preparation of photographs, with only the crop random.
PHOTOGRAPHS = dict(
    num_workers=0,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    image_size=(8, 8),
    crop_area=(0.5, 1.0),
    crop_aspect=(0.75, 1.33),
    evaluation_crop=1.0,
    flip=False,
    randaugment_layers=0,
    randaugment_magnitude=0,
    mixup_alpha=0.0,
    cutmix_alpha=0.0,
)

# Settings of the autoencoder, for `clip()`.
MODALITIES = dict(
    image=dict(shape=(2, 4, 6), patch_size=(2, 2), resolution=(2, 4, 6), num_bands=2),
    audio=dict(num_samples=12, samples_per_patch=3, num_bands=2),
    label=dict(num_classes=5, query_dim=9),
    output_dim=8,
)


def clip():
    """Two clips of two frames of 4 x 6 pixels, with 12 samples of sound."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(2, 2, 4, 6, 3)).astype(np.float32),
        "audio": rng.normal(size=(2, 12, 1)).astype(np.float32),
    }
