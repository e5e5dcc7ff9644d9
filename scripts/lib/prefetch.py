"""Measures throughput by prefetch count; run by scripts/prefetch, which sets the stage.

The runtime here is as small as can be: one thread counts lines, another commits. A commit takes what checkpoints there
are, lasts so long, acknowledges them, and the next begins: as Flow does it, where one transaction is captured while the
one before is committed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

from publisher import Publisher

QUEUE = "prefetch"
JOURNALED = [1, 10, 100, 500, 1000, 5000]
COMMITTED = [(100, 0.1), (100, 1), (1000, 0.1), (1000, 1), (4000, 1), (8000, 1), (8000, 4)]


class Run:
    """One session of the connector; `read` counts its documents."""

    def __init__(self, config, commit_seconds):
        self.read = self.checkpoints = 0
        self.commit_seconds = commit_seconds
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [os.environ["SOURCE_AMQP_BINARY"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=dict(os.environ, LOG_FORMAT="json"))
        self.send({"spec": {"connectorType": "LOCAL", "config": {}}})
        binding = {
            "resourceConfig": {"stream": QUEUE}, "resourcePath": [QUEUE], "stateKey": QUEUE + ".v0",
            "collection": {"name": "acmeCo/q", "key": ["/session_id", "/sequence"], "uuidPtr": "/_meta/uuid"}}
        self.send({"open": {
            "capture": {
                "name": "acmeCo/prefetch", "connectorType": "LOCAL", "config": config, "bindings": [binding],
                "intervalSeconds": 300},
            "version": "0123456789abcdef", "state": {}, "range": {"keyEnd": 4294967295, "rClockEnd": 4294967295}}})
        for body in (self.count, self.commit):
            threading.Thread(target=body, daemon=True).start()

    def send(self, message):
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def count(self):
        for line in self.process.stdout:
            if line.startswith(b'{"captured"'):
                self.read += 1
            elif line.startswith(b'{"checkpoint"'):
                with self.changed:
                    self.checkpoints += 1
                    self.changed.notify()

    def commit(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.checkpoints)
                count, self.checkpoints = self.checkpoints, 0
            time.sleep(self.commit_seconds)
            self.send({"acknowledge": {"checkpoints": count}})

    def rate(self, seconds, most):
        """Documents a second, from the first one on, for so long, or until `most` were read."""
        while not self.read:
            if self.process.poll() is not None:
                raise SystemExit(f"the connector ended with {self.process.returncode}")
            time.sleep(0.001)
        begin, first = time.monotonic(), self.read
        while time.monotonic() - begin < seconds and self.read < most:
            time.sleep(0.001)
        return (self.read - first) / (time.monotonic() - begin)

    def end(self):
        self.process.kill()
        self.process.wait()


def measure(options, publisher, prefetch, commit_seconds):
    """One figure; `commit_seconds` is None for journaled mode."""
    environ = os.environ
    most = 60_000
    publisher.delete(QUEUE)
    publisher.declare(QUEUE)
    wanted = most if commit_seconds is None else min(most, int(3 * prefetch * options.seconds / commit_seconds) + 2000)
    publisher.publish_many(QUEUE, wanted, kind="simple", size=options.size)
    config = {
        "host": environ["SOURCE_AMQP_TEST_HOST"], "port": int(environ["SOURCE_AMQP_TEST_PORT"]),
        "queue": {"name": QUEUE}, "consumer": {"prefetch_count": prefetch, "exclusive": True}}
    if commit_seconds is None:
        config["journal"] = {"path": f"{environ['WORK_DIRECTORY']}/{time.monotonic_ns()}.db"}
    run = Run(config, commit_seconds or 0)
    try:
        # The last ones are not counted, while the queue runs dry.
        return run.rate(options.seconds, wanted - prefetch)
    finally:
        run.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    publisher = Publisher()
    cases = [(prefetch, None) for prefetch in JOURNALED] + COMMITTED
    figures = {case: [] for case in cases}
    for _ in range(options.rounds):
        for case in cases:
            figures[case].append(measure(options, publisher, *case))
    print(f"{options.size}-byte messages, median of {options.rounds} rounds (least, most)")
    print("| mode | prefetch_count | commit latency | messages/s |\n|---|---|---|---|")
    for prefetch, seconds in cases:
        all_of_them = figures[prefetch, seconds]
        mode, latency = ("journaled", "–") if seconds is None else ("committed", f"{seconds:g} s")
        print(f"| {mode} | {prefetch:,} | {latency} | {statistics.median(all_of_them):,.0f} "
              f"({min(all_of_them):,.0f}–{max(all_of_them):,.0f}) |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
