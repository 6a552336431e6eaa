"""A forecast in words, and as JSON. Everything that was assumed stands beneath the figures."""

from collections.abc import Iterator
from typing import Any

from experiments.forecast import Forecast, Layout, accumulations, computed_in, exchanged, shared
from experiments.hardware import FRAGMENTED, LEAST_STEP, LINK_UTILISATION, MEASURED_ON, RESERVED_GIB, UTILISATION
from experiments.progress import duration
from experiments.workload import TOKENS

CARDS = (24, 40, 80)  # GiB
HOUR = 3600.0


def lines(found: Forecast, price: float | None, data: str) -> Iterator[str]:
    """The whole forecast; `data`: on which data set, in words; `price`: of one device and hour."""
    device, layouts = found.device, found.layouts()
    runs = f"{len(found.runs)} run{'s' if len(found.runs) != 1 else ''}"
    yield f"{runs} on {found.at_hand} x {device.name} ({device.memory:g} GB), {data}"
    yield ""
    yield from _table(_layout_rows(found, layouts, price))
    best = shortest(found)
    if best is None:
        remedy = "give another --device-kind, a smaller optimisation.batch_size or -o optimisation.precision=bf16"
        yield f"no layout fits {device.memory:g} GB: {remedy}"
    else:
        a, given = best.accumulation, found.configs[found.largest].optimisation.accumulation
        more = f" -o optimisation.accumulation={a}" if a != given else ""
        each = f"--devices {best.devices}" if best.devices > 1 else "one device a run"
        yield f"shortest: {each}{more}, {duration(found.wall(best))}"
        yield ""
        yield from _table(_rows(found, best.devices))
    yield ""
    yield f"memory of a device, GiB ({found.largest}, the largest row):"
    yield from _table(_memory(found))
    yield ""
    yield "assumed:"
    yield from (f"- {each}" for each in assumptions(found))


def shortest(found: Forecast) -> Layout | None:
    """The layout that fits and ends first."""
    fitting = [layout for layout in found.layouts() if layout.accumulation is not None]
    return min(fitting, key=found.wall, default=None)


def assumptions(found: Forecast) -> Iterator[str]:
    """What the figures rest on, one sentence each."""
    device, config = found.device, found.configs[found.largest]
    precision = computed_in(config, device)
    peaks = ", ".join(f"{name} {value:g}" for name, value in device.tflops.items())
    yield f"{device.name}: TFLOP/s {peaks}; {device.link:g} GB/s to another device; source: {device.source}"
    if precision != config.optimisation.precision and config.optimisation.precision != "auto":
        yield f"{device.name} has no {config.optimisation.precision}: float32 is reckoned with"
    measured = {row: speed for row, speed in found.speeds.items() if speed.runs}
    for row, speed in measured.items():
        yield (
            f"{row}: measured, {speed.pairs_per_s:.1f} pairs/s a device, {speed.share:.0%} of the {precision} peak "
            f"({speed.runs} finished run{'s' if speed.runs != 1 else ''} of this model)"
        )
    if len(measured) < len(found.speeds):
        yield (
            f"training reaches {UTILISATION[precision]:.0%} of the {precision} peak, as on {MEASURED_ON}: assumed, no "
            "finished run of this model on such a device is recorded here"
        )
    yield f"a step takes {1000 * LEAST_STEP:g} ms or more, for starting its kernels"
    yield f"evaluation on one device of a run, the others wait; {UTILISATION['float32']:.0%} of the float32 peak"
    yield f"all-reduce and gather at {LINK_UTILISATION:.0%} of the link, and none of it beside the computing"
    yield f"captions of {TOKENS} tokens on average, the longest of {config.data.max_tokens}; loading images keeps up"
    yield (
        f"memory: a step on torch's meta device without compilation, {FRAGMENTED:.0%} for fragments and "
        f"{RESERVED_GIB:g} GiB for CUDA on top"
    )


