"""Optical flow: pairs of frames and the motion between them."""

# The choices of config.data.name, as dotted names.
DATASETS = {
    "autoflow": "perceiver_io.data.flow.autoflow.autoflow",
    "flying_chairs": "perceiver_io.data.flow.flying.flying_chairs",
    "flying_things": "perceiver_io.data.flow.flying.flying_things",
    "kitti": "perceiver_io.data.flow.kitti.kitti",
    "middlebury": "perceiver_io.data.flow.middlebury.middlebury",
    "mixture": "perceiver_io.data.flow.mixture.mixture",
    "motorcycle": "perceiver_io.data.flow.motorcycle.motorcycle",
    "procedural_flow": "perceiver_io.data.flow.procedural.procedural_flow",
    "sintel": "perceiver_io.data.flow.sintel.sintel",
}
