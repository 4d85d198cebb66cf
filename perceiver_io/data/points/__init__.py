"""Labelled point clouds."""

# The choices of config.data.name, as dotted names.
DATASETS = {
    "furniture": "perceiver_io.data.points.furniture.furniture",
    "mesh_folder": "perceiver_io.data.points.mesh_folder.mesh_folder",
    "modelnet40": "perceiver_io.data.points.modelnet40.modelnet40",
}
