"""Run all benchmarks, one after the other, and say how they stand to the goals.

    python benchmarks/run.py [--record]

Prints one table and writes the measurements to benchmarks/results/latest.json. With `--record` the table goes into
docs/benchmarks.md as well. Run it on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "latest.json"
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: written by benchmarks/run.py --record -->", "<!-- end of results -->"
BENCHMARKS = ("engine", "gate", "network_map")
LIMIT = 1800


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what it is, the goal in words, what was measured and whether the goal is met (None: no goal)."""

    what: str
    goal: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    wireguard = shutil.which(os.environ.get("WIREGUARD_GO") or "wireguard-go")
    said = subprocess.run([wireguard, "--version"], capture_output=True, text=True, check=False) if wireguard else None
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wireguard": said.stdout.partition("\n")[0].strip() if said else "none",
        "load before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def measure(directory: Path) -> dict[str, Any]:
    """Run each benchmark in a process of its own; None for one that failed."""
    found: dict[str, Any] = {}
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        file = directory / f"{name}.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
        done = subprocess.run(command, check=False, timeout=LIMIT)
        found[name] = json.loads(file.read_text()) if done.returncode == 0 and file.exists() else None
    return found


def median_of(values: Sequence[float], unit: str, digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def engine_rows(found: dict[str, Any]) -> list[Row]:
    rows = []
    for collector, sizes in found["us_per_event"].items():
        medians = {int(size): statistics.median(taken) for size, taken in sizes.items()}
        small, large = min(medians), max(medians)
        calm = collector == "calm"
        rate = 1e6 / medians[small]
        spread = f"{rate:,.0f} ({1e6 / max(sizes[str(small)]):,.0f} to {1e6 / min(sizes[str(small)]):,.0f})"
        goal = "at least 50,000" if calm else ""
        rows.append(
            Row(
                f"engine: events/s, {small:,} peers, {collector} collector",
                goal,
                spread,
                rate >= 50_000 if calm else None,
            )
        )
        ratio = medians[large] / medians[small]
        what = f"engine: cost of an event, {large:,} to {small:,} peers, {collector} collector"
        rows.append(Row(what, "at most 2 times" if calm else "", f"{ratio:.2f} times", ratio <= 2 if calm else None))
    return rows


def gate_rows(found: dict[str, Any]) -> list[Row]:
    closed = found["closed_ms"]
    what = f"gate: {found['peers']:,} pending peers cancelled, agents closed"
    return [Row(what, "under 20 ms", median_of(closed, "ms"), statistics.median(closed) < 20)]


def map_rows(rounds: list[dict[str, float]]) -> list[Row]:
    def each(name: str) -> list[float]:
        return [found[name] for found in rounds if name in found]

    state, differs, blocked = each("state_s"), each("one_differs_ms"), each("blocked_ms")
    rows = [
        Row(
            f"map: bytes ({rounds[0]['bytes'] / 1e6:.1f} MB) to state",
            "under 0.5 s",
            median_of(state, "s", 2),
            statistics.median(state) < 0.5,
        ),
        # The goal is a bound: the worst round counts.
        Row("map: loop blocked", "never over 50 ms", median_of(blocked, "ms"), max(blocked) <= 50),
        Row("map: one peer differs", "under 10 ms", median_of(differs, "ms"), statistics.median(differs) < 10),
    ]
    more = [whole - alone for whole, alone in zip(each("device_s"), each("device_alone_s"), strict=True)]
    if not more:
        return [
            *rows,
            Row("map: device told, beyond what it needs alone", "under 0.3 s", "not measured: no device", None),
        ]
    what = f"map: device told, beyond the {statistics.median(each('device_alone_s')):.2f} s that it needs alone"
    return [*rows, Row(what, "under 0.3 s", median_of(more, "s", 2), statistics.median(more) < 0.3)]


def rows_of(found: dict[str, Any]) -> list[Row]:
    makers = {"engine": engine_rows, "gate": gate_rows, "network_map": map_rows}
    rows: list[Row] = []
    for name in BENCHMARKS:
        rows += makers[name](found[name]) if found[name] else [Row(name, "", "FAILED", False)]
    return rows


def printed(rows: list[Row]) -> str:
    wide = [
        max(len(cell) for cell in column) for column in zip(*[(r.what, r.goal, r.measured) for r in rows], strict=True)
    ]
    return "\n".join(
        f"  {r.what:{wide[0]}}  {r.goal:{wide[1]}}  {r.measured:{wide[2]}}  {r.verdict}".rstrip() for r in rows
    )


def markdown(rows: list[Row], where: dict[str, Any]) -> str:
    lines = ["| figure | goal | measured: median (range) | |", "|---|---|---|---|"]
    lines += [f"| {r.what} | {r.goal} | {r.measured} | {r.verdict} |" for r in rows]
    described = "; ".join(f"{name} {value}" for name, value in where.items())
    return "\n".join([*lines, "", f"Measured on: {described}."])


def record(text: str) -> None:
    """Put the table between the marks of the document."""
    document = DOCUMENT.read_text()
    before, begin, rest = document.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{DOCUMENT} has no place for the results: the lines {BEGIN!r} and {END!r}")
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory))
    rows = rows_of(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": where, "results": found}, indent=1) + "\n")
    print(f"\n== {', '.join(f'{name} {value}' for name, value in where.items())}")
    print(printed(rows))
    if options.record:
        record(markdown(rows, where))
    return int(None in found.values())


if __name__ == "__main__":
    sys.exit(main())
