"""Hurts everything around one long-lived connector, at random, while messages are published all the time.

  scripts/chaos [--faults 100] [--seed 1] [--queue classic|quorum] [--delay 0.5] [--only FAULT]

The connector is started once and never again. Faults: every connection closed by an administrator; the broker killed,
stopped in good order, or frozen; the network reset, torn inside a frame, or dark; the password changed; the queue
deleted (only while nothing is in it that was not captured); a memory alarm; the journal locked by somebody else; the
runtime not committing; the connector itself suspended. At the end, and against a real broker:

  * every message that the broker confirmed is a committed document (nothing lost);
  * the way from journal to document is exact: the committed sequence runs 1, 2, 3 … in order;
  * a message committed twice is a redelivery of the broker's, and marked `redelivered`;
  * the connector is consuming: a message published after the last fault is captured.

A message whose confirmation a fault swallowed may be there or not; it is counted apart and never published again. The
faults come from --seed; what happens at them also depends on the machine. After each, the time from the moment that the
broker could be reached again to the first message captured then is printed. Exit status 1 if one of these fails.
"""

import argparse
import datetime
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

from crash import judge
from proxy import Proxy
from publisher import Publisher
from runtime import Runtime

HEARTBEAT = 1
BATCH = 20


class Capture(Runtime):
    """A runtime that also counts what the log tells about the connection."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.started = 0
        self.causes = {}

    def read_log(self, process, session):
        for line in process.stderr:
            self.last_log = line.decode(errors="replace").rstrip()
            self.log_file.write(line)
            self.log_file.flush()
            event = json.loads(line)
            with self.changed:
                if event["message"].startswith("consuming from queue"):
                    self.started += 1
                if event["message"].startswith("not consuming"):
                    cause = event["fields"]["cause"]
                    self.causes[cause] = self.causes.get(cause, 0) + 1
                self.changed.notify_all()

    def latest(self):
        """When the newest committed document was received, in seconds of the wall clock."""
        with self.changed:
            if not self.committed:
                return 0.0
            text = self.committed[-1]["received_at"]
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Load(threading.Thread):
    """Publishes small batches without end, through every fault of the broker's."""

    def __init__(self, queue, seed):
        super().__init__(daemon=True)
        self.queue, self.seed, self.number, self.gap = queue, seed, 1, 0.02
        self.confirmed, self.uncertain = set(), set()
        self.idle, self.go, self.finished = threading.Event(), threading.Event(), False
        self.go.set()

    def batch(self, publisher):
        start, self.number = self.number, self.number + BATCH
        ids = {f"m-{number:07}" for number in range(start, start + BATCH)}
        try:
            answer = publisher.publish_many(self.queue, BATCH, seed=self.seed, start=start)
        except Exception:
            # No more is known than that the broker, or the way to it, is not what it was.
            self.uncertain |= ids
            return False
        # If the queue is just being declared again, messages come back unroutable.
        (self.confirmed if answer["routed"] == BATCH else self.uncertain).update(ids)
        return True

    def run(self):
        publisher = Publisher()
        while not self.finished:
            if not self.go.is_set():
                self.idle.set()
                self.go.wait()
            if not self.batch(publisher):
                publisher = Publisher()
                time.sleep(0.1)
            time.sleep(self.gap)
        self.idle.set()

    def pause(self):
        """No publish is under way once this returns."""
        self.idle.clear()
        self.go.clear()
        if not self.idle.wait(120):
            raise RuntimeError("the publisher hangs")

    def resume(self):
        self.go.set()

    def end(self):
        self.finished = True
        self.go.set()
        self.join(120)
        if self.is_alive():
            raise RuntimeError("the publisher hangs")


