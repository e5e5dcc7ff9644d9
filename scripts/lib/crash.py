"""Kills the connector, its runtime or its broker at random moments under load, and counts what came through.

Messages are published all the time, in small bursts and always some ahead of the connector, while one fault of --kill
follows another: `agent` is SIGKILL, `term` SIGTERM, `driver` a runtime that is gone (both pipes closed, nothing committed
any more), `reset` a TCP connection reset, `deaf` the same after some time in which the network has lost what the connector
sent, `broker` SIGKILL of the whole broker, and its start. The runtime commits at
once, combines checkpoints, holds commits or loses acknowledgements, as drawn. At the end, of what is committed:

  * every message that the broker confirmed is there (nothing lost);
  * nothing is there twice, where the guarantees say once: one consumer that is known to be the only one, or a stream, or
    message ids; payloads that differ, but for streams; a broker that was not killed, but for journaled classic queues,
    and there what comes back in place of messages that the broker lost is counted apart;
  * elsewhere a message captured twice is marked `redelivered`; with `--deduplicate off`, the control, there must be one;
  * in every session_id the sequence runs 1, 2, 3 …, and first captures are in the order of the queue;
  * every document is a message that was published, byte for byte: exchange, routing key, properties, headers, body.

With --shapes messages (of the first queue) come in every shape in turn: without properties, without headers, with empty ones, with the broker's
own header names once and twice, with priorities, alike, from no byte to several frames, on RabbitMQ 4 over AMQP 1.0 too.
(Of those that are alike some may come twice with --rhythms: the only message since a rest may be one of them.)
With --rhythms messages also come in a trickle, in bursts or not at all, so that the queue rests and is settled, and the runtime's
commits take up to two seconds; with --aim each kill falls on a step of a settling (rhythm.py).

With --queues one capture has several queues, of all types in turn, each with a load, a rhythm and a prefetch count of its own; each is
counted by itself, and the printed numbers are those of all.

With --before another program, an older release, makes the starts of the first half of the faults; its journal and its state then go
on under the one that is tried.

With --visitors somebody looks into the journal with plain sqlite3 at random moments, backs it up, checkpoints it, vacuums it,
and, as one more fault, moves its files: the agent has to notice and end, and goes on when they are back. It must never be
without its lock on the journal. --driver run is the standalone agent, whose files are counted.

Messages that share a payload cannot be told apart: they are counted per payload, again and again with the queue empty,
and on a stream by offset. Moments are drawn from --seed as numbers of documents; what happens at them also depends on
the machine. Exit status 1 if one of these fails, 2 if too few faults came with work outstanding.
"""

import argparse
import collections
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time

import messages
import rhythm
from cluster import Cluster
from expected import Expected
from load import Load
from proxy import Proxy
from publisher import Publisher, known_ports
from runtime import Runtime
from score import Record, compare, judge, out_of_order
from standalone import Standalone
from visitors import Visitors

FAULTS = ["agent", "driver", "broker", "reset", "deaf", "term", "moved"]
# What happens to a cluster: a node is killed, which has the queue's leader or is ours; all but one are, for a while; each is
# restarted in order; ours loses the others, for a moment or for four seconds.
CLUSTER_FAULTS = ["leader", "ours", "minority", "rolling", "apart", "apart4"]
QUEUES = {
    "classic": {}, "quorum": {"x-queue-type": "quorum", "x-single-active-consumer": True},
    "stream": {"x-queue-type": "stream"}}
FLAGS = ("shared", "visitors", "release", "rhythms", "aim")
# Seconds for a step that takes a fraction of one on an idle machine.
PATIENCE = 120
# Seconds after which deliveries that wait for a verdict are taken for new, and a little.
SILENCE = 7


