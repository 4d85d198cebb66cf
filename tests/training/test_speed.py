"""The speed of training."""

import pytest

from perceiver_io.training import speed
from perceiver_io.training.speed import Speed, training_summary


@pytest.fixture
def clock(monkeypatch):
    """A clock controlled by the test: its only entry is the time in seconds."""
    seconds = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_compilation_and_pauses_do_not_count(clock):
    measured = Speed()
    clock[0] += 60
    measured.advance(8, 4e10)  # compiled
    for _ in range(3):
        clock[0] += 0.5
        measured.advance(8, 4e10)
    expected = {"steps_per_second": 2, "examples_per_second": 16, "tflops_per_device": 0.64}
    assert measured.report() == pytest.approx(expected)
    assert measured.report() == {}
    measured.advance(8, 4e10)
    clock[0] += 60
    measured.resume()
    measured.advance(8, 4e10)
    clock[0] += 0.25
    assert measured.report()["steps_per_second"] == pytest.approx(4)
    clock[0] += 0.25
    measured.advance(8, 4e10)
    clock[0] += 60
    measured.advance(24, 4e10)  # compiled
    assert measured.report() == {}
    clock[0] += 0.5
    measured.advance(24, 4e10)
    expected = {"steps_per_second": 2, "examples_per_second": 48, "tflops_per_device": 1.92}
    assert measured.report() == pytest.approx(expected)


def test_batches_of_several_kinds_are_measured_together(clock):
    measured = Speed()
    for flops in (4e10, 1e11):
        clock[0] += 60
        measured.advance(8, flops)  # compiled
    for flops in (4e10, 1e11, 4e10):
        clock[0] += 0.5
        measured.advance(8, flops)
    expected = {"steps_per_second": 2, "examples_per_second": 16, "tflops_per_device": 0.96}
    assert measured.report() == pytest.approx(expected)


def test_the_summary_includes_the_speed_if_known():
    rates = {"steps_per_second": 2, "examples_per_second": 16, "tflops_per_device": 0.6}
    text = "loss 0.25  16 examples/s  0.6 TFLOP/s per device"
    assert training_summary({"loss": 0.25, "top_1": 0.5}, rates) == text
    assert training_summary({"loss": 0.25}, {}) == "loss 0.25"


@pytest.mark.parametrize(
    "flops,shown",
    [
        (1.2345e15, "1230 TFLOP/s"),
        (4.2e11, "0.42 TFLOP/s"),
        (5.125e10, "51.2 GFLOP/s"),
        (2e8, "0.2 GFLOP/s"),
        (1e6, "1 MFLOP/s"),
    ],
)
def test_rates_are_shown_in_a_suitable_unit(flops, shown):
    assert speed.flop_rate(flops) == shown
