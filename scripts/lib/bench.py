"""Runs the cases of scripts/bench in turn, round by round, and prints their medians.

Every round fills one queue for each case with the same messages, through a fanout exchange, and drains them one after
the other, in an order that moves on by one each round, each when the broker has come to rest. Rates are compared round by
round (`of limit` is the median of these ratios); CPU is the steadier figure.
"""

import argparse
import copy
import json
import shutil
import statistics
import sys
import time

from bench_parts import all_parts, show, windows
from bench_tools import CONNECTOR, ENVIRON, HERE, WORK, Broker, configuration, remove_journal, requests, run

# What the name of a case ends with that runs the connector of --before.
BEFORE = "-before"


class Case:
    """One row of the table. `share` is which part of the round's messages its queue gets."""

    # The connector that it runs.
    connector = CONNECTOR

    def __init__(self, name, what, share=1.0, queue=True):
        self.name, self.what, self.share, self.queue = name, what, share, queue

    def program(self, queue, count, prefetch):
        raise NotImplementedError

    def drain(self, queue, count, prefetch, size):
        return run([f"{HERE}/measure", *self.program(queue, count, prefetch)])


class Limit(Case):
    def program(self, queue, count, prefetch):
        return [f"{HERE}/limit", queue, str(count), str(prefetch)]


class Go(Case):
    def program(self, queue, count, prefetch):
        return [f"{HERE}/amqp091", queue, str(count), str(prefetch)]


class Python(Case):
    def program(self, queue, count, prefetch):
        script = {"pika": "peer_pika.py", "aio-pika": "peer_aio_pika.py"}[self.name]
        return [ENVIRON["BENCH_PYTHON"], f"{ENVIRON['BENCH_SOURCES']}/{script}", queue, str(count), str(prefetch)]


class Flow(Case):
    """source-amqp under the Flow protocol, journaled or committed."""

    def drain(self, queue, count, prefetch, size):
        mode = self.name.removesuffix(BEFORE)
        journal = {"acknowledge": mode}
        if mode == "journaled":
            journal["path"] = f"{WORK}/journal.db"
        config = configuration(queue, prefetch, journal=journal)
        found = run([f"{HERE}/driver", requests(f"{WORK}/requests", config), str(count), "--", self.connector])
        remove_journal()
        return found


class Standalone(Case):
    def drain(self, queue, count, prefetch, size):
        directory = f"{WORK}/captured"
        with open(f"{WORK}/run.yaml", "w", encoding="utf-8") as file:
            json.dump(configuration(queue, prefetch), file)
        open(f"{WORK}/requests", "w", encoding="ascii").write("\n")
        found = run([
            f"{HERE}/driver", f"{WORK}/requests", str(count), "--tail", f"{directory}/{queue}-000001.jsonl", "--",
            self.connector, "run", f"{WORK}/run.yaml", "--output", directory, "--rotate-size", "1024G"])
        shutil.rmtree(directory)
        return found


class Stall(Case):
    """The runtime reads nothing: how fast messages are journaled. What it leaves is replayed by `Replay`."""

    def drain(self, queue, count, prefetch, size):
        config = configuration(queue, prefetch, journal={"path": f"{WORK}/backlog.db"})
        path = requests(f"{WORK}/backlog.requests", config)
        return untimely(
            run([f"{HERE}/driver", path, str(count), "--hold", f"{WORK}/backlog.db", "--kill", "--", CONNECTOR]))


class Replay(Case):
    def drain(self, queue, count, prefetch, size):
        found = run([f"{HERE}/driver", f"{WORK}/backlog.requests", str(count), "--", CONNECTOR])
        remove_journal("backlog")
        return untimely(found)


def untimely(found):
    """Without what speaks of documents that come as soon as they can."""
    return {name: value for name, value in found.items() if name not in ("drain_seconds", "p50_ms", "p99_ms")}


CASES = [
    Limit("limit", "bare rabbitmq-c, raw frames, discards"),
    Go("go", "amqp091-go, prints documents, no journal"),
    Python("pika", "pika, prints documents, no journal", 0.2),
    Python("aio-pika", "aio-pika, prints documents, no journal", 0.1),
    Flow("journaled", "Flow protocol, journal on disk, synchronous=FULL"),
    Flow("committed", "Flow protocol, acknowledged after the runtime's commit"),
    Standalone("standalone", "run: JSONL files, synced"),
    Stall("stall", "journaled while the runtime reads nothing"),
    Replay("replay", "that backlog, from the journal", queue=False),
]