class Capture(Runtime):
    """A runtime that keeps only what is counted, and lets the load run so far ahead and no further."""

    def __init__(self, *arguments, queues, **options):
        super().__init__(*arguments, **options)
        self.queues = queues
        if len(queues) > 1:
            self.resources = [queue.resource for queue in queues]
        # Checkpoints without a document, and their commits, with their times: a settling's steps.
        self.moments = []

    def receive(self, message):
        if "checkpoint" in message and not self.sequence:
            self.moments.append(("checkpoint", time.monotonic()))
        super().receive(message)

    def kept(self, document):
        queue = self.queues[self.binding]
        queue.captured += 1
        queue.allow()
        return Record(document, self.session, queue.expected, self.binding)

    def settle(self):
        steps = sum(not documents for documents, _ in self.pending)
        super().settle()
        if not self.pending:
            self.moments += [("commit", time.monotonic())] * steps

    def forget(self):
        for documents in [self.sequence] + [documents for documents, _ in self.pending]:
            for record in documents:
                self.queues[record.queue].captured -= 1
        super().forget()

    @property
    def uncommitted(self):
        return len(self.sequence) + sum(len(documents) for documents, _ in self.pending)

    @property
    def captured(self):
        return len(self.committed) + self.uncommitted


class Queue:
    """One of the queues that are captured, with its load, and what came of it."""

    def __init__(self, options, index):
        self.options, self.index = options, index
        release = os.environ["SOURCE_AMQP_TEST_RELEASE"]
        self.seed, rng = options.seed + index, random.Random(f"{options.seed}/{index}")
        self.type = options.queue if index == 0 else list(QUEUES)[(list(QUEUES).index(options.queue) + index) % len(QUEUES)]
        self.name, self.arguments = f"crash-{options.seed}" + f"-{index}" * bool(index), dict(QUEUES[self.type])
        if self.type == "quorum" and release != "3.10":
            # RabbitMQ 4 drops what it has delivered 20 times, which kills in series bring about by themselves.
            self.arguments["x-delivery-limit"] = -1
        # Shapes come through one exchange, which would give them to all.
        self.payload = "distinct" if index > 0 else options.payload
        kind = "mixed" if self.payload == "distinct" else self.payload
        if self.type == "stream":
            kind = f"plain-{kind}"
        if self.payload == "shapes":
            kind = "shapes" if release == "3.10" else "shapes-4"
        self.kind = kind
        self.prefetch = options.prefetch if index == 0 else rng.choice([5, 20, 100])
        self.backlog = options.backlog if index == 0 else self.prefetch * 2
        self.expected = Expected(self.seed, kind, self.type, target=self.name)
        self.load = Load(self.name, kind, self.seed, options.burst if index == 0 else max(1, options.burst // 4))
        # How many documents of it there are, committed or not.
        self.captured = 0
        self.sent, self.uncertain = 0, []

    def declare(self):
        publisher = Publisher()
        publisher.declare(self.name, arguments=self.arguments)
        if self.payload == "shapes":
            publisher.bind(self.name, messages.SHAPES_EXCHANGE, "#")
        publisher.close()

    @property
    def consumer(self):
        options = self.options
        consumer = {
            "prefetch_count": self.prefetch, "deduplicate": options.deduplicate,
            "deduplicate_by": options.deduplicate_by, "exclusive": self.type == "classic" and not options.shared}
        if self.type == "stream":
            consumer["arguments"] = {"x-stream-offset": "first"}
        return consumer

    @property
    def resource(self):
        return {"stream": self.name, "queue": {"name": self.name, "arguments": self.arguments}, "consumer": self.consumer}

    def allow(self):
        """Lets the load run so far ahead, and no further."""
        self.load.allow(self.captured + self.backlog)

    def rest(self):
        """How many messages are in the queue once nobody consumes it."""
        publisher = Publisher()
        while (info := publisher.queue_info(self.name))["consumers"]:
            time.sleep(0.005)
        publisher.close()
        return info["messages"]

    def identities(self, count):
        return messages.identities(self.seed, self.payload, "m", count)

class Crash:
    def __init__(self, options):
        self.options, self.rng = options, random.Random(options.seed)
        environ = os.environ
        self.directory = environ["WORK_DIRECTORY"]
        # Before any thread of this process: it is forked.
        self.queues = [Queue(options, index) for index in range(options.queues)]
        for queue in self.queues:
            queue.declare()
            queue.load.start()
        # The first one sets the pace.
        self.load = self.queues[0].load
        host, port = environ["SOURCE_AMQP_TEST_HOST"], int(environ["SOURCE_AMQP_TEST_PORT"])
        self.proxy = self.cluster = None
        if options.cluster:
            self.cluster = Cluster(environ["SOURCE_AMQP_TEST_CLUSTER"])
        if options.cluster or {"reset", "deaf"} & set(options.kill):
            self.proxy = Proxy(host, *known_ports())
            host, port = "127.0.0.1", self.proxy.port
        journal = {"path": f"{self.directory}/journal.db"} if options.mode == "journaled" else {}
        self.scratch = f"{self.directory}/tmp"
        config = {
            "host": host, "port": port, "reconnect_delay": 0.1, "journal": journal | {"acknowledge": options.mode}}
        if options.queues == 1:
            config |= {name: self.queues[0].resource[name] for name in ("queue", "consumer")}
        self.binary = environ["SOURCE_AMQP_BINARY"]
        binary, log = options.before or self.binary, f"{self.directory}/log"
        if options.driver == "run":
            self.runtime = Standalone(
                binary, config, f"{self.directory}/agent",
                lambda document: Record(document, self.runtime.session, self.queues[0].expected),
                self.standalone_progressed, log_path=log)
        else:
            self.runtime = Capture(binary, config, queues=self.queues, log_path=log)
        self.runtime.environment["TMPDIR"] = self.scratch
        self.visitors = None
        if options.visitors:
            pattern = journal.get("path") or f"{self.scratch}/*/journal.sqlite"
            self.visitors = Visitors(pattern, self.directory, options.seed)
            self.visitors.start()
        commits = rhythm.COMMITS if options.commit_time is None else [options.commit_time]
        self.rhythm = rhythm.Rhythm(self.rng, self.load, options.burst, commits)
        self.running = False
        self.left_alone = []
        self.failures = []
        # How often something was outstanding when a fault came: [of how many, was].
        self.outstanding = collections.defaultdict(lambda: [0, 0])
        self.excess = None

    # Steps.

    def standalone_progressed(self):
        self.queues[0].captured = self.runtime.captured
        self.queues[0].allow()

    def allow(self):
        for queue in self.queues:
            queue.allow()

    def start(self, wait_opened=True):
        """A new start; of a journal that does not outlive the process nothing is left."""
        if self.options.mode == "committed" and not self.left_alone:
            shutil.rmtree(self.scratch, ignore_errors=True)
        os.makedirs(self.scratch, exist_ok=True)
        self.runtime.start(wait_opened=wait_opened)
        self.running = True
        if wait_opened and self.visitors:
            self.visitors.agent(self.runtime.process)

    def policy(self):
        """How the runtime commits until the next fault, as drawn; True where everything goes on."""
        draw = self.rng.random()
        commits, acknowledgements = draw < 0.1, 0.1 <= draw < 0.3
        self.runtime.combine(self.rng.uniform(0.005, 0.1) if draw > 0.7 else 0)
        self.runtime.hold(commits=commits, acknowledgements=acknowledgements)
        return not commits and not acknowledgements

    def await_progress(self, documents, checkpoints, goes_on):
        """Waits for so many more documents, or checkpoints if they come first. In committed mode a runtime that holds
        anything back soon gets none."""
        runtime, deadline = self.runtime, time.monotonic() + PATIENCE
        documents, checkpoints = documents + runtime.captured, checkpoints + runtime.checkpoints
        while runtime.captured < documents and runtime.checkpoints < checkpoints:
            with runtime.changed:
                before = runtime.captured
                moved = runtime.changed.wait_for(lambda: runtime.captured != before or runtime.ended, 0.3)
            if runtime.ended:
                runtime.wait(lambda: False, "document")
            if moved:
                deadline = time.monotonic() + PATIENCE
            elif not goes_on and self.options.mode == "committed":
                return
            elif time.monotonic() > deadline:
                raise RuntimeError(f"no document within {PATIENCE} s; last log line: {runtime.last_log}")

    def note(self, what, is_there):
        self.outstanding[what][0] += 1
        self.outstanding[what][1] += bool(is_there)

    def look(self, fault, confirmed, committed, uncommitted):
        """What was outstanding when the fault came, for the report: messages published and not emitted, emitted and not
        committed, journaled and not committed, journaled and not acknowledged. The last every other time only, since it
        waits until the broker has seen the end of the connection."""
        found = {"published": max(0, confirmed - committed - uncommitted), "emitted": uncommitted}
        if self.options.mode == "journaled" and not self.running:
            try:
                journal = sqlite3.connect(f"file:{self.directory}/journal.db?mode=ro", uri=True, timeout=30)
                last, done = journal.execute("SELECT last_position, committed_position FROM summary").fetchone()
                journal.close()
                found["journaled"] = last - done
            except sqlite3.OperationalError:
                last = None  # Killed before there was one.
            if fault == "agent" and self.options.queue == "classic" and len(self.queues) == 1 and last is not None and self.rng.random() < 0.5:
                with self.load.lock:
                    published = self.load.confirmed.value
                    ready = self.queues[0].rest()
                found["unacknowledged"] = ready - (published - last)
        outstanding = found["published"] > 0 or uncommitted > 0
        for what, count in found.items():
            # The anchor is always unacknowledged.
            self.note(what, count > (8 if what == "unacknowledged" else 0))
        self.note("anything", outstanding or found.get("journaled", 0) > 0)
        return ", ".join(f"{count} {what}" for what, count in found.items())

    # Faults.

    def agent(self):
        self.runtime.kill()
        self.running = False

    def term(self):
        if self.rng.random() < 0.5:
            self.runtime.hold()
        status = self.runtime.terminate(PATIENCE)
        self.running = False
        if status != 0:
            raise RuntimeError(f"the connector ended with {status} after SIGTERM: {self.runtime.last_log}")

    def driver(self):
        self.runtime.abandon()
        self.running = False
        self.left_alone.append(self.runtime.process)
        # A journal has one owner; without one, the next connector may start while the last one still ends.
        if self.options.mode == "journaled" or self.rng.random() < 0.5:
            self.reap()

    def reap(self):
        for process in self.left_alone:
            process.wait(PATIENCE)
        self.left_alone = []

    def reset(self):
        self.proxy.reset()

    def deaf(self):
        """The network loses what the connector sends, for a while, and then the connection."""
        self.proxy.deaf.set()
        time.sleep(self.rng.uniform(0, 3))
        self.proxy.reset()
        self.proxy.deaf.clear()

    def leader(self):
        self.cluster.down([self.cluster.leader(self.queues[0].name)], self.rng.uniform(0, 3))

    def ours(self):
        self.cluster.down([self.cluster.at(self.proxy.current)], self.rng.uniform(0, 3))

    def minority(self):
        kept = self.rng.choice(self.cluster.numbers)
        self.cluster.down([number for number in self.cluster.numbers if number != kept], self.rng.uniform(2, 10))

    def rolling(self):
        self.cluster.rolling()

    def apart(self):
        self.cluster.apart(self.cluster.at(self.proxy.current), 0)

    def apart4(self):
        self.cluster.apart(self.cluster.at(self.proxy.current), 4)

    def moved(self):
        """Files of the journal go away under the agent, which has to end by itself before it acknowledges anything more."""
        place = self.visitors.move(self.visitors.path())
        runtime, names = self.runtime, ", ".join(f"journal{suffix}" for suffix in place[2])
        # Something to commit, if it should rest.
        self.allow()
        with runtime.changed:
            if not runtime.changed.wait_for(lambda: runtime.ended, PATIENCE):
                raise RuntimeError(f"the connector goes on although {names} was moved")
        status = runtime.process.wait(PATIENCE)
        self.running = False
        if status != 1 or not re.search("was (moved or deleted|replaced) while it was in use", runtime.last_log):
            raise RuntimeError(f"{names} was moved, and the connector ended with {status}: {runtime.last_log}")
        if self.options.driver == "flow":
            runtime.forget()
            runtime.closed()
        self.visitors.put_back(place)

    def broker(self):
        self.control("kill")
        if self.rng.random() < 0.3:
            self.agent()
        self.control("start")

    @staticmethod
    def control(command):
        result = subprocess.run(
            ["scripts/broker", command, os.environ["SOURCE_AMQP_TEST_BROKER_DIR"]], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=PATIENCE)
        if result.returncode != 0:
            raise RuntimeError(f"scripts/broker {command}: {result.stderr}")

    # The run.

    def cycle(self, number, share):
        options, runtime, rng = self.options, self.runtime, self.rng
        fault = rng.choice(options.kill)
        goes_on = self.policy()
        # One kill in five falls into the start; the others anywhere from the first document or checkpoint on.
        early = not self.running and fault == "agent" and rng.random() < 0.2
        documents, checkpoints, pause = rng.randint(1, share), rng.choice([1, 2, 5, 1000, 1000]), rng.random()
        if not options.aim:
            self.allow()
        if not self.running:
            self.start(wait_opened=not early)
        moment = ""
        if early:
            time.sleep(pause * 0.2)
        elif options.aim:
            moment = f"; {self.rhythm.aim(runtime)}"
        elif options.rhythms:
            self.rhythm.draw(runtime)
            for queue in self.queues[1:]:
                rhythm.draw(rng, queue.load, max(1, options.burst // 4))
            self.rhythm.wait(runtime)
            moment = f"; {self.rhythm.name}"
        else:
            self.await_progress(documents, checkpoints, goes_on)
            if pause < 0.5:
                time.sleep(pause * 0.06)
        with runtime.changed:
            confirmed = sum(queue.load.confirmed.value for queue in self.queues)
            committed, uncommitted = len(runtime.committed), runtime.uncommitted
        if self.visitors and fault in ("agent", "term", "driver", "moved", "broker"):
            self.visitors.agent(None)
        getattr(self, fault)()
        found = self.look(fault, confirmed, committed, uncommitted)
        print(f"{number:4} {fault:7}{'(start)' if early else '':8}{committed:7} committed; {found}{moment}", flush=True)

    def drain(self):
        """Lets everything published so far be captured, with nothing left in the queues."""
        runtime = self.runtime
        for queue in self.queues:
            queue.load.pace(0, 0, self.options.burst)
        runtime.combine(0)
        runtime.hold()
        if not self.running:
            self.start()
        wanted = []
        for queue in self.queues:
            alike = queue.identities(queue.load.tried.value).count(messages.ALIKE)
            wanted.append((queue, queue.load.confirmed.value, alike))

        def complete():
            if runtime.captured < sum(published for _, published, _ in wanted):
                return False
            found = [collections.Counter() for _ in wanted]
            for record in runtime.committed:
                found[record.queue][record.identity] += 1
            for (queue, published, alike), counts in zip(wanted, found):
                if queue.payload in ("distinct", "shapes"):
                    count = len(counts.keys() - {messages.ALIKE}) + min(counts[messages.ALIKE], alike)
                else:
                    count = counts.total()
                if count < published:
                    return False
            return True
        runtime.wait(complete, "last message", PATIENCE)
        publisher, deadline = Publisher(), time.monotonic() + PATIENCE
        for queue in self.queues:
            while queue.type != "stream" and publisher.queue_info(queue.name)["messages"]:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"messages stay in {queue.name}; last log line: {runtime.last_log}")
                time.sleep(0.02)
        publisher.close()
        if not all(self.promised(queue) for queue in self.queues):
            # What waits for a verdict is captured after a silence.
            while True:
                before = runtime.captured
                time.sleep(SILENCE)
                if runtime.captured == before:
                    break
        runtime.wait(lambda: not runtime.pending and not runtime.owed and not runtime.sequence, "last acknowledgement")

    def check_excess(self):
        """With the queue empty: how much more of a payload was captured than sent can only grow."""
        self.drain()
        with self.load.lock:
            sent = collections.Counter(self.queues[0].identities(self.load.tried.value))
        captured = collections.Counter(record.identity for record in self.runtime.committed)
        excess = {identity: captured[identity] - count for identity, count in sent.items()}
        for identity, count in excess.items():
            if count < (self.excess or {}).get(identity, 0):
                self.failures.append(f"lost, with the queue empty: {identity} went from "
                                     f"{self.excess.get(identity, 0):+} to {count:+}")
        self.excess = excess

    def promised(self, queue):
        """Whether each message is captured once."""
        options = self.options
        if queue.type == "stream":
            return True
        if options.deduplicate == "off" or queue.payload not in ("distinct", "shapes"):
            return False
        if "broker" in options.kill and options.mode != "journaled":
            # A checkpoint carries no more digests than the prefetch count asks for.
            return False
        if options.deduplicate_by == "message_id":
            return True
        return options.deduplicate == "assert" or queue.type == "quorum" or not options.shared

    @staticmethod
    def ordered(queue):
        """Whether the queue gives messages in the order in which they were published: quorum queues of RabbitMQ 4 know two
        priorities."""
        return queue.kind != "shapes-4" or queue.type != "quorum"

    def run(self):
        options, runtime = self.options, self.runtime
        # Faults come so often that about --messages are published until the last one, or more.
        share = 2 * options.messages // options.cycles
        self.allow()
        try:
            for number in range(1, options.cycles + 1):
                if number > options.cycles // 2:
                    runtime.binary = self.binary
                self.cycle(number, share)
                if options.payload in messages.POOLS and number % 10 == 0 and options.queue != "stream" \
                        and "broker" not in options.kill:
                    # What is published now waits until the queue was empty.
                    with self.load.lock:
                        limit, self.load.limit.value = self.load.limit.value, 0
                        backlog, self.queues[0].backlog = self.queues[0].backlog, -1 << 40
                    self.check_excess()
                    self.queues[0].backlog = backlog
                    self.load.allow(limit)
            for queue in self.queues:
                queue.sent, queue.uncertain = queue.load.end()
            self.reap()
            self.drain()
            if self.visitors:
                self.visitors.agent(None)
            status = runtime.stop(PATIENCE)
            if status != 0:
                self.failures.append(f"the last session ended with {status}: {runtime.last_log}")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self.failures.append(str(error))
            if runtime.process.poll() is None:
                runtime.kill()
            for process in self.left_alone:
                process.kill()
        if runtime.failure:
            self.failures.append(runtime.failure)
        if self.visitors:
            self.visitors.end()
            print(self.visitors.report())
            if self.visitors.without:
                self.failures.append(f"the agent was without its lock {len(self.visitors.without)} times")

    def score(self):
        """Counts of all queues together, and what failed."""
        totals, failures = collections.Counter(), []
        for queue in self.queues:
            counts, failed = self.score_of(queue)
            totals.update(counts)
            failures += [f"{queue.name}: {failure}" if len(self.queues) > 1 else failure for failure in failed]
        return totals, failures

    def score_of(self, queue):
        options, records = self.options, [record for record in self.runtime.committed if record.queue == queue.index]
        identities = queue.identities(queue.sent)
        doubtful = collections.Counter(identities[number - 1] for number in queue.uncertain)
        if queue.payload == "distinct" and queue.type != "stream":
            seen = {record.identity for record in records}
            counts, problems = judge(records, set(identities) - (set(doubtful) - seen))
            if self.promised(queue) and options.deduplicate_by == "position":
                problems += out_of_order(records)
        else:
            counts, problems = compare(records, identities, doubtful, queue.type == "stream", self.ordered(queue))
        problems += [f"{record.identity} differs in its {record.damaged}" for record in records if record.damaged][:5]
        if queue.uncertain:
            counts["not confirmed, and captured or not"] = len(queue.uncertain)
        failed = ["lost", "duplicated not marked redelivered", "damaged", "never published", "out of order"]
        if self.promised(queue):
            failed.append("duplicated")
        if queue.type != "stream":
            counts["left in the queue"] = left = queue.rest()
            # The anchor of a committed capture stays in the queue when it ends: what comes back of it is recognised.
            if options.mode == "journaled" or left > 8:
                failed.append("left in the queue")
        if "duplicated" in failed and queue.uncertain:
            counts["of them, behind a message that the broker lost"] = excused = self.excused(records, set(doubtful))
            if excused == counts["duplicated"]:
                failed.remove("duplicated")
        if "duplicated" in failed and options.rhythms and queue.payload == "shapes":
            # In a trickle the anchor may be nothing but such a message, which tells nothing: it is captured again, and said.
            captured = sum(record.identity == messages.ALIKE for record in records)
            counts["of them alike"] = alike = max(0, captured - identities.count(messages.ALIKE))
            if alike == counts["duplicated"]:
                failed.remove("duplicated")
        failures = [f"{counts[name]} {name}" for name in failed if counts.get(name)] + problems[:5]
        if options.deduplicate == "off" and queue.type != "stream" and not counts["duplicated"]:
            failures.append("the control shows no duplicate, so this run shows nothing")
        return counts, failures

    @staticmethod
    def excused(records, doubtful):
        """How many repeated ones come from an anchor that the broker has lost: what it had delivered and not confirmed to
        the publisher may be gone with a SIGKILL, and then nothing shows where the old messages end."""
        first, last_lost, excused = {}, -1, 0
        times = collections.Counter(record.identity for record in records)
        for index, record in enumerate(records):
            if record.identity in first:
                excused += first[record.identity] < last_lost
            elif record.identity in doubtful and times[record.identity] == 1:
                last_lost = index
            first.setdefault(record.identity, index)
        return excused

    def missing(self):
        """Which ones are lost, for whoever looks for the cause."""
        lines = []
        for queue in self.queues:
            left = collections.Counter(queue.identities(queue.sent))
            left.subtract(record.identity for record in self.runtime.committed if record.queue == queue.index)
            lines += [f"{queue.name} {identity}: lost" for identity, count in left.items() if count > 0]
        return lines

    def duplicates(self):
        """Where the repeated ones came from, for whoever looks for the cause."""
        first, lines = {}, []
        for record in self.runtime.committed:
            key = record.queue, record.identity
            if key in first and record.identity != messages.ALIKE:
                lines.append(f"{self.queues[record.queue].name} {record.identity}: "
                             f"captured in start {first[key]} and {record.run}")
            first.setdefault(key, record.run)
        return lines


def parse():
    parser = argparse.ArgumentParser(prog="scripts/crash", description="Kills source-amqp under load, again and again.")
    parser.add_argument("--cycles", type=int, default=12, help="how many faults (12)")
    parser.add_argument("--messages", type=int, help="about how many messages, or more (50 a fault)")
    parser.add_argument("--seed", type=int, help="of the messages and of the moments (random)")
    parser.add_argument("--prefetch", type=int, default=100, help="consumer.prefetch_count (100)")
    parser.add_argument("--backlog", type=int, help="how far the load runs ahead (3 x prefetch)")
    parser.add_argument("--burst", type=int, default=30, help="largest number of messages published at once (30)")
    parser.add_argument("--queue", choices=QUEUES, default="classic",
                        help="classic, consumed exclusively, quorum with a single active consumer, or stream (classic)")
    parser.add_argument("--queues", type=int, default=1,
                        help="so many queues in one capture, of all types in turn; --queue is the first one's (1)")
    parser.add_argument("--shared", action="store_true", help="a classic queue is not consumed exclusively")
    parser.add_argument("--mode", choices=["journaled", "committed"], default="journaled",
                        help="journal.acknowledge; committed starts with a new journal after every kill (journaled)")
    parser.add_argument("--payload", choices=["distinct", "few", "same"], default="distinct",
                        help="all different, copies of three, or copies of one (distinct)")
    parser.add_argument("--shapes", dest="payload", action="store_const", const="shapes",
                        help="messages of every shape instead")
    parser.add_argument("--visitors", action="store_true",
                        help="plain sqlite3 looks into the journal meanwhile, and its files are moved (--kill agent,moved)")
    parser.add_argument("--driver", choices=["flow", "run"], default="flow", help="who reads the documents (flow)")
    parser.add_argument("--release", default=argparse.SUPPRESS, help="RabbitMQ 4.0 or 4.3 instead of the machine's own")
    parser.add_argument("--kill", help=f"faults to draw from: {','.join(FAULTS)} (agent)")
    parser.add_argument("--deduplicate", choices=["auto", "assert", "off"], default="auto",
                        help="consumer.deduplicate; off is the control that must show duplicates (auto)")
    parser.add_argument("--deduplicate-by", choices=["position", "message_id"], default="position",
                        help="consumer.deduplicate_by (position)")
    parser.add_argument("--before", metavar="BINARY", help="an older release, which captures until half of the faults are over")
    parser.add_argument("--rhythms", action="store_true",
                        help="messages come steadily, in bursts, in a trickle or not at all, and commits take 0 to 2 s, as drawn")
    parser.add_argument("--cluster", type=int, help=f"a cluster of so many nodes; faults are {','.join(CLUSTER_FAULTS)} as well")
    parser.add_argument("--aim", action="store_true",
                        help="kills fall within 20 ms of a step by which a resting queue is settled")
    parser.add_argument("--commit-time", type=float, help="seconds that each commit takes, with --rhythms or --aim (drawn)")
    parser.add_argument("--floor", type=int,
                        help="least share of faults with work outstanding, in percent (80; 0 with --rhythms or --aim)")
    options = parser.parse_args()
    moves = options.visitors and options.mode == "journaled"
    options.kill = (options.kill or ("agent,agent,agent,moved" if moves else "agent")).split(",")
    if "moved" in options.kill and not moves:
        parser.error("the journal is moved by --visitors, and only with --mode journaled")
    if options.driver == "run" and (options.mode != "journaled" or {"driver"} & set(options.kill)):
        parser.error("--driver run has no runtime: --mode journaled, and no fault driver")
    if options.payload == "shapes" and options.queue == "stream":
        parser.error("streams change types of headers: no --shapes")
    if options.cluster and options.queue == "classic":
        parser.error("--cluster is for queues with copies: --queue quorum or stream")
    if unknown := set(options.kill) - set(FAULTS + CLUSTER_FAULTS * bool(options.cluster)):
        parser.error(f"no fault {', '.join(sorted(unknown))}")
    if options.queue != "classic" and "broker" in options.kill:
        parser.error("quorum queues and streams of a single RabbitMQ 3.10 often do not come back from SIGKILL: basic.consume "
                     "is never answered, or a stream's node stays \"down or inaccessible\"")
    if options.deduplicate_by == "message_id" and options.payload != "distinct":
        parser.error("message ids are unique only with --payload distinct")
    if options.queues > 1 and (options.driver == "run" or options.aim or options.payload in messages.POOLS or options.before):
        parser.error("--queues is for --driver flow, and not for --aim, --before or payloads that are alike")
    if options.aim and options.kill != ["agent"]:
        parser.error("--aim is for --kill agent")
    if options.floor is None:
        options.floor = 0 if options.rhythms or options.aim else 80
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    options.messages = options.messages or 50 * options.cycles
    options.backlog = options.backlog or 3 * options.prefetch
    return options


def main():
    options = parse()
    seed = " ".join(f"--{name.replace('_', '-')} {','.join(value) if name == 'kill' else value}"
                    for name, value in vars(options).items() if name not in FLAGS and value is not None)
    seed = seed.replace("--payload shapes", "--shapes")
    seed += "".join(f" --{name}" for name in FLAGS if name != "release" and getattr(options, name))
    if os.environ["SOURCE_AMQP_TEST_RELEASE"] != "3.10":
        seed += f" --release {os.environ['SOURCE_AMQP_TEST_RELEASE']}"
    print(f"scripts/crash {seed}", flush=True)
    begin = time.monotonic()
    crash = Crash(options)
    crash.run()
    counts, failures = crash.score()
    failures = crash.failures + failures
    for name, count in counts.items():
        print(f"{count:8} {name}")
    shares = {what: 100 * was / of for what, (of, was) in crash.outstanding.items() if of}
    print("faults with something outstanding: " + ", ".join(f"{share:.0f} % {what}" for what, share in shares.items()))
    print(f"{options.cycles} faults ({','.join(options.kill)}), {crash.runtime.session} starts, seed {options.seed}, "
          f"{time.monotonic() - begin:.1f} s")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    if failures:
        if options.payload not in messages.POOLS:
            print("\n".join(crash.missing()[:20] + crash.duplicates()[:20]), file=sys.stderr)
        print(f"again with: scripts/crash {seed}", file=sys.stderr)
        sys.exit(1)
    if shares.get("anything", 0) < options.floor:
        print(f"FAILED: work was outstanding at only {shares.get('anything', 0):.0f} % of the faults", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
