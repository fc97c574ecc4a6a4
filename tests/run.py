"""The test command: every step in order, then where the time went, and last what was NOT PROVEN.

    python tests/run.py [--only STEP] [PYTEST ARGUMENTS]

Steps: lint (ruff, mypy, import contract), proto (generated code is current and runs on the oldest runtime), unit
(everything without privileges), netns (real processes in network namespaces), netbird (NetBird's own programs).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SLOWEST = 12


@dataclass
class Result:
    name: str
    seconds: float
    code: int
    tests: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    slow: list[tuple[float, str]] = field(default_factory=list)


def command(name: str, *argv: str) -> Result:
    print(f"\n== {name}: {' '.join(argv)}", flush=True)
    started = time.monotonic()
    program = BIN / argv[0]
    code = subprocess.run([str(program) if program.exists() else argv[0], *argv[1:]], cwd=ROOT, check=False).returncode
    return Result(name, time.monotonic() - started, code)


def tests(name: str, marks: str, extra: list[str]) -> Result:
    report = ROOT / ".pytest_cache" / f"{name}.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    result = command(name, "python", "-m", "pytest", "-q", "-m", marks, f"--junit-xml={report}", *extra)
    if result.code == 5:  # no test has these marks
        result.code = 0
    if report.exists():
        read_report(result, report)
    return result


def read_report(result: Result, report: Path) -> None:
    for case in ElementTree.parse(report).iter("testcase"):
        where = f"{case.get('classname')}::{case.get('name')}"
        result.tests += 1
        result.slow.append((float(case.get("time") or 0), where))
        skipped = case.find("skipped")
        if skipped is not None:
            result.skipped.append((where, skipped.get("message") or ""))


def steps(only: str | None, extra: list[str]) -> list[Result]:
    results = []

    def wanted(name: str) -> bool:
        return only is None or only == name

    if wanted("lint"):
        results.append(command("ruff check", "ruff", "check", "."))
        results.append(command("ruff format", "ruff", "format", "--check", "."))
        results.append(command("mypy --strict", "mypy"))
        results.append(command("import contract", "lint-imports"))
    if wanted("proto"):
        results.append(command("generated code is current", "python", "proto/generate.py", "--check"))
        results.append(command("oldest protobuf runtime", "python", "proto/oldest_runtime.py"))
    if wanted("unit"):
        results.append(tests("unit", "not netns and not netbird", extra))
    if wanted("netns"):
        results.append(tests("netns", "netns and not netbird", extra))
    if wanted("netbird"):
        results.append(tests("netbird", "netbird", extra))
    return results


def main() -> int:
    arguments = sys.argv[1:]
    only = None
    if "--only" in arguments:
        at = arguments.index("--only")
        only = arguments[at + 1]
        del arguments[at : at + 2]
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    results = steps(only, arguments)
    print("\n== where the time went")
    for result in results:
        verdict = "ok" if result.code == 0 else f"FAILED ({result.code})"
        ran = f"{result.tests - len(result.skipped)} tests" if result.tests else ""
        print(f"  {result.seconds:7.1f} s  {result.name:28} {ran:>10}  {verdict}")
    print(f"  {sum(r.seconds for r in results):7.1f} s  in all")
    if not any(result.tests for result in results):
        return max((1 for r in results if r.code), default=0)  # no test was asked for, so none is slow or missing
    print("  slowest tests:")
    for seconds, where in sorted((s for r in results for s in r.slow), reverse=True)[:SLOWEST]:
        print(f"  {seconds:7.1f} s  {where}")
    print_not_proven(results)
    return max((1 for r in results if r.code), default=0)


def print_not_proven(results: list[Result]) -> None:
    skipped = [entry for result in results for entry in result.skipped]
    if not skipped:
        print("\n== NOT PROVEN: nothing, every test ran")
        return
    print(f"\n== NOT PROVEN: {len(skipped)} tests did not run")
    for where, reason in skipped:
        print(f"  {where}: {re.sub(r'^Skipped: ', '', reason)}")


if __name__ == "__main__":
    sys.exit(main())
