"""Names of the axes of a mesh of devices, which strategies make and models split their inputs over.

data: parts of the batch.
fsdp: parts of the batch, and shards of the parameters.
sequence: parts of each example.
"""

DATA, FSDP, SEQUENCE = "data", "fsdp", "sequence"
