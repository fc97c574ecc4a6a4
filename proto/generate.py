"""Generate the committed protobuf code from the .proto files beside this script.

    python proto/generate.py            write rxnet/**/*_pb2.py and .pyi        (make proto)
    python proto/generate.py --check    change nothing; exit 1 if the committed code is not what would be written

Generated code runs on the runtime it was made for and on newer ones, up to one major version, never on an older one.
So the generator is pinned to the oldest protobuf that setup.cfg admits, and lives in an environment of its own: it
does not get along with the newest runtime, which the development environment has.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

GENERATOR = "grpcio-tools==1.76.0"
"""Brings protoc 31.1, whose code asks for a protobuf runtime of at least 6.31.1."""
TYPES = "mypy-protobuf==5.1.0"
"""Writes the .pyi files: protoc's own are wrong where a field is named like its type (`Checks`)."""
GENERATOR_RUNTIME = "protobuf==6.33.6"

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def cache() -> Path:
    """The directory that keeps environments from one run to the next."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rxnet-proto"


def environment(*packages: str) -> Path:
    """Return the interpreter of an environment with exactly these packages asked for, making it if need be."""
    name = re.sub(r"[^\w.+]+", "-", "+".join(packages)) + f"-py{sys.version_info[0]}.{sys.version_info[1]}"
    place = cache() / name
    python = place / "bin" / "python"
    if (place / "complete").exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    subprocess.run([*pip, *packages], check=True)
    (place / "complete").touch()
    return python


def sources() -> list[str]:
    """All .proto files, as paths relative to this directory."""
    return sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))


def generate(into: Path) -> list[Path]:
    """Run the compiler; return what it made, as paths relative to `into`."""
    python = environment(GENERATOR, TYPES, GENERATOR_RUNTIME)
    command = [str(python), "-m", "grpc_tools.protoc", f"-I{HERE}", f"--python_out={into}"]
    typed = [f"--plugin=protoc-gen-mypy={python.parent / 'protoc-gen-mypy'}", f"--mypy_out=quiet:{into}"]
    subprocess.run([*command, *typed, *sources()], check=True, cwd=HERE)
    return sorted(path.relative_to(into) for path in into.rglob("*_pb2.py*"))


def stale(made: Path, names: list[Path]) -> list[str]:
    """What differs between fresh and committed code, one line a file."""
    found = []
    for name in names:
        ours = ROOT / name
        if not ours.exists():
            found.append(f"{name}: not generated yet")
        elif ours.read_bytes() != (made / name).read_bytes():
            found.append(f"{name}: out of date")
    committed = {
        path.relative_to(ROOT) for path in (ROOT / "rxnet").rglob("*_pb2.py*") if path.suffix in (".py", ".pyi")
    }
    found += [f"{name}: its .proto file is gone" for name in sorted(committed - set(names))]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the committed protobuf code.")
    parser.add_argument("--check", action="store_true", help="only tell whether the committed code is current")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rxnet-proto-") as scratch:
        made = Path(scratch)
        names = generate(made)
        lines = stale(made, names)
        if options.check:
            for line in lines:
                sys.stderr.write(f"{line}; run `make proto`\n")
            return 1 if lines else 0
        for name in names:
            target = ROOT / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / name, target)
    sys.stdout.write(f"{len(names)} files generated, {len(lines)} of them changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
