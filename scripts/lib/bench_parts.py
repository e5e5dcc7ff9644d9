"""The parts of scripts/bench that are not drains: single layers without a broker, replay of small and large backlogs, and
a steady thousand messages a second."""

import json
import statistics
import subprocess
import time

from bench_tools import CONNECTOR, ENVIRON, HERE, WORK, configuration, remove_journal, requests, run

SWIFT = ENVIRON["BENCH_SWIFT"]
ROUNDS = 5


def medians(rounds, key):
    return statistics.median(found[key] for found in rounds)


def microseconds(rounds, key="cpu_seconds"):
    return statistics.median(found[key] / found["messages"] for found in rounds) * 1e6


def fresh(name):
    """The path of a journal that the connector's own code has made, with a session and a consumer."""
    remove_journal(name)
    path = f"{WORK}/{name}.db"
    subprocess.run([SWIFT, "journal", path], check=True, timeout=60)
    return path


def append_and_prune(size, messages, batch):
    """The journal's module against the same statements in C: what a transaction appends the next one prunes."""
    ours, bare = [], []
    for _ in range(ROUNDS):
        remove_journal("append")
        ours.append(run([SWIFT, "append", f"{WORK}/append.db", str(messages), str(size), str(batch)]))
        bare.append(run([f"{HERE}/bare", "append", fresh("append"), str(messages), str(size), str(batch)]))
    remove_journal("append")
    rates = [other["seconds"] / mine["seconds"] for mine, other in zip(ours, bare)]
    return {
        "case": "append+prune", "body_bytes": size, "batch": batch, "rounds": ROUNDS,
        "messages_per_second": round(messages / medians(ours, "seconds")), "cpu_us": round(microseconds(ours), 2),
        "bare_messages_per_second": round(messages / medians(bare, "seconds")),
        "bare_cpu_us": round(microseconds(bare), 2), "rate_of_bare": round(statistics.median(rates), 3)}


def documents(size, messages):
    """`journal export` to /dev/null against a SELECT loop in C over the same rows; and the same with bodies of text."""
    costs = {}
    for kind in ("json", "text"):
        remove_journal("documents")
        path = f"{WORK}/documents.db"
        run([SWIFT, "fill", path, str(messages), str(size), *(["text"] if kind == "text" else [])])
        export, empty, select = [], [], []
        for _ in range(ROUNDS):
            export.append(run([f"{HERE}/measure", CONNECTOR, "journal", "export", path]))
            empty.append(run([f"{HERE}/measure", CONNECTOR, "journal", "export", path, "--from", "1", "--to", "1"]))
            select.append(run([f"{HERE}/bare", "select", path]))
        costs[kind] = (medians(export, "cpu_seconds") - medians(empty, "cpu_seconds")) / messages * 1e6
        bare = microseconds(select)
        remove_journal("documents")
    return {
        "case": "documents", "body_bytes": size, "rounds": ROUNDS, "cpu_us": round(costs["json"], 2),
        "text_bodies_cpu_us": round(costs["text"], 2), "bare_cpu_us": round(bare, 2),
        "cpu_of_bare": round(costs["json"] / bare, 2)}


def decoding(messages):
    rounds = [run([SWIFT, "decode", str(messages)]) for _ in range(ROUNDS)]
    return {"case": "decode", "rounds": ROUNDS, "cpu_us": round(microseconds(rounds), 3)}


def backlog(name, pending, size):
    if not pending:
        return fresh(name)
    remove_journal(name)
    run([SWIFT, "fill", f"{WORK}/{name}.db", str(pending), str(size)], seconds=900)
    return f"{WORK}/{name}.db"


def replays(broker, small, large, size):
    """Replay of as many messages out of a small backlog and a large one; opening of an empty journal and a large one."""
    broker.declare(["bench-replay"], "bench-replay")
    cost = {small: [], large: []}
    opening = {0: [], large: []}
    kept = backlog("large", large, size)
    for _ in range(ROUNDS):
        for pending in (small, large, 0):
            # A copy, since a replay changes it; the large one is only ever read by as little as is replayed.
            path = kept if pending == large else backlog("backlog", pending, size)
            config = configuration("bench-replay", 500, journal={"path": path, "max_bytes": 1 << 40})
            plan = requests(f"{WORK}/replay.requests", config)
            if pending:
                found = run([f"{HERE}/driver", plan, str(small), "--kill", "--", CONNECTOR])
                cost[pending].append({"messages": small, "cpu_seconds": found["work_cpu_seconds"]})
            else:
                found = run([f"{HERE}/driver", plan, "0", "--opened", "--kill", "--", CONNECTOR])
            if pending in opening:
                opening[pending].append(found)
    broker.delete(["bench-replay"])
    remove_journal("large")
    remove_journal("backlog")
    return {
        "case": "replay", "body_bytes": size, "rounds": ROUNDS, "small": small, "large": large,
        "small_cpu_us": round(microseconds(cost[small]), 2), "large_cpu_us": round(microseconds(cost[large]), 2),
        "open_empty_ms": round(medians(opening[0], "open_seconds") * 1e3, 1),
        "open_large_ms": round(medians(opening[large], "open_seconds") * 1e3, 1)}


def commits(count, size):
    """How long a transaction with one row takes, FULL, one every millisecond."""
    found = run([f"{HERE}/bare", "commits", fresh("commits"), str(count), str(size)])
    remove_journal("commits")
    return {"case": "bare commits", "body_bytes": size, "p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"]}


