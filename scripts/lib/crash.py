"""Kills the connector (SIGKILL) at random moments under load and counts what came through.

In journaled mode, with a journal that outlives the process, and against a real broker:

  * every message published is a committed document at the end (nothing lost);
  * the way from journal to document is exact: in every session_id the committed sequence runs 1, 2, 3 … in order;
  * a message committed twice is a redelivery of the broker's, and marked `redelivered`;
  * bodies arrive as they were sent: the header `digest` is the SHA-256 of what body_raw stands for.

The moments come from --seed; what happens at them also depends on the machine. Exit status 1 if one of these fails.
"""

import argparse
import base64
import hashlib
import os
import random
import sys
import threading
import time

from publisher import Publisher
from runtime import Runtime


def octets(document):
    raw = document.get("body_raw", "")
    return base64.b64decode(raw) if document.get("body_encoding") == "base64" else raw.encode()


def judge(committed, published):
    """Counts and findings about the committed documents, given the set of published ids."""
    seen, duplicated, unmarked, damaged, strangers = set(), 0, 0, 0, 0
    order, problems = {}, []
    current = None
    for document in committed:
        session, sequence = document["session_id"], document["sequence"]
        if session != current and session in order:
            problems.append(f"session {session} comes back after another one")
        current = session
        expected = order.get(session, 0) + 1
        if sequence != expected:
            problems.append(f"session {session}: sequence {sequence} after {expected - 1}")
        order[session] = sequence
        identity = document["properties"]["message_id"]
        if identity not in published:
            strangers += 1
        if identity in seen:
            duplicated += 1
            unmarked += not document["delivery"]["redelivered"]
        seen.add(identity)
        damaged += document["properties"]["headers"]["digest"] != hashlib.sha256(octets(document)).hexdigest()
    return {
        "published": len(published), "committed": len(committed), "lost": len(published - seen),
        "duplicated": duplicated, "duplicated not marked redelivered": unmarked, "damaged": damaged,
        "never published": strangers, "out of order": len(problems),
    }, problems


def main():
    parser = argparse.ArgumentParser(prog="scripts/crash", description="Kills source-amqp under load, again and again.")
    parser.add_argument("--cycles", type=int, default=12, help="how many kills (12)")
    parser.add_argument("--messages", type=int, default=20000, help="how many messages in all (20000)")
    parser.add_argument("--seed", type=int, default=1, help="of the messages and of the moments (1)")
    parser.add_argument("--prefetch", type=int, default=500, help="consumer.prefetch_count (500)")
    parser.add_argument("--queue", choices=["classic", "quorum"], default="classic",
                        help="classic, consumed exclusively, or quorum with a single active consumer (classic)")
    parser.add_argument("--mode", choices=["journaled", "committed"], default="journaled",
                        help="journal.acknowledge; committed starts with a new journal after every kill (journaled)")
    parser.add_argument("--deduplicate", choices=["auto", "assert", "off"], default="auto",
                        help="consumer.deduplicate; off is the control that must show duplicates (auto)")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    directory, environ = os.environ["WORK_DIRECTORY"], os.environ
    queue, published = f"crash-{arguments.seed}", set()
    publisher = Publisher()
    types = {"quorum": {"x-queue-type": "quorum", "x-single-active-consumer": True}, "classic": {}}[arguments.queue]
    publisher.declare(queue, arguments=types)
    journal = {"path": f"{directory}/journal.db"} if arguments.mode == "journaled" else {}
    runtime = Runtime(environ["SOURCE_AMQP_BINARY"], {
        "host": environ["SOURCE_AMQP_TEST_HOST"], "port": int(environ["SOURCE_AMQP_TEST_PORT"]),
        "queue": {"name": queue, "arguments": types}, "reconnect_delay": 0.2,
        "consumer": {"prefetch_count": arguments.prefetch, "deduplicate": arguments.deduplicate,
                     "exclusive": arguments.queue == "classic"},
        "journal": journal | {"acknowledge": arguments.mode}}, log_path=f"{directory}/log")

    def load(first, last):
        for start in range(first, last, 250):
            count = min(250, last - start)
            publisher.publish_many(queue, count, seed=arguments.seed, start=start)
            published.update(f"m-{number:07}" for number in range(start, start + count))

    share = arguments.messages // (arguments.cycles + 1)
    begin = time.monotonic()
    for cycle in range(arguments.cycles + 1):
        last_cycle = cycle == arguments.cycles
        first = cycle * share + 1
        last = arguments.messages + 1 if last_cycle else first + share
        loader = threading.Thread(target=load, args=(first, last))
        loader.start()
        before, read_before = len(runtime.committed), runtime.read
        if last_cycle:
            runtime.start()
            loader.join()
            break
        # One kill in five falls into the start; the others anywhere from the first document to a moment of rest.
        early = rng.random() < 0.2
        runtime.hold(acknowledgements=rng.random() < 0.25)
        runtime.start(wait_opened=False)
        if not early:
            runtime.wait(lambda: runtime.read > read_before, "document")
        time.sleep(rng.random() * (0.2 if early else 0.5))
        runtime.kill()
        loader.join()
        print(f"kill {cycle + 1:3}: {runtime.read - read_before:6} documents read, "
              f"{len(runtime.committed) - before:6} committed, {len(published):6} published", flush=True)
    runtime.hold()
    failures = []
    seen, scanned = set(), 0

    def complete():
        nonlocal scanned
        for document in runtime.committed[scanned:]:
            seen.add(document["properties"]["message_id"])
        scanned = len(runtime.committed)
        return len(seen) >= len(published)

    try:
        runtime.wait(complete, "last message", seconds=60)
        runtime.wait(lambda: not runtime.pending and not runtime.owed, "last acknowledgement")
        status = runtime.stop()
        if status != 0:
            failures.append(f"the last session ended with {status}: {runtime.last_log}")
    except RuntimeError as error:
        failures.append(str(error))
        runtime.kill()
    if runtime.failure:
        failures.append(runtime.failure)
    left = publisher.queue_info(queue)["messages"]
    counts, problems = judge(runtime.committed, published)
    counts["left in the queue"] = left
    for name, count in counts.items():
        print(f"{count:8} {name}")
    print(f"{arguments.cycles} kills, seed {arguments.seed}, {time.monotonic() - begin:.1f} s")
    # The anchor of a committed capture stays in the queue when it ends: what comes back of it is recognised.
    if arguments.mode == "committed" and left <= 8:
        counts["left in the queue"] = 0
    must_be_zero = set(counts) - {"published", "committed", "duplicated"}
    failures += [f"{counts[name]} {name}" for name in counts if name in must_be_zero and counts[name]]
    for failure in failures + problems[:5]:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if failures or problems else 0)


if __name__ == "__main__":
    main()
