"""Does to a running agent what operators, machines, disks, networks and brokers do, at random, while messages are published all the time.

  scripts/chaos [--flow] [--around] [--steps 200] [--seed 1] [--queue classic|quorum] [--only HAND]

The agent is `source-amqp run` with files and a journal; with --flow a capture that a runtime drives. Around it: every connection closed by
an administrator; the broker killed, stopped in good order, or frozen; the network reset, torn inside a frame, or dark; the password changed;
the queue deleted (only while nothing is in it that was not captured); a memory alarm; looks by sqlite3, a checkpoint, a write lock, a
snapshot that is held; the agent suspended; a runtime that commits or acknowledges nothing for a while. With --around that is all, and the agent
is started once and never again. Else hands as well: kill -9; every signal, also
twice, also while it starts; a journal restored from a copy; disks that are full, over quota, read-only or slow, of journal or files; a
clock set forward and back; no descriptor left; looks by sqlite3, a checkpoint, a write lock, a snapshot that is held; a stderr that
nobody reads; connections closed by the broker. Output files are moved, deleted, cut; a runtime goes away, commits or acknowledges
nothing for a while, commits many checkpoints in one, or does not read. Messages come at a rhythm that changes. Clock and disks are lied
about inside the agent alone (scripts/lib/shim.c). After each hand the agent is green again and captures, and at the end, against a real
broker:

  * every message that the broker confirmed is in one of the files, unless a hand deleted the file, or is committed (nothing lost);
  * no message is there twice, but for the end of a file that was moved just before a kill, and for what a classic queue's broker delivers
    again after a kill of its own: that is marked `redelivered`;
  * every line of every file is a document, and committed sequences rise;
  * nothing is left in the queue.

A sync that fails, or after which nothing can be written, may end the agent with 1; it is started again, and counted. A journal that is
older than what was captured since is refused, and so is a file that was cut just before a kill: then the range is accepted (files), or
the newest put back (--flow); or it is set aside, and the log says so. The hands come from --seed; what happens at them also depends on
the machine. Exit status 1 if one of these fails.
"""

import argparse
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time

from agents import Captured, Standalone
from proxy import Proxy
from publisher import Publisher

