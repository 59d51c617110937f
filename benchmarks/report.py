"""Tables and plots of what ``speed`` has measured. All but ``write`` and the plots is pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import CELLS, Cell

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_LARGE = 1024 * 1024  # above it, CPU time per GB says more

Taken = Mapping[str, Sequence[float]]


def ratios(taken: Taken, peers: Sequence[str]) -> list[float]:
    """By round, the relay's cost as a multiple of that of the best of these peers in the same round."""
    return [ours / min(taken[peer][place] for peer in peers) for place, ours in enumerate(taken["relay"])]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def seconds_per_gigabyte(cell: Cell, microseconds: Sequence[float]) -> list[float]:
    """CPU time of 10⁹ bytes of bodies."""
    return [each / cell.size * 1000 for each in microseconds]


def cell_lines(cell: Cell, taken: Taken) -> Iterator[str]:
    """For the terminal."""
    yield f"{cell.name}: {cell.size} bytes x {cell.connections} connections"
    peers = [name for name in taken if name != "relay"]
    for name, values in taken.items():
        ratio = "" if name == "relay" else f"   relay / it: {spread(ratios(taken, [name]), 2)}"
        gigabyte = f"   {spread(seconds_per_gigabyte(cell, values), 2)} s/GB" if cell.size >= _LARGE else ""
        yield f"  {name:<12} {spread(values):>28} µs/request{gigabyte}{ratio}"
    if peers:
        yield f"  relay / the best of each round: {spread(ratios(taken, peers), 2)}"


def idle_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Figures that no peer is compared in, for the terminal and the document."""
    if "idle" in found:
        idle = found["idle"]
        each = " and ".join(f"{size / 1024:.1f} KB at {kind}" for kind, size in idle["connection"].items())
        left = " and ".join(f"{size / 1024:.1f} KB" for size in idle["left"].values())
        yield f"* An idle agent connection, of 4,000, with what belongs to it upstream: {each} intakes."
        yield f"* A minute after all of them have gone: {left} of that."
        memory, core = f"{idle['memory'] / 1e6:.1f} MB resident", f"{idle['core']:.2%} of a core"
        yield f"* Idle with 16 intakes and checks: {memory}, {core}."
    yield f"* Start until all ports are open: {spread(found['start'], 2)} s."


def markdown(found: Mapping[str, Any]) -> str:
    """The measured part of the document."""
    machine, versions = found["machine"], found["versions"]
    names = list(versions)
    lines = [
        f"{machine['date']}, {machine['processor']}, Linux {machine['kernel']}, {machine['congestion']}; "
        f"{'; '.join(versions[name] for name in names)}. "
        f"Medians (and ranges) of {found['rounds']} rounds of {found['seconds']} s.",
        "",
        "CPU time in µs for each request; the last column compares each round with the best peer of that round.",
        "",
        "| | " + " | ".join(names) + " | relay / best |",
        "|---" * (len(names) + 2) + "|",
    ]
    peers = [name for name in names if name != "relay"]
    for name, taken in found["cells"].items():
        values = " | ".join(spread(taken[each], 0 if CELLS[name].size >= _LARGE else 1) for each in names)
        lines.append(f"| {name} | {values} | **{spread(ratios(taken, peers), 2)}** |")
    lines += ["", "![CPU time beside the peers'](performance-cells.svg)", ""]
    lines += ["| One connection, HTTP | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for place, what in enumerate(("p50", "p99")):
        values = " | ".join(spread([pair[place] for pair in found["latency"][name]], 0) for name in names)
        lines.append(f"| {what}, µs | {values} |")
    for protocol in ("http", "tcp"):
        values = " | ".join(spread(found["first_answer"][f"{name} {protocol}"], 0) for name in names)
        lines.append(f"| new connection to first answer, {protocol}, µs | {values} |")
    if "growth" in found:
        lines += ["", *_growth_lines(found["growth"]), "", "![Growth](performance-growth.svg)"]
    return "\n".join((*lines, "", *idle_lines(found)))


def _growth_lines(growth: Mapping[str, Mapping[Any, Sequence[float]]]) -> Iterator[str]:
    steps = " | ".join(f"{int(each):,}" for each in _steps(growth))
    yield f"| µs for each request of 1 KB, and as a multiple | {steps} |"
    yield "|---" * (len(_steps(growth)) + 1) + "|"
    for name, taken in growth.items():
        first, *_ = middles = [statistics.median(values) for values in taken.values()]
        cells = (
            f"{spread(values)}, {middle / first:.2f}" for values, middle in zip(taken.values(), middles, strict=True)
        )
        yield f"| {name} | {' | '.join(cells)} |"


def _steps(growth: Mapping[str, Mapping[Any, object]]) -> list[Any]:
    """Numbers of connections."""
    return list(next(iter(growth.values())))


def renewed(document: str, measured: str) -> str:
    """The document with another measured part.

    Raises:
        ValueError: it has no place for one.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} and {END} in the document")
    return f"{before}{BEGIN}\n{measured}\n{END}{after}"


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Renew ``performance.md`` and its plots in ``folder``."""
    document = folder / "performance.md"
    document.write_text(renewed(document.read_text(), markdown(found)))
    _plot_cells(folder / "performance-cells.svg", found)
    if "growth" in found:
        _plot_growth(folder / "performance-growth.svg", found["growth"])


def _plot_cells(file: Path, found: Mapping[str, Any]) -> None:
    from matplotlib.figure import Figure

    names = list(found["versions"])
    cells = list(found["cells"])
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        best = [
            min(statistics.median(values) for each, values in found["cells"][cell].items() if each != "relay")
            for cell in cells
        ]
        heights = [statistics.median(found["cells"][cell][name]) / low for cell, low in zip(cells, best, strict=True)]
        axes.bar([at + place * width for at in range(len(cells))], heights, width, label=found["versions"][name])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks([at + 0.4 - width / 2 for at in range(len(cells))], cells, rotation=30, ha="right")
    axes.set_ylabel("CPU time for each request,\nas a multiple of the best peer's")
    figure.legend(loc="outside upper center", fontsize="small", ncols=len(names))
    _save(figure, file)


def _plot_growth(file: Path, growth: Mapping[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, taken in growth.items():
        middles = [statistics.median(each) for each in taken.values()]
        axes.plot([int(each) for each in taken], middles, marker="o", label=name)
    axes.legend()
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("connections")
    axes.set_ylabel("CPU time for each request, µs")
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "fipsrelay", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})
