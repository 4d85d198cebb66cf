"""Measures and formats the speed of training."""

import time
from collections.abc import Mapping


class Speed:
    """Measures the speed of training: steps, examples and model FLOPs per second."""

    def __init__(self, flops: float):
        """Starts before the first step.

        Args:
            flops: model FLOPs per example, divided by the number of devices.
        """
        self._flops = flops
        self._batch_size: int | None = None
        self._steps = 0
        self._clock = 0.0

    def advance(self, batch_size: int) -> None:
        """Counts a step with so many examples, over all devices, as done.

        The first step of each size is not measured, as it includes compilation; what was measured
        of another size is dropped.
        """
        if batch_size != self._batch_size:
            self._batch_size = batch_size
            self.resume()
        else:
            self._steps += 1

    def report(self) -> dict[str, float]:
        """The speed since the last report or `resume`; empty if there was no step since."""
        steps, seconds = self._steps, time.perf_counter() - self._clock
        self.resume()
        if self._batch_size is None or steps == 0:
            return {}
        rate = steps / max(seconds, 1e-9)
        return {
            "steps_per_second": rate,
            "examples_per_second": rate * self._batch_size,
            "tflops_per_device": rate * self._batch_size * self._flops / 1e12,
        }

    def resume(self) -> None:
        """Restarts the clock, so that the time since the last report is not measured."""
        self._steps, self._clock = 0, time.perf_counter()


def training_summary(metrics: Mapping[str, float], speed: Mapping[str, float]) -> str:
    """Loss and speed in one line."""
    parts = [f"loss {metrics['loss']:.4g}"]
    if speed:
        parts.append(f"{digits(speed['examples_per_second'])} examples/s")
        parts.append(f"{flop_rate(1e12 * speed['tflops_per_device'])} per device")
    return "  ".join(parts)


def digits(value: float) -> str:
    """A number to three significant digits, without an exponent unless very large or small."""
    return f"{float(f'{value:.3g}'):g}"


def flop_rate(flops: float) -> str:
    """FLOP/s in a suitable unit: `0.42 TFLOP/s`, `51 GFLOP/s`."""
    for unit, size in (("T", 1e12), ("G", 1e9)):
        if flops >= 0.1 * size:
            return f"{digits(flops / size)} {unit}FLOP/s"
    return f"{digits(flops / 1e6)} MFLOP/s"