class Results:
    """Figures of one size: per case a list of what each round showed."""

    def __init__(self, size):
        self.size, self.rounds = size, {}

    def add(self, case, count, found, broker_cpu):
        # What fits one read of the driver takes no time at all.
        seconds = max(found["seconds"], 0.001)
        # Documents lag behind what was taken off the queue; where both are known the drain is the broker's side.
        drain = found.get("drain_seconds", seconds) or seconds
        figures = {
            "messages_per_second": count / drain, "megabytes_per_second": count * self.size / drain / 1e6,
            "documents_per_second": count / seconds, "cpu_us": found["cpu_seconds"] / count * 1e6,
            "user_us": found["user_seconds"] / count * 1e6, "broker_cpu_us": broker_cpu / count * 1e6,
            "peak_mib": found["peak_kib"] / 1024}
        if "work_cpu_seconds" in found:
            figures["work_cpu_us"] = found["work_cpu_seconds"] / count * 1e6
            figures["open_ms"] = found["open_seconds"] * 1e3
        for name in ("p50_ms", "p99_ms"):
            if name in found:
                figures[f"document_{name}"] = found[name]
        self.rounds.setdefault(case.name, []).append(figures)

    def medians(self, name):
        rounds = self.rounds[name]
        return {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}

    def paired(self, name, key, other):
        pairs = zip(self.rounds[name], self.rounds[other])
        return statistics.median(mine[key] / theirs[key] for mine, theirs in pairs)

    def lines(self):
        for case in CASES:
            if case.name not in self.rounds:
                continue
            rounds = self.rounds[case.name]
            line = {"case": case.name, "body_bytes": self.size, "rounds": len(rounds)}
            line |= {key: round(value, 3) for key, value in self.medians(case.name).items()}
            rates = [figures["messages_per_second"] for figures in rounds]
            line["messages_per_second_range"] = [round(min(rates)), round(max(rates))]
            costs = [figures["cpu_us"] for figures in rounds]
            line["cpu_us_range"] = [round(min(costs), 2), round(max(costs), 2)]
            if case.name + BEFORE in self.rounds:
                for key in ("messages_per_second", "cpu_us", "peak_mib"):
                    line[f"{key}_of_before"] = round(self.paired(case.name, key, case.name + BEFORE), 3)
            if "limit" in self.rounds and case.name not in ("limit", "replay"):
                line["rate_of_limit"] = round(self.paired(case.name, "messages_per_second", "limit"), 3)
                line["cpu_of_limit"] = round(self.paired(case.name, "cpu_us", "limit"), 2)
            yield line


def table(lines):
    head = ["case", "bytes", "msg/s (min – max)", "MB/s", "of limit", "client µs (min – max)", "of limit", "broker µs",
            "MiB", "p50 ms", "p99 ms"]
    rows = [head]
    for line in lines:
        low, high = line["messages_per_second_range"]
        cheap, dear = line["cpu_us_range"]

        def shown(key, digits, line=line):
            return f"{line[key]:.{digits}f}" if key in line else "–"
        rows.append([
            line["case"], str(line["body_bytes"]), f"{line['messages_per_second']:,.0f} ({low:,} – {high:,})",
            shown("megabytes_per_second", 1), shown("rate_of_limit", 2), f"{line['cpu_us']:.1f} ({cheap} – {dear})",
            shown("cpu_of_limit", 2), shown("broker_cpu_us", 0), shown("peak_mib", 0), shown("document_p50_ms", 1),
            shown("document_p99_ms", 1)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(head))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def drains(broker, cases, size, count, rounds, prefetch):
    results = Results(size)
    shares = sorted({case.share for case in cases if case.queue})
    for number in range(rounds):
        began = time.monotonic()
        # One exchange for each share: what all queues get goes through the first one, and so on.
        for level, share in enumerate(shares):
            queues = [f"bench-{case.name}" for case in cases if case.queue and case.share >= share]
            broker.declare(queues, f"bench-{level}")
        published = 0
        for level, share in enumerate(shares):
            wanted = int(count * share)
            broker.publish(f"bench-{level}", wanted - published, size)
            published = wanted
        broker.collect_garbage()
        turns = cases[number % len(cases):] + cases[:number % len(cases)]
        if "replay" in [case.name for case in turns]:
            # It needs the backlog that the stall leaves.
            replay = next(case for case in turns if case.name == "replay")
            turns.remove(replay)
            turns.insert([case.name for case in turns].index("stall") + 1, replay)
        for case in turns:
            messages = int(count * case.share)
            broker.settle()
            before = broker.cpu()
            # The queue of the stall is where the replay's connector finds its anchor again.
            found = case.drain("bench-stall" if case.name == "replay" else f"bench-{case.name}", messages, prefetch, size)
            results.add(case, messages, found, broker.cpu() - before)
        broker.delete([f"bench-{case.name}" for case in cases if case.queue])
        print(f"{size} bytes, round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return results


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--windows", action="store_true")
    parser.add_argument("--cases", default="")
    parser.add_argument("--sizes", default="")
    parser.add_argument("--messages", type=int)
    parser.add_argument("--prefetch", type=int, default=500)
    parser.add_argument("--before")
    arguments = parser.parse_args()
    names = arguments.cases.split(",") if arguments.cases else [case.name for case in CASES]
    unknown = set(names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in CASES)}")
    if arguments.before:
        for case in [case for case in CASES if isinstance(case, (Flow, Standalone))]:
            former = copy.copy(case)
            former.name, former.connector = case.name + BEFORE, arguments.before
            CASES.insert(CASES.index(case), former)
            if case.name in names:
                names.append(former.name)
    cases = [case for case in CASES if case.name in names]
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    counts = {200: 30000, 2048: 20000, 65536: 1500} if arguments.quick else {200: 100000, 2048: 60000, 65536: 4000}
    sizes = [int(size) for size in arguments.sizes.split(",")] if arguments.sizes else list(counts)
    broker = Broker()
    shown = []
    for size in [] if arguments.parts or arguments.windows else sizes:
        count = arguments.messages or counts.get(size, 20000)
        for line in drains(broker, cases, size, count, rounds, arguments.prefetch).lines():
            print(json.dumps(line), flush=True)
            shown.append(line)
    parts = []
    if not arguments.cases and not arguments.sizes:
        found = windows(broker, 2000, 5, rounds) if arguments.windows else all_parts(broker, arguments.quick)
        for line in found:
            print(json.dumps(line), flush=True)
            parts.append(line)
    if shown:
        table(shown)
    show(parts)


if __name__ == "__main__":
    main()