HEARTBEAT = 2
BATCH = 20
ENOSPC, EDQUOT, EROFS = 28, 122, 30


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
        self.queue, self.is_classic = f"chaos-{arguments.seed}", arguments.queue == "classic"
        types = {} if self.is_classic else {"x-queue-type": "quorum", "x-single-active-consumer": True}
        Publisher().declare(self.queue, arguments=types)
        self.proxy = Proxy(environ["SOURCE_AMQP_TEST_HOST"], int(environ["SOURCE_AMQP_TEST_PORT"]))
        config = {
            "host": "127.0.0.1", "port": self.proxy.port, "queue": {"name": self.queue, "arguments": types},
            "consumer": {"exclusive": self.is_classic, "prefetch_count": 200}, "heartbeat": HEARTBEAT, "reconnect_delay": 0.2,
            "connection_timeout": 3}
        self.agent = Captured(self.directory, config, self.rng) if arguments.flow else Standalone(self.directory, config)
        self.is_flow, self.at_copy, self.just_moved, self.just_cut = arguments.flow, 0, [], None
        self.is_killed = False
        self.hands = self.AROUND + (self.HELD if arguments.flow else [])
        if not arguments.around:
            self.hands = self.hands + self.EITHER + (self.FLOW if arguments.flow else self.FILES)
        self.load = Load(self.queue, arguments.seed)
        self.deleted, self.backup, self.ends, self.problems = set(), None, {}, []
        self.excused, self.is_restored, self.is_overlapping = set(), False, False

    def rest(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    def restarted(self, expected=(0,)):
        """Starts it again after its end, which must be one of those expected."""
        status = self.agent.wait()
        self.count_end(status, expected)
        self.agent.start()

    def count_end(self, status, expected):
        self.agent.settled(status)
        if status not in (0, 1):
            # What was not committed yet can be taken out of a moved file by a living agent only.
            self.excused |= {name for path in self.just_moved for name in self.agent.ids(path)}
        cause = self.agent.last[:60] if status == 1 else ""
        self.ends[(status, cause)] = self.ends.get((status, cause), 0) + 1
        if status == 1 and self.is_restored and "went back in time" in self.agent.last:
            # As it should be if something was captured since the copy.
            self.agent.answer_refusal()
        elif status == 1 and self.just_cut and f"{self.just_cut} has 0 bytes" in self.agent.last:
            # As it should be if it was killed before it noticed: it cannot know that the disk has not lost them.
            self.agent.answer_refusal()
        elif status == 1 and "Too many open files" in self.agent.last and not self.agent.has_begun:
            # A start that had none.
            pass
        elif status == 1 and "in use by" in self.agent.last and self.is_overlapping:
            # As it should be while the one before it ends.
            pass
        elif status not in expected:
            self.problems.append(f"ended with {status}: {self.agent.last}")

    def restart_if_ended(self, expected):
        if self.agent.process.poll() is not None:
            self.count_end(self.agent.wait(), expected)
            self.agent.start()

    # Around it. Each leaves the way to the broker open again.

    def broker(self, *command):
        result = subprocess.run(
            ["scripts/broker", command[0], os.environ["SOURCE_AMQP_TEST_BROKER_DIR"], *command[1:]], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"scripts/broker {' '.join(command)}: {result.stderr}")

    def connections_closed(self):
        self.broker("ctl", "close_all_connections", "chaos")

    def broker_killed(self):
        self.is_killed = True
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
        user, password = os.environ["SOURCE_AMQP_TEST_USER"], os.environ["SOURCE_AMQP_TEST_PASSWORD"]
        self.broker("ctl", "change_password", user, "another")
        try:
            self.connections_closed()
            self.rest(0, 1)
        finally:
            self.broker("ctl", "change_password", user, password)

    def queue_deleted(self):
        self.quiet()
        Publisher().delete(self.queue)
        # Without a queue what is published now would go nowhere.
        deadline = time.monotonic() + 60
        while True:
            try:
                if Publisher().queue_info(self.queue)["consumers"]:
                    break
            except Exception:
                pass
            self.restart_if_ended(())
            if time.monotonic() > deadline:
                raise RuntimeError(f"the queue is not declared again: {self.agent.last}")
            time.sleep(0.05)
        self.load.resume()

    def memory_alarm(self):
        self.broker("ctl", "set_vm_memory_high_watermark", "0")
        try:
            self.rest(0.1, 1)
        finally:
            self.broker("ctl", "set_vm_memory_high_watermark", "0.95")

    def suspended(self):
        self.agent.signal(signal.SIGSTOP)
        try:
            self.rest(0.2, 5 * HEARTBEAT)
        finally:
            self.agent.signal(signal.SIGCONT)

    # Hands.

    def killed(self):
        self.agent.signal(signal.SIGKILL)
        self.restarted((-9,))

    def stopped(self):
        number = self.rng.choice([signal.SIGTERM, signal.SIGINT])
        self.agent.signal(number)
        expected = (0,)
        if self.rng.random() < 0.3:
            self.rest(0, 1.5)
            self.agent.signal(number)
            expected = (0, 128 + number)
        self.restarted(expected)

    def quit(self):
        self.agent.signal(signal.SIGQUIT)
        self.restarted((128 + signal.SIGQUIT,))

    def harmless_signals(self):
        for _ in range(self.rng.randint(1, 3)):
            self.agent.signal(self.rng.choice(self.agent.harmless))

    def early_signal(self):
        self.agent.signal(signal.SIGKILL)
        self.count_end(self.agent.wait(), (-9,))
        number = self.rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
        self.agent.start(early=(number, self.rng.uniform(0, 0.15)))
        if number in self.agent.harmless:
            self.rest(0, 0.3)
            # Before main the system's own meaning holds.
            if self.agent.process.poll() is None and self.agent.await_begin():
                return
            self.count_end(self.agent.wait(), (0, -number))
        else:
            self.count_end(self.agent.wait(), (0, -number, 128 + number))
        self.agent.start()

    def newest(self):
        files = self.agent.files()
        return files[-1] if files else None

    def moved(self):
        path = self.newest()
        if path:
            aside = f"{self.agent.aside}/{time.monotonic_ns()}.jsonl"
            os.rename(path, aside)
            self.just_moved.append(aside)
            if self.rng.random() < 0.3:
                self.killed()

    def deleted_file(self):
        path = self.newest()
        if path:
            # What is written until the name is gone goes with it.
            self.quiet()
            self.deleted |= set(self.agent.ids(path))
            os.unlink(path)
            self.load.resume()

    def cut(self):
        path = self.newest()
        if path:
            self.quiet()
            self.deleted |= set(self.agent.ids(path))
            os.truncate(path, 0)
            self.just_cut = path
            self.load.resume()

    def quiet(self):
        """Nothing is published, and everything is written or committed, and acknowledged."""
        self.load.pause()
        self.await_all("come to rest")

    def await_all(self, what):
        deadline = time.monotonic() + 60
        while Publisher().queue_info(self.queue)["messages"] or not self.agent.has_all(self.load.confirmed - self.deleted):
            self.restart_if_ended((1,))
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent does not {what}: {self.agent.last}")
            time.sleep(0.05)

    def restored(self):
        """A copy of the journal is taken, or one that was taken earlier comes back."""
        self.quiet()
        if self.backup is None:
            self.backup, self.at_copy = f"{self.directory}/backup-{time.monotonic_ns()}.db", len(self.load.confirmed)
            self.agent.back_up(self.backup)
        else:
            self.agent.signal(signal.SIGTERM)
            self.count_end(self.agent.wait(), (0,))
            self.agent.restore(self.backup)
            self.backup, self.is_restored = None, True
            self.agent.start()
            # Without its files, a standalone agent may have nothing that tells.
            if self.is_flow and len(self.load.confirmed) > self.at_copy and self.agent.await_begin() and not self.agent.saw_copy:
                self.problems.append("a journal that is older than what was captured since was taken without a word")
        self.load.resume()

    def refused(self):
        number = self.rng.choice([ENOSPC, EDQUOT, EROFS])
        text = self.rng.choice(self.agent.places)
        if self.rng.random() < 0.3:
            self.agent.lie("half", "1")
        self.agent.lie("refuse", f"{number} {text}")
        self.rest(0.05, 3)
        self.agent.truth("refuse", "half")

    def slow(self):
        self.agent.lie("slow", f"{self.rng.choice([1, 4])} {self.rng.choice(self.agent.places)}")
        self.rest(0.5, 6)
        self.agent.truth("slow")

    def clock_set(self):
        self.agent.lie("wall", str(self.rng.choice([-86_400, -3600, 3600, 86_400])))
        self.rest(0.1, 1)
        if self.rng.random() < 0.5:
            self.agent.truth("wall")

    def no_descriptors(self):
        pid = self.agent.process.pid
        try:
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
            free = next(number for number in range(len(used) + 1) if number not in used)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            return
        self.rest(0.1, 2)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        except ProcessLookupError:
            pass

    def looked_at(self):
        connection = sqlite3.connect(self.agent.journal, timeout=10, isolation_level=None)
        try:
            kind = self.rng.choice(["look", "checkpoint", "lock", "snapshot"])
            if kind == "look":
                connection.execute("SELECT * FROM summary").fetchall()
                connection.execute("SELECT * FROM pending LIMIT 100").fetchall()
            elif kind == "checkpoint":
                connection.execute(f"PRAGMA wal_checkpoint({self.rng.choice(['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'])})").fetchall()
            elif kind == "lock":
                connection.execute("BEGIN IMMEDIATE")
                self.rest(0.1, 4)
            else:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM pending").fetchall()
                self.rest(0.1, 4)
        except sqlite3.OperationalError:
            # Busy: someone else's turn.
            pass
        finally:
            connection.close()

    def stderr_unread(self):
        self.agent.log_is_read.clear()
        self.harmless_signals()
        self.rest(0.2, 3)
        self.agent.log_is_read.set()

    # Of a runtime.

    def runtime_gone(self):
        """Another one comes at once, while the process of the one that went away may still be ending."""
        process, self.is_overlapping = self.agent.process, True
        self.agent.runtime.abandon()
        self.agent.start()
        try:
            status = process.wait(30)
            self.ends[(status, "after its runtime")] = self.ends.get((status, "after its runtime"), 0) + 1
        except subprocess.TimeoutExpired:
            self.problems.append("a process did not end after its runtime")

    def held(self, **what):
        self.agent.runtime.hold(**what)
        self.rest(0.1, 3)
        if Chaos.killed in self.hands and self.rng.random() < 0.3:
            self.killed()
        self.agent.runtime.hold()

    def commits_held(self):
        self.held(commits=True)

    def acknowledgements_held(self):
        self.held(acknowledgements=True)

    def commits_combined(self):
        self.agent.runtime.combine(self.rng.choice([0, 0, 0.2, 1, 3]))

    def output_unread(self):
        self.agent.runtime.output_is_read.clear()
        self.rest(0.1, 4)
        if self.rng.random() < 0.3:
            self.stopped()
        self.agent.runtime.output_is_read.set()

    AROUND = [connections_closed, broker_killed, broker_stopped, broker_frozen, network_reset, network_torn, network_dark,
              password_changed, queue_deleted, memory_alarm, looked_at, suspended]
    HELD = [commits_held, acknowledgements_held]
    EITHER = [killed, stopped, quit, harmless_signals, early_signal, restored, refused, refused, refused, slow, clock_set,
              no_descriptors, looked_at, stderr_unread]
    FILES = [moved, deleted_file, cut]
    FLOW = [runtime_gone, commits_combined, output_unread]

    # The run.

    def green(self, hand):
        """Waits until it is green, and a message that is published from now on is in a file."""
        deadline = time.monotonic() + 90
        target = self.load.number
        while True:
            # What was lied about may have been a sync.
            self.restart_if_ended((1,) if hand == "refused" else ())
            why = self.agent.why_red(target)
            if why is None:
                self.is_restored = self.is_overlapping = False
                self.just_moved = []
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"not green again after {hand}: {why}, {self.agent.last}")
            time.sleep(0.05)

    def run(self, steps, only):
        self.agent.start()
        self.load.start()
        for number in range(1, steps + 1):
            hand = self.rng.choice([hand for hand in self.hands if only in (None, hand.__name__)])
            name = hand.__name__.replace("_", " ")
            begin = time.monotonic()
            self.load.gap = self.rng.choice([0.005, 0.02, 0.02, 0.3])
            hand(self)
            # One hand in four follows at once.
            if self.rng.random() < 0.25:
                print(f"step {number:4} {name:20} (the next at once)", flush=True)
                if self.agent.process.poll() is None:
                    continue
            self.green(name)
            print(f"step {number:4} {name:20} green again after {time.monotonic() - begin:5.2f} s", flush=True)
        self.agent.truth()
        self.green("everything")
        self.load.end()
        self.await_all("empty the queue at the end")
        self.agent.signal(signal.SIGTERM)
        self.count_end(self.agent.wait(), (0,))

    def judge(self):
        here, wrong, marked = self.agent.messages()
        if self.is_killed and self.is_classic:
            self.excused |= marked
        lost = self.load.confirmed - set(here) - self.deleted
        counts = {}
        for name in here + list(self.deleted):
            counts[name] = counts.get(name, 0) + 1
        twice = sorted(name for name, count in counts.items() if count > 1 and name not in self.excused)
        print(f"{len(self.load.confirmed):8} confirmed, {len(self.load.uncertain)} without a confirmation\n"
              f"{len(here):8} in files or committed, {len(self.deleted)} deleted by a hand\n"
              f"{len(lost):8} lost\n{len(twice):8} twice\n{wrong:8} torn or out of order")
        for (status, cause), count in sorted(self.ends.items(), key=str):
            print(f"{count:8} ended with {status} {cause}")
        if lost:
            self.problems.append(f"{len(lost)} lost: {sorted(lost)[:10]}")
        if twice:
            self.problems.append(f"{len(twice)} twice: {twice[:10]}")
        if wrong:
            self.problems.append(f"{wrong} torn or out of order")


def main():
    parser = argparse.ArgumentParser(prog="scripts/chaos")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flow", action="store_true", help="a capture that a runtime drives, instead of files")
    parser.add_argument("--around", action="store_true", help="only what happens around the agent, which is started once")
    parser.add_argument("--queue", choices=["classic", "quorum"], default="classic")
    every = Chaos.AROUND + Chaos.HELD + Chaos.EITHER + Chaos.FILES + Chaos.FLOW
    parser.add_argument("--only", choices=sorted({hand.__name__ for hand in every}), help="only this hand")
    arguments = parser.parse_args()
    begin = time.monotonic()
    chaos = Chaos(arguments)
    try:
        chaos.run(arguments.steps, arguments.only)
    except RuntimeError as error:
        chaos.problems.append(str(error))
    finally:
        chaos.agent.signal(signal.SIGKILL)
    chaos.judge()
    print(f"{arguments.steps} steps, seed {arguments.seed}, {time.monotonic() - begin:.1f} s")
    for problem in chaos.problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    sys.exit(1 if chaos.problems else 0)


if __name__ == "__main__":
    main()