class Chaos:
    def __init__(self, arguments):
        environ = os.environ
        self.rng = random.Random(arguments.seed)
        self.directory = environ["WORK_DIRECTORY"]
        self.broker_directory = environ["SOURCE_AMQP_TEST_BROKER_DIR"]
        self.password = environ["SOURCE_AMQP_TEST_PASSWORD"]
        self.user = environ["SOURCE_AMQP_TEST_USER"]
        self.queue = f"chaos-{arguments.seed}"
        types = {"quorum": {"x-queue-type": "quorum", "x-single-active-consumer": True}, "classic": {}}[arguments.queue]
        Publisher().declare(self.queue, arguments=types)
        self.proxy = Proxy(environ["SOURCE_AMQP_TEST_HOST"], int(environ["SOURCE_AMQP_TEST_PORT"]))
        self.runtime = Capture(environ["SOURCE_AMQP_BINARY"], {
            "host": "127.0.0.1", "port": self.proxy.port, "queue": {"name": self.queue, "arguments": types},
            "heartbeat": HEARTBEAT, "reconnect_delay": arguments.delay, "connection_timeout": 3,
            "consumer": {"prefetch_count": 100, "exclusive": arguments.queue == "classic"},
            "journal": {"path": f"{self.directory}/journal.db"}}, log_path=f"{self.directory}/log")
        self.load = Load(self.queue, arguments.seed)

    def broker(self, *command):
        result = subprocess.run(
            ["scripts/broker", command[0], self.broker_directory, *command[1:]], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"scripts/broker {' '.join(command)}: {result.stderr}")
        return result.stdout

    def rest(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    # Faults. Each leaves the way to the broker open again.

    def connections_closed(self):
        self.broker("ctl", "close_all_connections", "chaos")

    def broker_killed(self):
        self.broker("kill")
        self.rest(0, 1)
        self.broker("start")

    def broker_stopped(self):
        self.broker("stop")
        self.rest(0, 1)
        self.broker("start")

    def broker_frozen(self):
        self.broker("stop-process")
        self.rest(0.2, 5 * HEARTBEAT)
        self.broker("cont-process")

    def network_reset(self):
        self.proxy.reset()

    def network_torn(self):
        self.proxy.tear(self.rng.randint(1, 20_000))
        self.rest(0.1, 1)

    def network_dark(self):
        self.proxy.darken()
        self.rest(0.2, 5 * HEARTBEAT)
        self.proxy.lighten()

    def password_changed(self):
        self.broker("ctl", "change_password", self.user, "another")
        try:
            self.broker("ctl", "close_all_connections", "chaos")
            self.rest(0, 1)
        finally:
            self.broker("ctl", "change_password", self.user, self.password)

    def queue_deleted(self):
        self.load.pause()
        self.await_all("the queue's last message")
        Publisher().delete(self.queue)
        # Without a queue what is published now would go nowhere.
        before = self.runtime.started
        self.runtime.wait(lambda: self.runtime.started > before, "new consumer")
        self.load.resume()

    def memory_alarm(self):
        self.broker("ctl", "set_vm_memory_high_watermark", "0")
        try:
            self.rest(0.1, 1)
        finally:
            self.broker("ctl", "set_vm_memory_high_watermark", "0.95")

    def journal_locked(self):
        connection = sqlite3.connect(f"{self.directory}/journal.db", timeout=30, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            self.rest(0.2, 4 * HEARTBEAT)
        finally:
            connection.close()

    def runtime_holding(self):
        self.runtime.hold(commits=True)
        self.rest(0.2, 4 * HEARTBEAT)
        self.runtime.hold()

    def connector_suspended(self):
        self.runtime.process.send_signal(19)  # SIGSTOP
        try:
            self.rest(0.2, 5 * HEARTBEAT)
        finally:
            self.runtime.process.send_signal(18)  # SIGCONT

    FAULTS = [
        connections_closed, broker_killed, broker_stopped, broker_frozen, network_reset, network_torn, network_dark,
        password_changed, queue_deleted, memory_alarm, journal_locked, runtime_holding, connector_suspended,
    ]

    # The run.

    def await_all(self, what):
        seen, scanned = set(), 0

        def complete():
            nonlocal scanned
            for document in self.runtime.committed[scanned:]:
                seen.add(document["properties"]["message_id"])
            scanned = len(self.runtime.committed)
            return self.load.confirmed <= seen

        self.runtime.wait(complete, what)

    def duplicated(self):
        with self.runtime.changed:
            committed = list(self.runtime.committed)
        return len(committed) - len({document["properties"]["message_id"] for document in committed})

    def recovered(self, since):
        """Waits for a message that was received later than `since`; returns after how many seconds it was."""
        self.runtime.wait(lambda: self.runtime.latest() > since, "message after the fault")
        with self.runtime.changed:
            for document in reversed(self.runtime.committed):
                text = document["received_at"].replace("Z", "+00:00")
                received = datetime.datetime.fromisoformat(text).timestamp()
                if received <= since:
                    break
                first = received
        return first - since

    def run(self, faults, only):
        self.runtime.start()
        self.load.start()
        self.runtime.wait(lambda: self.runtime.committed, "first document")
        times = []
        for number in range(1, faults + 1):
            fault = self.rng.choice([fault for fault in self.FAULTS if only in (None, fault.__name__)])
            consumers = self.runtime.started
            fault(self)
            healed = time.time()
            line = f"fault {number:3} {fault.__name__.replace('_', ' '):20}"
            # One fault in four follows at once, into whatever the last one left behind.
            if self.rng.random() < 0.25:
                print(f"{line} (the next at once)", flush=True)
                continue
            seconds = self.recovered(healed)
            times.append(seconds)
            print(f"{line} captured again after {seconds:5.2f} s, {self.runtime.started - consumers} new consumers, "
                  f"{self.duplicated()} duplicated so far", flush=True)
            self.rest(0, 0.5)
        self.recovered(time.time())
        self.load.end()
        self.await_all("the last message")
        return times


def main():
    parser = argparse.ArgumentParser(prog="scripts/chaos")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queue", choices=["classic", "quorum"], default="classic")
    parser.add_argument("--delay", type=float, default=0.5, help="reconnect_delay in seconds (0.5)")
    parser.add_argument("--only", choices=[fault.__name__ for fault in Chaos.FAULTS], help="only faults of this kind")
    arguments = parser.parse_args()
    begin = time.monotonic()
    chaos = Chaos(arguments)
    runtime, load = chaos.runtime, chaos.load
    failures, times = [], []
    try:
        times = chaos.run(arguments.faults, arguments.only)
        runtime.wait(lambda: not runtime.pending and not runtime.owed, "last acknowledgement")
        status = runtime.stop()
        if status != 0:
            failures.append(f"the connector ended with {status}: {runtime.last_log}")
    except RuntimeError as error:
        failures.append(str(error))
        if runtime.process.poll() is None:
            runtime.kill()
    if runtime.failure:
        failures.append(runtime.failure)
    seen = {document["properties"]["message_id"] for document in runtime.committed}
    counts, problems = judge(runtime.committed, load.confirmed | (load.uncertain & seen))
    counts["published without a confirmation"] = len(load.uncertain)
    counts["of them captured"] = len(load.uncertain & seen)
    counts["reconnects"] = runtime.started - 1
    counts["left in the queue"] = 0
    try:
        counts["left in the queue"] = Publisher().queue_info(chaos.queue)["messages"]
    except Exception as error:
        failures.append(f"the broker is not well at the end: {error}")
    for name, count in counts.items():
        print(f"{count:8} {name}")
    print("causes: " + ", ".join(f"{cause} {count}" for cause, count in sorted(runtime.causes.items())))
    if times:
        times.sort()
        print(f"captured again after: median {times[len(times) // 2]:.2f} s, longest {times[-1]:.2f} s "
              f"(reconnect_delay {arguments.delay} s)")
    print(f"{arguments.faults} faults, seed {arguments.seed}, {time.monotonic() - begin:.1f} s")
    for name in ("lost", "duplicated not marked redelivered", "damaged", "never published", "out of order",
                 "left in the queue"):
        if counts[name]:
            failures.append(f"{counts[name]} {name}")
    for failure in failures + problems[:5]:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if failures or problems else 0)


if __name__ == "__main__":
    main()