def steady(broker, size, rate, seconds, deduplicate):
    """Messages at an even rate into the Flow protocol: what a message costs, and how soon it is safe and out."""
    queue, messages = "bench-steady", rate * seconds
    broker.declare([queue], queue)
    with subprocess.Popen([f"{HERE}/tap", ENVIRON["SOURCE_AMQP_TEST_PORT"]], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as tap:
        config = configuration(queue, 500, journal={"path": f"{WORK}/steady.db"})
        config["port"] = int(tap.stdout.readline())
        config["consumer"]["deduplicate"] = deduplicate
        command = [f"{HERE}/driver", requests(f"{WORK}/requests", config), str(messages), "--", CONNECTOR]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(ENVIRON, LOG_LEVEL="error")) as driver:
            deadline = time.monotonic() + 60
            while broker.consumers(queue) == 0:
                if driver.poll() is not None or time.monotonic() > deadline:
                    driver.kill()
                    tap.kill()
                    raise SystemExit(f"steady: nothing consumes: {driver.stderr.read().decode()[-1000:]}")
            before = broker.cpu()
            broker.publish(queue, messages, size, rate)
            _, output = driver.communicate(timeout=120)
            used = broker.cpu() - before
        _, taken = tap.communicate(timeout=30)
    found = json.loads(output.decode().splitlines()[-1]) | json.loads(taken.decode().splitlines()[-1])
    broker.delete([queue])
    remove_journal("steady")
    return {
        "case": "steady", "body_bytes": size, "rate": rate, "deduplicate": deduplicate, "messages": messages,
        "cpu_us": round(found["work_cpu_seconds"] / messages * 1e6, 1),
        "cpu_percent": round(found["work_cpu_seconds"] / found["seconds"] * 100, 1),
        "broker_cpu_us": round(used / messages * 1e6), "peak_mib": round(found["peak_kib"] / 1024, 1),
        "ack_p50_ms": found["ack_p50_ms"], "ack_p99_ms": found["ack_p99_ms"],
        "document_p50_ms": found["p50_ms"], "document_p99_ms": found["p99_ms"]}


# Prefetch counts in journaled mode, and with how many milliseconds the runtime takes to commit in the other.
WINDOWS = [(count, None) for count in (1, 10, 100, 500, 1000, 5000)] + [
    (100, 100), (100, 1000), (1000, 100), (1000, 500), (1000, 1000), (4000, 1000), (8000, 1000), (8000, 4000)]


def windows(broker, size, seconds, rounds):
    """Messages a second by prefetch count and by how long the runtime takes to commit. `share` is that of prefetch count by commit
    latency, the most that there can be."""
    for prefetch, latency in WINDOWS:
        few = 3_000 if prefetch < 100 else 30_000
        messages = few if latency is None else min(60_000, int(prefetch * seconds * 1000 / latency))
        rates = []
        for _ in range(rounds):
            broker.declare(["bench-window"], "bench-window")
            broker.publish("bench-window", messages, size)
            broker.settle()
            journal = {"path": f"{WORK}/window.db"} if latency is None else {"acknowledge": "committed"}
            plan = requests(f"{WORK}/requests", configuration("bench-window", prefetch, journal=journal))
            found = run([
                f"{HERE}/driver", plan, str(messages), "--commit", str(latency or 0), "--kill", "--", CONNECTOR])
            rates.append(messages / max(found["seconds"], 0.001))
            broker.delete(["bench-window"])
            remove_journal("window")
        line = {"case": "window", "body_bytes": size, "prefetch": prefetch, "commit_ms": latency, "rounds": rounds,
                "messages_per_second": round(statistics.median(rates)),
                "range": [round(min(rates)), round(max(rates))]}
        yield line | ({"share": round(statistics.median(rates) * latency / 1000 / prefetch, 2)} if latency else {})


def allocations(broker, size, few, many):
    """Calls of malloc and its kin a message while a queue is drained, by whose code makes them: from the difference of two
    drains, without what the start takes."""
    counts = []
    for messages in (few, many):
        broker.declare(["bench-count"], "bench-count")
        broker.publish("bench-count", messages, size)
        config = configuration("bench-count", 500, journal={"path": f"{WORK}/count.db"})
        counts.append(run([
            f"{HERE}/driver", requests(f"{WORK}/requests", config), str(messages), "--", "/usr/bin/env",
            f"LD_PRELOAD={HERE}/count.so", CONNECTOR])["allocations"])
        broker.delete(["bench-count"])
        remove_journal("count")
    first, second = counts
    found = {name: (second[name] - first.get(name, 0)) / (many - few) for name in second}
    return {"case": "allocations a message", "body_bytes": size} | {
        name: round(count, 2) for name, count in sorted(found.items()) if count >= 0.005}


def all_parts(broker, quick):
    """Each as it is done."""
    yield decoding(2_000_000)
    for size, messages in ((200, 200_000), (2048, 60_000)):
        yield append_and_prune(size, messages // (4 if quick else 1), 250)
    for size, messages in ((200, 300_000), (2048, 100_000)):
        yield documents(size, messages // (4 if quick else 1))
    yield replays(broker, 10_000, 500_000 if quick else 5_000_000, 200)
    yield allocations(broker, 200, 20_000, 60_000)
    yield commits(5_000 if quick else 15_000, 200)
    for deduplicate in ("off", "auto"):
        yield steady(broker, 200, 1000, 5 if quick else 15, deduplicate)


def show(lines):
    """A line for people."""
    for line in lines:
        print("  ".join(f"{key}={value}" for key, value in line.items()))