def as_json(found: Forecast, price: float | None, data: str) -> dict[str, Any]:
    """The same figures."""
    layouts = []
    for layout in found.layouts():
        fits = layout.accumulation is not None
        wall = found.wall(layout) if fits else None
        layouts.append(
            {
                **layout._asdict(),
                "fits": fits,
                "at_once": found.at_hand // layout.devices,
                "wall_hours": None if wall is None else wall / HOUR,
                "cost": None if price is None or wall is None else price * found.at_hand * wall / HOUR,
                "rows": {row: found.times(row, layout.devices)._asdict() for row in found.configs},
            }
        )
    return {
        "device": found.device.name,
        "devices": found.at_hand,
        "runs": len(found.runs),
        "data": data,
        "layouts": layouts,
        "rows": {
            row: {
                "gflop_per_pair": step.flops / found.configs[row].optimisation.batch_size / 1e9,
                "steps": found.works[row].steps,
                "training_flops": found.works[row].steps * step.flops,
                "evaluation_flops": found.works[row].evaluation,
                "utilisation": found.speeds[row].share,
                "measured_runs": found.speeds[row].runs,
            }
            for row, step in found.steps.items()
        },
        "memory_gib": _needed(found),
        "assumptions": list(assumptions(found)),
    }


def _layout_rows(found: Forecast, layouts: list[Layout], price: float | None) -> Iterator[tuple[str, ...]]:
    head = ("devices a run", "runs at once", "accumulation", "GiB a device", "longest run", "all runs")
    yield (*head, "device hours", *(["cost"] if price is not None else []))
    for layout in layouts:
        own = (str(layout.devices), str(found.at_hand // layout.devices))
        if layout.accumulation is None:
            yield (*own, "none fits", f"{layout.needed:.1f}", "-", "-", "-", *(["-"] if price is not None else []))
            continue
        wall = found.wall(layout)
        longest = max(found.times(row, layout.devices).total for row in found.configs)
        # Devices that wait are paid for, too.
        cost = [f"{price * found.at_hand * wall / HOUR:,.2f}"] if price is not None else []
        times = (duration(longest), duration(wall), f"{found.at_hand * wall / HOUR:.1f}")
        yield (*own, str(layout.accumulation), f"{layout.needed:.1f}", *times, *cost)


def _rows(found: Forecast, devices: int) -> Iterator[tuple[str, ...]]:
    yield "row", "steps", "GFLOP a pair", "training", "exchange", "evaluation", "a run", "MB sent a step"
    for row, config in found.configs.items():
        step, batch, times = found.steps[row], config.optimisation.batch_size, found.times(row, devices)
        sent = exchanged(step, batch, devices) / 1e6
        figures = [duration(each) for each in (*times, times.total)]
        yield row, f"{found.works[row].steps:,}", f"{step.flops / batch / 1e9:.0f}", *figures, f"{sent:.0f}"


def _needed(found: Forecast) -> list[dict[str, Any]]:
    config, step, found_here = found.configs[found.largest], found.steps[found.largest], []
    ranks = config.fidelity.ranks
    for devices in (n for n in range(1, ranks + 1) if ranks % n == 0):
        seen = set()
        for accumulation in accumulations(config)[:4]:
            pairs, passes = shared(config, devices, accumulation)
            if (pairs, passes) in seen:
                continue
            seen.add((pairs, passes))
            needed = step.needed(pairs, passes)
            fits = {str(card): needed <= card for card in CARDS}
            how = {"devices": devices, "accumulation": accumulation, "passes": passes, "pairs": pairs // passes}
            found_here.append({**how, "gib": needed, "fits": fits})
    return found_here


def _memory(found: Forecast) -> Iterator[tuple[str, ...]]:
    yield "devices a run", "accumulation", "pairs at once", "GiB", *(f"in {card} GB" for card in CARDS)
    for each in _needed(found):
        fits = ("yes" if each["fits"][str(card)] else "no" for card in CARDS)
        pairs = f"{each['passes']} x {each['pairs']}" if each["passes"] > 1 else str(each["pairs"])
        yield str(each["devices"]), str(each["accumulation"]), pairs, f"{each['gib']:.1f}", *fits


def _table(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    cells = list(rows)
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        first = row[0].ljust(widths[0])
        yield "  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
