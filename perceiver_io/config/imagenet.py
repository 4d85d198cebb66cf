"""How images of ImageNet are prepared for published weights, and by default."""

IMAGENET = dict(
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    evaluation_crop=0.875,
    resample="bicubic",
)
