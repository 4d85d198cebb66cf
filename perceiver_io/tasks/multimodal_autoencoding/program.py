"""Films encoded into latents and decoded again, beside the original."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.signal
from jaxtyping import Float, Float32

from perceiver_io.data.video.clips import FRAME_RATE, SAMPLES_PER_FRAME, Clip, count_pieces, pieces
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.tasks import figures
from perceiver_io.tasks.attention import attention_to_clip
from perceiver_io.tasks.attention_figures import clip_attention
from perceiver_io.tasks.batches import Advance, check_positive
from perceiver_io.tasks.common import Prediction, Trained, existing, unique_names
from perceiver_io.tasks.multimodal_autoencoding.prediction import Reconstruction, reconstruct
from perceiver_io.tasks.multimodal_autoencoding.record import FilmRecord, clipped, to_pixels
from perceiver_io.tasks.video_writer import VideoWriter
from perceiver_io.training.logging import save_figure

_FRAMES_OF_SHEET = 10
_TOP_CLASSES = 5
_FRAMES_OF_ATTENTION = 5
_LATENTS_OF_MODALITY = 2


class _Sizes(NamedTuple):
    """What the model takes at a time."""

    num_frames: int
    image_size: tuple[int, int]
    samples_per_frame: int
    audio_patches: int

    @property
    def num_points(self) -> int:
        """What `reconstruct` counts for a piece."""
        height, width = self.image_size
        return self.num_frames * height * width + self.audio_patches


def predict(
    trained: Trained,
    output: Path,
    *,
    inputs: Sequence[str],
    chunk_size: int = 16384,
    attention: bool = False,
) -> Prediction:
    """NAME_reconstruction.mp4, the original to the left, and NAME_sheet.png with a few frames.

    The sound of the film is the reconstructed one. The film is cut to the model's image size and
    worked off in pieces of as many frames as the model takes.

    Args:
        trained: an autoencoder of video and sound.
        output: the folder to write into.
        inputs: video files.
        chunk_size: points, or patches of sound, that are decoded at a time.
        attention: whether attention_NAME.png shows what the model looks at in the first piece.
    """
    check_positive(chunk_size=chunk_size)
    paths = existing(inputs)
    sizes = _sizes(trained.weights.model)
    answers = []
    for path, name in zip(paths, unique_names(paths), strict=True):
        film = output / f"{name}_reconstruction.mp4"
        record = _reconstruct(trained, sizes, path, film, chunk_size)
        answer = dict(input=str(path), **_measures(record, trained.weights.class_names))
        save_figure(_sheet(record, path, answer), output, f"{name}_sheet")
        answer |= dict(film=str(film), sheet=str(output / f"{name}_sheet.png"))
        if attention:
            save_figure(_attention(trained, sizes, path), output, f"attention_{name}")
            answer["attention"] = str(output / f"attention_{name}.png")
        answers.append(answer)
    return Prediction("\n\n".join(map(_shown, answers)), {"films": answers})


def _sizes(model: Mapping[str, Any]) -> _Sizes:
    num_frames, *image_size = model["image"]["shape"]
    audio = model["audio"]
    if audio["num_samples"] % num_frames:
        raise UserError(
            f"The model takes {audio['num_samples']} samples of sound for {num_frames} frames, "
            "which is no whole number for each: no film can be cut so."
        )
    return _Sizes(
        num_frames,
        tuple(image_size),
        samples_per_frame=audio["num_samples"] // num_frames,
        audio_patches=audio["num_samples"] // audio["samples_per_patch"],
    )


def _reconstruct(
    trained: Trained, sizes: _Sizes, path: Path, film: Path, chunk_size: int
) -> FilmRecord:
    """Writes the film piece by piece."""
    count = count_pieces(path, num_frames=sizes.num_frames)
    total = None if count is None else count * sizes.num_points
    record = FilmRecord(_FRAMES_OF_SHEET)
    clips = _clips(sizes, path)
    with Progress(total, "points") as progress, VideoWriter(film, frame_rate=FRAME_RATE) as writer:
        for clip in clips:
            result = _ask(trained, sizes, clip, chunk_size, progress.advance)
            record.add(clip, result)
            image, audio = clipped(result)
            beside = np.concatenate([clip.frames, to_pixels(image)], axis=2)
            sound = _at_sample_rate(audio, sizes.samples_per_frame)
            samples = clip.num_frames * SAMPLES_PER_FRAME
            writer.write(beside[: clip.num_frames], sound[:samples])
    return record


def _clips(sizes: _Sizes, path: Path) -> Iterator[Clip]:
    return pieces(
        path,
        size=sizes.image_size,
        num_frames=sizes.num_frames,
        samples_per_frame=sizes.samples_per_frame,
    )


def _ask(
    trained: Trained, sizes: _Sizes, clip: Clip, chunk_size: int, advance: Advance
) -> Reconstruction:
    return reconstruct(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        _inputs(clip),
        audio_patches=sizes.audio_patches,
        chunk_size=chunk_size,
        advance=advance,
    )


def _inputs(clip: Clip) -> dict[str, np.ndarray]:
    return {"image": clip.frames / np.float32(255), "audio": clip.audio}


def _attention(trained: Trained, sizes: _Sizes, path: Path) -> figures.Figure:
    """What the model looks at in the first piece of a film."""
    clip = next(_clips(sizes, path))
    attention = attention_to_clip(
        trained.model,
        trained.weights.params,
        trained.weights.model_state,
        _inputs(clip),
        audio_patches=sizes.audio_patches,
        count=_LATENTS_OF_MODALITY,
    )
    chosen = np.linspace(0, sizes.num_frames - 1, min(sizes.num_frames, _FRAMES_OF_ATTENTION))
    frames = {int(k) / FRAME_RATE: clip.frames[int(k)] for k in chosen}
    return clip_attention(
        frames,
        clip.audio[:, 0],
        attention,
        title=f"{path.name}\nheat and curves: where the clip is read",
    )


def _at_sample_rate(
    audio: Float[np.ndarray, "S 1"], samples_per_frame: int
) -> Float32[np.ndarray, "s 1"]:
    """Sound of the model's resolution as films have it."""
    if samples_per_frame != SAMPLES_PER_FRAME:
        audio = scipy.signal.resample_poly(audio, SAMPLES_PER_FRAME, samples_per_frame)
    return np.asarray(audio, np.float32)


