"""Encodes videos into latents and decodes them, clip by clip, and shows them with the originals."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Float, Float32, PyTree, UInt8
from matplotlib.figure import Figure

from perceiver_io.data.video.clips import (
    SAMPLE_RATE,
    Clip,
    count_pieces,
    cut,
    pieces,
)
from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.progress import Progress
from perceiver_io.tasks.attention import Attention, CrossAttention, in_pieces, most_used
from perceiver_io.tasks.batches import Advance, check_positive, ignore
from perceiver_io.tasks.figures import save
from perceiver_io.tasks.files import existing, unique_names
from perceiver_io.tasks.multimodal_autoencoding.figures import Sound, clip_attention, contact_sheet
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import Reconstruction, reconstruct
from perceiver_io.tasks.multimodal_autoencoding.record import VideoRecord, clipped, to_pixels
from perceiver_io.tasks.predictor import Predictor, Report, Trained
from perceiver_io.tasks.video_writer import VideoWriter

_FRAMES_OF_SHEET = 10
_TOP_CLASSES = 5
_FRAMES_OF_ATTENTION = 5
_LATENTS_OF_MODALITY = 2


class _Sizes(NamedTuple):
    """Sizes of the model's inputs, the frame rate of its clips, and what stands for missing sound.

    `sound_can_be_missing`: whether mask tokens stand for missing sound; if not, zeros do.
    """

    num_frames: int
    image_size: tuple[int, int]
    samples_per_frame: int
    audio_patches: int
    frame_rate: int
    sound_can_be_missing: bool

    @property
    def num_points(self) -> int:
        """Number of points that `reconstruct` counts for a clip."""
        height, width = self.image_size
        return self.num_frames * height * width + self.audio_patches


class VideoAutoencoder(Predictor):
    """Compresses a video with its sound into latents, and reconstructs it from them.

    A video of any length is split into clips of as many frames as the model takes.
    `trained.class_names` has the names of its classes, if they are known.
    """

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """`image` and `audio` in; these and `label` out."""
        return (
            isinstance(inputs, Mapping)
            and isinstance(outputs, Mapping)
            and {"image", "audio"} <= set(inputs)
            and {"image", "audio", "label"} <= set(outputs)
        )

    def predict(
        self,
        video: str | Path | UInt8[np.ndarray, "T H W 3"],
        audio: Float32[np.ndarray, "S 1"] | None = None,
        *,
        chunk_size: int = 16384,
    ) -> Reconstruction:
        """The reconstruction of a video.

        Args:
            video: a file, which is scaled and cropped to the model's image size and resampled to
                its frame rate; or frames of the model's image size, uint8 from 0 to 255.
            audio: the sound for these frames, from -1 to 1, with as many samples per frame as the
                model takes; None if there is none. For a file, its own sound is used.
            chunk_size: pixels of the video, or patches of the sound, that are decoded at a time.

        Returns:
            All T frames, approximately in [0, 1], and all S samples of the sound, approximately in
            [-1, 1], as the model outputs them; the probability of each class, averaged over the
            clips. Where there is no sound, the model is given its mask tokens, and guesses it;
            published models, which were never trained with these, are given silence.

        Raises UserError for a file that cannot be read, and for arrays of the wrong size.
        """
        sizes = _sizes(self.trained)
        if isinstance(video, np.ndarray):
            clips = _cut(video, audio, sizes)
        elif audio is None:
            clips = _clips(sizes, *existing([video]))
        else:
            raise UserError(f"{video} is a file, whose own sound is used: leave out `audio`.")
        return _joined((clip, self._reconstruct(sizes, clip, chunk_size)) for clip in clips)

    def write(
        self,
        output: Path,
        *,
        inputs: Sequence[str],
        chunk_size: int = 16384,
        attention: bool = False,
    ) -> Report:
        """Writes NAME_reconstruction.mp4, and NAME_sheet.png with a few frames.

        The video shows the original on the left and the reconstruction on the right, with the
        reconstructed sound.

        Args:
            output: the folder to write into.
            inputs: video files.
            chunk_size: as for `predict`.
            attention: whether to draw attention maps for the first clip, in attention_NAME.png.
        """
        check_positive(chunk_size=chunk_size)
        paths = existing(inputs)
        sizes = _sizes(self.trained)
        answers = []
        for path, name in zip(paths, unique_names(paths), strict=True):
            video, sheet = output / f"{name}_reconstruction.mp4", output / f"{name}_sheet.png"
            record = self._write_video(sizes, path, video, chunk_size)
            answer = dict(input=str(path), **_measures(record, self.trained.class_names))
            save(_sheet(record, path, answer), sheet)
            answer |= dict(video=str(video), sheet=str(sheet))
            if attention:
                answer["attention"] = str(output / f"attention_{name}.png")
                save(self._attention_figure(sizes, path), Path(answer["attention"]))
            answers.append(answer)
        return Report("\n\n".join(map(_shown, answers)), {"videos": answers})

    def _write_video(self, sizes: _Sizes, path: Path, video: Path, chunk_size: int) -> VideoRecord:
        """Writes the video clip by clip."""
        count = count_pieces(path, num_frames=sizes.num_frames, frame_rate=sizes.frame_rate)
        total = None if count is None else count * sizes.num_points
        record = VideoRecord(_FRAMES_OF_SHEET, sizes.frame_rate, sizes.samples_per_frame)
        clips = _clips(sizes, path)
        with (
            Progress(total, "points") as progress,
            VideoWriter(video, frame_rate=sizes.frame_rate) as writer,
        ):
            for clip in clips:
                result = self._reconstruct(sizes, clip, chunk_size, progress.advance)
                record.add(clip, result)
                image, audio = clipped(result)
                beside = np.concatenate([clip.frames, to_pixels(image)], axis=2)
                sound = _at_sample_rate(audio, sizes.frame_rate * sizes.samples_per_frame)
                samples = clip.num_frames * SAMPLE_RATE // sizes.frame_rate
                writer.write(beside[: clip.num_frames], sound[:samples])
        return record

    def _reconstruct(
        self, sizes: _Sizes, clip: Clip, chunk_size: int, advance: Advance = ignore
    ) -> Reconstruction:
        return reconstruct(
            self.trained,
            _inputs(clip, sizes),
            audio_patches=sizes.audio_patches,
            chunk_size=chunk_size,
            advance=advance,
        )

    def _attention_figure(self, sizes: _Sizes, path: Path) -> Figure:
        """Attention maps for the first clip of a video."""
        clip = next(_clips(sizes, path))
        attention = attention_to_clip(
            self.trained,
            _inputs(clip, sizes),
            audio_patches=sizes.audio_patches,
            count=_LATENTS_OF_MODALITY,
        )
        chosen = np.linspace(0, sizes.num_frames - 1, min(sizes.num_frames, _FRAMES_OF_ATTENTION))
        frames = {int(k) / sizes.frame_rate: clip.frames[int(k)] for k in chosen}
        return clip_attention(
            frames,
            clip.audio[:, 0],
            attention,
            title=f"{path.name}\nheat and curves: attention to the clip",
        )


def attention_to_clip(
    trained: Trained,
    clip: Mapping[str, np.ndarray],
    *,
    audio_patches: int,
    count: int,
) -> Attention:
    """Attention of an autoencoder, for all points of each modality together.

    The rows of `decoder` are means over the queries of image, audio and label; `latents` are the
    most used latents of each of these in turn.

    Args:
        trained: its model takes `inputs` and `query` as in `reconstruct`.
        clip: `image` [T, H, W, 3] from 0 to 1 and, if there is sound, `audio` [S, 1] from -1 to 1.
        audio_patches: number of patches that the model divides the sound into.
        count: number of latents to show for each modality.
    """
    attended = CrossAttention(trained, {name: x[None] for name, x in clip.items()})
    shapes = {"image": clip["image"].shape[:3], "audio": (audio_patches,)}
    usage = [_mean_over_grid(attended, name, shape) for name, shape in shapes.items()]
    decoder = np.stack([*usage, np.asarray(attended.decoder({"label": None}))[0]])
    favourites = np.concatenate([most_used(row[None], count) for row in decoder])
    return attended.both(decoder, np.array(list(dict.fromkeys(favourites.tolist()))))


def _mean_over_grid(
    attended: CrossAttention, modality: str, shape: tuple[int, ...]
) -> Float[np.ndarray, " N"]:
    """Attention to each latent, averaged over all points of a modality's grid."""
    total = 0
    for points in in_pieces(math.prod(shape)):
        coordinates = subsampled_coordinates(jnp.asarray(points)[None], shape)
        total += attended.decoder({modality: coordinates}).sum(0)
    return np.asarray(total) / math.prod(shape)


