"""Counts what a message costs that depends on no machine: allocations, bytes that are copied, calls that read, write or sync.

    counts.py           writes scripts/lib/bench/counts.json
    counts.py --check   compares with it; exit status 1 if something is above it, or so far below that the file should say so

Run by scripts/bench --counts. Each figure is the difference of two runs of one layer, by how many more messages the longer one has, so that
what a start takes is not in it. A change that makes a figure worse comes with the file, and its commit says why.
"""

import json
import os
import pathlib
import subprocess
import sys

WORK, CONNECTOR, SWIFT = (os.environ[name] for name in ("WORK_DIRECTORY", "SOURCE_AMQP_BINARY", "BENCH_SWIFT"))
FILE = pathlib.Path(__file__).parent / "bench" / "counts.json"
FEW, MANY = 10_000, 30_000
# Where pages of SQLite fall differs a little from run to run.
TOLERANCE = 0.02


def counted(command):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False,
        env=dict(os.environ, LD_PRELOAD=f"{WORK}/count.so", LOG_LEVEL="error"))
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith('{"allocations"')]
    if done.returncode != 0 or not lines:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}: {done.stderr.decode()[-1000:]}")
    found = json.loads(lines[-1])
    return {"allocations": sum(found["allocations"].values()), "copied_bytes": found["copied"]} | found["calls"]


def unused(name):
    path = f"{WORK}/{name}.db"
    for suffix in ("", "-wal", "-shm", ".lock"):
        pathlib.Path(path + suffix).unlink(missing_ok=True)
    return path


def append(messages):
    return counted([SWIFT, "append", unused("append"), str(messages), "200", "250"])


def documents(messages):
    path = unused("documents")
    subprocess.run([SWIFT, "fill", path, str(messages), "200"], check=True, timeout=300)
    return counted([CONNECTOR, "journal", "export", path])


def decode(messages):
    return counted([SWIFT, "decode", str(messages)])


def main():
    found = {}
    for layer in (append, documents, decode):
        few, many = layer(FEW), layer(MANY)
        cost = {name: (many[name] - few[name]) / (MANY - FEW) for name in many}
        found[layer.__name__] = {name: round(value, 3) for name, value in cost.items() if value >= 0.001}
    if "--check" not in sys.argv:
        FILE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    known, wrong = json.loads(FILE.read_text(encoding="utf-8")), []
    for layer, costs in found.items():
        print(f"{layer}: " + ", ".join(f"{name} {value:g}" for name, value in costs.items()))
        for name in costs.keys() | known[layer].keys():
            now, before = costs.get(name, 0), known[layer].get(name, 0)
            if abs(now - before) > max(TOLERANCE, TOLERANCE * before):
                wrong.append(f"{layer}: {name} a message {now:g}, and {FILE.name} has {before:g}")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