def _measures(record: FilmRecord, class_names: Sequence[str] | None) -> dict[str, Any]:
    measures: dict[str, Any] = dict(
        num_frames=record.num_frames,
        seconds=record.num_frames / FRAME_RATE,
        psnr=record.psnr(),
    )
    if class_names is not None:
        label = np.mean(record.labels, axis=0)
        best = np.argsort(-label)[:_TOP_CLASSES]
        measures["classes"] = [
            dict(index=int(k), name=class_names[k], probability=float(label[k])) for k in best
        ]
    return measures


def _sheet(record: FilmRecord, path: Path, answer: Mapping[str, Any]) -> figures.Figure:
    indices, originals, reconstructions = zip(*record.kept, strict=True)
    return figures.contact_sheet(
        originals,
        reconstructions,
        seconds=[index / FRAME_RATE for index in indices],
        sounds={name: np.concatenate(parts) for name, parts in record.envelopes.items()},
        duration=record.num_frames / FRAME_RATE,
        title=f"{path.name}: {_quality(answer)}",
    )


def _quality(answer: Mapping[str, Any]) -> str:
    psnr = answer["psnr"]
    return f"PSNR of the picture {psnr['image']:.2f} dB, of the sound {psnr['audio']:.2f} dB"


def _shown(answer: Mapping[str, Any]) -> str:
    lines = [f"{answer['input']}: {answer['seconds']:.2f} s, {_quality(answer)}"]
    lines += [f"  {x['probability']:6.1%}  {x['name']}" for x in answer.get("classes", ())]
    files = [answer[name] for name in ("film", "sheet", "attention") if name in answer]
    return "\n".join([*lines, *(f"  {path}" for path in files)])