def _sizes(trained: Trained) -> _Sizes:
    model = trained.section
    num_frames, *image_size = model["image"]["shape"]
    audio = model["audio"]
    if audio["num_samples"] % num_frames:
        raise UserError(
            f"The model takes {audio['num_samples']} samples of sound for {num_frames} frames, "
            "which is not a whole number per frame: no video can be split that way."
        )
    return _Sizes(
        num_frames,
        tuple(image_size),
        samples_per_frame=audio["num_samples"] // num_frames,
        audio_patches=audio["num_samples"] // audio["samples_per_patch"],
        frame_rate=trained.prepared("frame_rate"),
        sound_can_be_missing=trained.preparation.get("sound_can_be_missing", False),
    )


def _clips(sizes: _Sizes, path: Path) -> Iterator[Clip]:
    return pieces(
        path,
        size=sizes.image_size,
        num_frames=sizes.num_frames,
        samples_per_frame=sizes.samples_per_frame,
        frame_rate=sizes.frame_rate,
    )


def _cut(
    frames: UInt8[np.ndarray, "T H W 3"], audio: Float32[np.ndarray, "S 1"] | None, sizes: _Sizes
) -> Iterator[Clip]:
    """Splits arrays into clips. Raises UserError for frames or sound not of the model's size."""
    height, width = sizes.image_size
    fits = len(frames) and frames.shape[1:] == (height, width, 3)
    if not fits or frames.dtype != np.uint8:
        raise UserError(
            f"The frames are {frames.dtype} {list(frames.shape)}, but the model takes uint8 [any "
            f"number, {height}, {width}, 3] with values from 0 to 255."
        )
    if audio is not None and audio.shape != (len(frames) * sizes.samples_per_frame, 1):
        raise UserError(
            f"The sound has shape {list(audio.shape)}, but {len(frames)} frames need "
            f"[{len(frames) * sizes.samples_per_frame}, 1]: {sizes.samples_per_frame} samples each."
        )
    return cut(
        frames, audio, num_frames=sizes.num_frames, samples_per_frame=sizes.samples_per_frame
    )


