"""Measures and formats the speed of training."""

import time
from collections.abc import Mapping


class Speed:
    """Measures the speed of training: steps, examples and model FLOPs per second."""

    def __init__(self) -> None:
        """Starts before the first step."""
        self._compiled: set[tuple[int, float]] = set()
        self.resume()

    def advance(self, batch_size: int, flops: float) -> bool:
        """Counts a step as done; returns whether it is the first of its kind.

        Such a step is not measured, as it includes compilation, and neither are the steps between
        the last report and it.

        Args:
            batch_size: number of examples, over all devices.
            flops: model FLOPs per example, divided by the number of devices.
        """
        kind = batch_size, flops
        if kind not in self._compiled:
            self._compiled.add(kind)
            self.resume()
            return True
        self._steps += 1
        self._examples += batch_size
        self._flops += batch_size * flops
        return False

    def report(self) -> dict[str, float]:
        """The speed since the last report or `resume`; empty if there was no step since."""
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        found = {
            "steps_per_second": self._steps / seconds,
            "examples_per_second": self._examples / seconds,
            "tflops_per_device": self._flops / seconds / 1e12,
        }
        measured = self._steps > 0
        self.resume()
        return found if measured else {}

    def resume(self) -> None:
        """Restarts the clock, so that the time since the last report is not measured."""
        self._steps, self._examples, self._flops = 0, 0, 0.0
        self._clock = time.perf_counter()


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
