"""Plans as a table, as JSON and as a picture."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from perceiver_io.runtime.plan.machines import Slice
from perceiver_io.runtime.plan.planning import Plan, kernel_seconds

_LONGEST = 10
_GIB = 2**30
ASSUMPTIONS = (
    "Times: kernels one after the other, on TPUs in the cycles that the compiler expects, on H100s "
    "2 us and their memory traffic or products at rates that were measured; communication after "
    "them over all links of a device. A measured step may be longer; the order of plans is what "
    "they are for."
)


class Entry(NamedTuple):
    """What kernels of one source, or communications of one kind, take of a step.

    Attributes:
        name: of them.
        times: how often they run.
        amount: seconds or bytes in all.
    """

    name: str
    times: int
    amount: float


def as_line(plan: Plan) -> str:
    """Settings and memory, to show while others are compiled."""
    return f"{_name(plan)}: {plan.used / _GIB:.2f} of {plan.limit / _GIB:.2f} GiB"


def as_table(plans: Sequence[Plan], slice_: Slice, batch_size: int) -> str:
    """The memory, communication and time of each plan, and the longest kernels of the last."""
    last = plans[-1]
    lines = [
        f"{slice_.name}: {len(slice_.devices)} devices of {last.limit / _GIB:.1f} GiB, "
        f"batch size {batch_size}",
        "",
        "| shards | remat | microbatches | parameters | optimizer | other | temporary "
        "| in all, GiB | fits | sent, GB | step, ms | steps/s | of peak |",
        "|---" * 13 + "|",
        *map(_row, plans),
        "",
        _verdict(last),
    ]
    if last.collectives:
        lines += ["", "| collective | times | GB on each device |", "|---|---|---|"]
        lines += [f"| {x.name} | {x.times} | {x.amount / 1e9:.3f} |" for x in sent(last)]
    if last.kernels:
        lines += ["", "| kernel | times | ms in all |", "|---|---|---|"]
        lines += [
            f"| {x.name[-90:]} | {x.times} | {1e3 * x.amount:.2f} |" for x in longest(last, slice_)
        ]
    return "\n".join([*lines, "", ASSUMPTIONS])


def as_json(plans: Sequence[Plan], slice_: Slice) -> dict[str, Any]:
    """All of the table, sizes in bytes and times in seconds."""
    return {
        "topology": slice_.name,
        "devices": len(slice_.devices),
        "assumptions": ASSUMPTIONS,
        "plans": [
            {
                **plan.settings._asdict(),
                "memory": dict(plan.memory),
                "limit": plan.limit,
                "fits": plan.fits,
                "flops": plan.flops,
                "seconds": plan.seconds,
                "least_seconds": plan.least_seconds,
                "bytes_sent": [entry._asdict() for entry in sent(plan)],
                "seconds_of_kernels": [entry._asdict() for entry in longest(plan, slice_)],
            }
            for plan in plans
        ],
    }


def draw(plans: Sequence[Plan], slice_: Slice) -> Figure:
    """The memory of each plan beside the limit, and the longest kernels of the last one."""
    figure = Figure(figsize=(12, 0.4 * max(len(plans), _LONGEST) + 2), layout="constrained")
    memory, kernels = figure.subplots(1, 2)
    names = [_name(plan) for plan in plans]
    left = [0.0] * len(plans)
    for part in plans[0].memory:
        sizes = [plan.memory[part] / _GIB for plan in plans]
        memory.barh(names, sizes, left=left, label=part)
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    memory.axvline(plans[0].limit / _GIB, color="black", linestyle="--", label="limit")
    memory.set_xlabel("GiB on each device")
    memory.set_title(slice_.name)
    memory.invert_yaxis()
    memory.legend()
    rows = longest(plans[-1], slice_)
    names = [row.name[-40:] for row in rows]
    kernels.barh(range(len(rows)), [1e3 * row.amount for row in rows], tick_label=names)
    kernels.invert_yaxis()
    kernels.set_xlabel("ms of a step")
    kernels.set_title("the longest kernels of the last plan")
    return figure


def longest(plan: Plan, slice_: Slice) -> list[Entry]:
    """The seconds of the ten longest kernels; those of one source count as one."""
    seconds = ((x.source, x.times, kernel_seconds(x, slice_.machine)) for x in plan.kernels)
    return _added(seconds)[:_LONGEST]


def sent(plan: Plan) -> list[Entry]:
    """The bytes that are sent in a step, by kind of communication."""
    return _added((x.kind, x.times, x.bytes) for x in plan.collectives)


def _added(amounts: Iterable[tuple[str, int, float]]) -> list[Entry]:
    """Sums of the times, and of the amounts of all times, by name, the greatest first."""
    found: dict[str, Entry] = {}
    for name, times, amount in amounts:
        before = found.get(name, Entry(name, 0, 0))
        found[name] = Entry(name, before.times + times, before.amount + times * amount)
    return sorted(found.values(), key=lambda entry: -entry.amount)


def _row(plan: Plan) -> str:
    parts = dict(plan.memory)
    known = [parts.pop(name) for name in ("parameters", "optimizer", "temporary")]
    sizes = [known[0], known[1], sum(parts.values()), known[2], plan.used]
    cells = [str(plan.settings.fsdp), plan.settings.remat or "", str(plan.settings.accumulate)]
    cells += [f"{size / _GIB:.2f}" for size in sizes]
    cells.append("yes" if plan.fits else "no")
    if plan.seconds is None:
        cells += [""] * 4
    else:
        total = sum(entry.amount for entry in sent(plan))
        cells += [f"{total / 1e9:.2f}", f"{1e3 * plan.seconds:.1f}", f"{1 / plan.seconds:.2f}"]
        cells.append(f"{plan.least_seconds / plan.seconds:.0%}")
    return f"| {' | '.join(cells)} |"


def _verdict(plan: Plan) -> str:
    spare = (plan.limit - plan.used) / _GIB
    if not plan.fits:
        return (
            f"Nothing fits: the last one needs {-spare:.2f} GiB more. Use more devices, or a "
            "smaller batch."
        )
    settings = plan.settings
    flags = [
        f"--config.parallel.fsdp={settings.fsdp}",
        f"--config.training.accumulate={settings.accumulate}",
    ]
    remat = f", rematerialisation `{settings.remat}`" if settings.remat else ""
    return f"Fits, with {spare:.2f} GiB left: {' '.join(flags)}{remat}."


def _name(plan: Plan) -> str:
    settings = plan.settings
    parts = [f"{settings.fsdp} shards", settings.remat, f"{settings.accumulate} microbatches"]
    return ", ".join(part for part in parts if part)