def _joined(results: Iterable[tuple[Clip, Reconstruction]]) -> Reconstruction:
    """Concatenates the clips, without the padding of the last one."""
    images, sounds, labels = [], [], []
    for clip, result in results:
        samples_per_frame = len(clip.audio) // len(clip.frames)
        images.append(result.image[: clip.num_frames])
        sounds.append(result.audio[: clip.num_frames * samples_per_frame])
        labels.append(result.label)
    return Reconstruction(np.concatenate(images), np.concatenate(sounds), np.mean(labels, axis=0))


def _inputs(clip: Clip, sizes: _Sizes) -> dict[str, np.ndarray]:
    inputs = {"image": clip.frames / np.float32(255)}
    is_given = clip.has_sound or not sizes.sound_can_be_missing
    return inputs | {"audio": clip.audio} if is_given else inputs


def _at_sample_rate(audio: Float[np.ndarray, "S 1"], rate: int) -> Float32[np.ndarray, "s 1"]:
    """Resamples sound from the model's sample rate to that of videos."""
    if rate != SAMPLE_RATE:
        audio = scipy.signal.resample_poly(audio, SAMPLE_RATE, rate)
    return np.asarray(audio, np.float32)


def _measures(record: VideoRecord, class_names: Sequence[str] | None) -> dict[str, Any]:
    measures: dict[str, Any] = dict(
        num_frames=record.num_frames,
        seconds=record.seconds,
        psnr=record.psnr(),
    )
    if class_names is not None:
        label = np.mean(record.labels, axis=0)
        best = np.argsort(-label)[:_TOP_CLASSES]
        measures["classes"] = [
            dict(index=int(k), name=class_names[k], probability=float(label[k])) for k in best
        ]
    return measures


def _sheet(record: VideoRecord, path: Path, answer: Mapping[str, Any]) -> Figure:
    indices, originals, reconstructions = zip(*record.frames.kept, strict=True)
    return contact_sheet(
        originals,
        reconstructions,
        seconds=[index / record.frame_rate for index in indices],
        sounds={
            name: Sound(np.concatenate(x.envelopes), np.stack(x.spectra.kept), x.sample_rate)
            for name, x in record.sounds.items()
        },
        duration=record.seconds,
        title=f"{path.name}: {_quality(answer)}",
    )


def _quality(answer: Mapping[str, Any]) -> str:
    psnr = answer["psnr"]
    sound = f"of the sound {psnr['audio']:.2f} dB" if "audio" in psnr else "without sound"
    return f"PSNR of the video {psnr['image']:.2f} dB, {sound}"


def _shown(answer: Mapping[str, Any]) -> str:
    lines = [f"{answer['input']}: {answer['seconds']:.2f} s, {_quality(answer)}"]
    lines += [f"  {x['probability']:6.1%}  {x['name']}" for x in answer.get("classes", ())]
    files = [answer[name] for name in ("video", "sheet", "attention") if name in answer]
    return "\n".join([*lines, *(f"  {path}" for path in files)])
