"""Generated videos for tests, in which each frame and sample is known."""

import fractions

import av
import numpy as np

from perceiver_io.data.video import clips as video


def gray(values, height=48, width=64):
    """One uniform frame for each value."""
    return np.repeat(np.uint8(values), height * width * 3).reshape(-1, height, width, 3)


def beep(seconds, begin, end, rate=48_000, loudness=0.5):
    """A tone of 440 Hz between two times, otherwise silence."""
    time = np.arange(round(seconds * rate)) / rate
    tone = loudness * np.sin(2 * np.pi * 440 * time)
    return (tone * ((time >= begin) & (time < end))).astype(np.float32)


def make(path, frames, *, rate=25, times=None, sound=None, layout="mono", gop=None, **options):
    """A lossless video written with PyAV only: frames at `times` (in frames), 44.1 kHz sound."""
    codec = options.pop("codec", "ffv1")
    with av.open(str(path), "w", **options) as container:
        pictures = container.add_stream(codec, rate=rate)
        pictures.height, pictures.width = frames[0].shape[:2]
        pictures.pix_fmt = "yuv420p"
        if gop is not None:
            pictures.codec_context.gop_size = gop
        if sound is not None:
            track = container.add_stream("pcm_s16le", rate=44_100, layout=layout)
        for time, frame in zip(times or range(len(frames)), frames, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, fractions.Fraction(1, rate)
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode())
        if sound is not None:
            for second, samples in sound.items():
                samples = np.repeat((32767 * samples).astype(np.int16), len(track.layout.channels))
                block = av.AudioFrame.from_ndarray(samples[None], format="s16", layout=layout)
                block.sample_rate, block.pts = 44_100, round(second * 44_100)
                container.mux(track.encode(block))
            container.mux(track.encode())
    return path


def turn(path, matrix):
    """Sets the display matrix of an mp4 file: (x, y) is shown at (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    data = bytearray(path.read_bytes())
    begin = data.index(b"tkhd") + 44
    of_track = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[begin : begin + 36] = np.array(of_track, ">i4").tobytes()
    path.write_bytes(data)


def read(path, size=(32, 40)):
    """All frames and samples of a video, without the padding of its last clip."""
    clips = list(video.pieces(path, size=size))
    frames = np.concatenate([clip.frames[: clip.num_frames] for clip in clips])
    audio = np.concatenate([clip.audio[: 1920 * clip.num_frames] for clip in clips])
    return frames, audio[:, 0]


def brightness(frames):
    return frames.mean(axis=(1, 2, 3))


def heard(audio):
    """The first and last loud sample, in frames."""
    loud = np.flatnonzero(np.abs(audio) > 0.05)
    return loud[0] / 1920, loud[-1] / 1920


def noise(count, height=48, width=64):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, height, width, 3), np.uint8)
