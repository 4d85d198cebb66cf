"""Folders on a disk or in a bucket: `gs://BUCKET/FOLDER`.

Those on a disk are a `Path`, those in a bucket an `epath.Path`, which has the same methods for
whole files. Nothing in a bucket can be appended to, locked, or renamed at once.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from etils import epath

from perceiver_io.errors import REPEAT, UserError

if TYPE_CHECKING:
    import fsspec

_SCHEME = "gs"
# Paths with other characters would be patterns for several folders.
_ADDRESS = re.compile(rf"{_SCHEME}://[^/*?\[\]]+/[^*?\[\]]*[^*?\[\]/]/?")
# Not all of Google's: protocol buffers, for example, are used for other files, too.
_LIBRARIES = ("gcsfs.", "aiohttp.", "google.api_core.", "google.auth.", "google.cloud.storage.")
# In messages of tensorstore, which reads and writes the arrays of checkpoints.
_REQUESTS = ("gs://", "/storage/v1/b/")

Folder: TypeAlias = Path | epath.Path


class BucketError(UserError):
    """A bucket could not be reached, or refused something. Trying again may help."""

    status = REPEAT


def located(path: str | Folder) -> Folder:
    """The folder or file at a path or an address.

    Raises UserError for an address of another form, or if the package for it is missing.
    """
    if not is_address(path):
        return Path(path).expanduser().absolute()
    if not _ADDRESS.fullmatch(str(path)):
        raise UserError(
            f"{str(path):.100} is not an address that can be used: give gs://BUCKET/FOLDER, "
            "without the characters * ? [ ]; or mount the bucket and give the path of its folder, "
            "see docs/pods.md."
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(
            f"{str(path):.100} is in a bucket, which needs gcsfs: pip install -e '.[gcs]'."
        )
    _bucket()
    return epath.Path(str(path).rstrip("/"))


def is_address(path: str | Folder) -> bool:
    """Whether a path has the form of an address, such as `gs://bucket/run`, correct or not."""
    return re.match(r"\w+:/", str(path)) is not None


def is_folder(path: Folder) -> bool:
    """Whether there is such a folder. Raises OSError if a bucket does not tell."""
    if isinstance(path, Path):
        return path.is_dir()
    try:
        return bool(_bucket().ls(str(path)))
    except FileNotFoundError:
        return False


def files_below(folder: Folder) -> list[str]:
    """The names of all files in a folder and below, relative to it."""
    if isinstance(folder, Path):
        paths = [str(path) for path in folder.rglob("*") if path.is_file()]
    else:
        paths = [f"{_SCHEME}://{path}" for path in _bucket().find(str(folder))]
    return sorted(path.removeprefix(f"{folder}/") for path in paths)


def checksum(path: epath.Path) -> str:
    """The checksum of a file, as the bucket has computed it.

    Raises FileNotFoundError if there is no such file.
    """
    return f"crc32c {_bucket().info(str(path))['crc32c']}"


@contextlib.contextmanager
def bucket_errors_explained() -> Iterator[None]:
    """A context in which errors that libraries raise about a bucket become a BucketError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        modules = (f"{frame.f_globals.get('__name__')}." for frame, _ in frames)
        is_of_library = any(module.startswith(_LIBRARIES) for module in modules)
        if not is_of_library and not any(part in str(error) for part in _REQUESTS):
            raise
        raise BucketError(
            f"A bucket could not be used: {reason(error):.500}. Checkpoints that were complete are "
            "intact. Repeat the same command when the bucket can be reached."
        ) from error


def reason(error: Exception) -> str:
    """The message of an error in one line, or else its kind."""
    return " ".join(str(error).split()) or type(error).__name__


class WorkingCopy:
    """A folder for libraries that append to files, which `send` brings into another folder.

    Attributes:
        path: that folder itself if it is on a disk; otherwise a temporary folder on this host.
    """

    def __init__(self, folder: Folder, names: Sequence[str] = ()):
        """Begins with the files of these names that the folder has."""
        self._remote = folder if isinstance(folder, epath.Path) else None
        self._sent: dict[str, tuple[int, int]] = {}
        self._sent_at = time.monotonic()
        if self._remote is None:
            self.path = Path(folder)
            return
        self.path = Path(tempfile.mkdtemp(prefix="perceiver_io_"))
        for name in names:
            if (self._remote / name).exists():
                (self.path / name).write_bytes((self._remote / name).read_bytes())

    def send(self) -> None:
        """Copies what has changed since it was sent."""
        self._sent_at = time.monotonic()
        if self._remote is None:
            return
        for name in files_below(self.path):
            state = (self.path / name).stat()
            now = state.st_mtime_ns, state.st_size
            if self._sent.get(name) != now:
                (self._remote / name).write_bytes((self.path / name).read_bytes())
                self._sent[name] = now

    def age(self) -> float:
        """Seconds since `send` was last called."""
        return time.monotonic() - self._sent_at

    def remove(self) -> None:
        """Removes a temporary folder."""
        if self._remote is not None:
            shutil.rmtree(self.path)


def _bucket() -> "fsspec.AbstractFileSystem":
    """Access to buckets by gcsfs; `epath` has it, too."""
    import fsspec

    # Otherwise it uses TensorFlow where that is installed, with credentials and errors of its own.
    os.environ["EPATH_USE_TF"] = "false"
    # Listings are not remembered, since other processes write there, too.
    fsspec.config.conf.setdefault(_SCHEME, {})["use_listings_cache"] = False
    return fsspec.filesystem(_SCHEME)
