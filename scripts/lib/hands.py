"""Does to a running agent what operators, machines and disks do, at random, while messages are published all the time.

  scripts/chaos --hands [--steps 200] [--seed 1] [--only HAND]

The agent is `source-amqp run` with files and a journal. Hands: kill -9; every signal, also twice, also while it starts; output files
moved, deleted, cut; a journal restored from a copy; disks that are full, over quota, read-only or slow, of journal or files; a clock set
forward and back; no descriptor left; looks by sqlite3, a checkpoint, a write lock, a snapshot that is held; a stderr that nobody
reads; connections closed by the broker. Clock and disks are lied about inside the agent alone (scripts/lib/shim.c). After each hand
the agent is green again and captures, and at the end, against a real broker:

  * every message that the broker confirmed is in one of the files, unless a hand deleted the file (nothing lost);
  * no message is in two lines (nothing twice), but for the end of a file that was moved just before a kill;
  * every line of every file is a document;
  * nothing is left in the queue.

A sync that fails, or after which nothing can be written, may end the agent with 1; it is started again, and counted. The hands come
from --seed; what happens at them also depends on the machine. Exit status 1 if one of these fails.
"""

import argparse
import glob
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from chaos import Load
from publisher import Publisher

HERE = os.path.dirname(os.path.abspath(__file__))
ENOSPC, EDQUOT, EROFS = 28, 122, 30


class Agent:
    """`source-amqp run`, its files and its journal; started again and again."""

    def __init__(self, directory, config):
        self.out, self.shim = f"{directory}/out", f"{directory}/shim"
        self.aside = f"{directory}/aside"
        for path in (self.out, self.shim, self.aside):
            os.makedirs(path, exist_ok=True)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{self.shim}/shim.so", f"{HERE}/shim.c", "-ldl"], check=True)
        self.config, self.log, self.reads = config, open(f"{directory}/log", "ab"), threading.Event()
        self.reads.set()
        self.process, self.url, self.last, self.continues = None, None, "", False
        self.journal = f"{self.out}/journal.db"

    def start(self, early=None):
        """Starts it; with `early`, a signal and after how many seconds, without waiting for it to listen."""
        command = [os.environ["SOURCE_AMQP_BINARY"], "run", self.config, "--output", self.out, "--rotate-size", "200k",
                   "--listen", "127.0.0.1:0"] + (["--continue-output"] if self.continues else [])
        self.continues = self.has_begun = False
        self.url = None
        environment = dict(os.environ, LD_PRELOAD=f"{self.shim}/shim.so", SHIM=self.shim, LOG_FORMAT="json")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        self.reader = threading.Thread(target=self.read, args=(self.process,), daemon=True)
        self.reader.start()
        if early:
            time.sleep(early[1])
            self.signal(early[0])
            return
        self.await_url()

    def await_url(self):
        deadline = time.monotonic() + 60
        while self.url is None:
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent does not listen: {self.last}")
            time.sleep(0.01)
        return True

    def read(self, process):
        for line in process.stderr:
            self.reads.wait()
            self.log.write(line)
            self.log.flush()
            try:
                event = json.loads(line)
            except ValueError:
                continue
            self.last = event.get("message", "")
            if self.last == "Capture started":
                self.has_begun = True
            if "metrics and health are served" in self.last and process is self.process:
                self.url = event["fields"]["url"].removesuffix("metrics")

    def signal(self, number):
        if self.process.poll() is None and self.process.pid > 1:
            self.process.send_signal(number)

    def wait(self, seconds=30):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the agent does not end within {seconds} s: {self.last}") from None

    def health(self):
        """Status and text; None if nothing answers."""
        if self.url is None:
            return None
        try:
            with urllib.request.urlopen(f"{self.url}healthz", timeout=20) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()
        except OSError:
            return None

    def lie(self, kind, text):
        path = f"{self.shim}/{kind}"
        with open(f"{path}.new", "w") as file:
            file.write(text)
        os.rename(f"{path}.new", path)

    def truth(self, *kinds):
        for kind in kinds or ("wall", "slow", "refuse", "half"):
            try:
                os.unlink(f"{self.shim}/{kind}")
            except FileNotFoundError:
                pass

    def files(self):
        return sorted(glob.glob(f"{self.out}/*.jsonl"))


class Hands:
    def __init__(self, arguments):
        environ = os.environ
        self.rng = random.Random(arguments.seed)
        self.directory = environ["WORK_DIRECTORY"]
        self.queue = f"hands-{arguments.seed}"
        Publisher().declare(self.queue)
        config = f"{self.directory}/hands.json"
        with open(config, "w") as file:
            json.dump({"host": environ["SOURCE_AMQP_TEST_HOST"], "port": int(environ["SOURCE_AMQP_TEST_PORT"]),
                       "queue": {"name": self.queue}, "consumer": {"exclusive": True, "prefetch_count": 200},
                       "heartbeat": 2, "reconnect_delay": 0.2}, file)
        self.agent = Agent(self.directory, config)
        self.load = Load(self.queue, arguments.seed)
        self.deleted, self.backup, self.ends, self.problems = set(), None, {}, []
        self.excused, self.is_restored = set(), False

    def rest(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    @staticmethod
    def ids(path):
        found = []
        with open(path, "rb") as file:
            for line in file.read().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                found.append(json.loads(line)["properties"]["message_id"])
        return found

    def here(self):
        """Messages in the files, and in those that were moved away."""
        return [name for path in self.agent.files() + glob.glob(f"{self.agent.aside}/*.jsonl") for name in self.ids(path)]

    def restarted(self, expected=(0,)):
        """Starts it again after its end, which must be one of those expected."""
        status = self.agent.wait()
        self.count_end(status, expected)
        self.agent.start()

    def count_end(self, status, expected):
        # Its last line.
        self.agent.reader.join(10)
        cause = self.agent.last[:60] if status == 1 else ""
        self.ends[(status, cause)] = self.ends.get((status, cause), 0) + 1
        if status == 1 and self.is_restored and "went back in time" in self.agent.last:
            # Refused with the range, as it should be if something was captured since the copy; somebody has read it.
            self.agent.continues = True
        elif status == 1 and "Too many open files" in self.agent.last and not self.agent.has_begun:
            # A start that had none.
            pass
        elif status not in expected:
            self.problems.append(f"ended with {status}: {self.agent.last}")

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
            self.agent.signal(self.rng.choice([signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ]))

    def early_signal(self):
        self.agent.signal(signal.SIGKILL)
        self.count_end(self.agent.wait(), (-9,))
        number = self.rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
        self.agent.start(early=(number, self.rng.uniform(0, 0.15)))
        if number in (signal.SIGHUP, signal.SIGUSR1):
            self.rest(0, 0.3)
            # Before main the system's own meaning holds.
            if self.agent.process.poll() is None:
                if self.agent.await_url():
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
            if self.rng.random() < 0.3:
                self.killed()
                # What was not committed yet can be taken out of a moved file by a living agent only.
                self.excused |= set(self.ids(aside))

    def deleted_file(self):
        path = self.newest()
        if path:
            # What is written until the name is gone goes with it.
            self.quiet()
            self.deleted |= set(self.ids(path))
            os.unlink(path)
            self.load.resume()

    def cut(self):
        path = self.newest()
        if path:
            self.quiet()
            self.deleted |= set(self.ids(path))
            os.truncate(path, 0)
            self.load.resume()

    def quiet(self):
        """Nothing is published, and everything is written and acknowledged."""
        self.load.pause()
        deadline = time.monotonic() + 60
        while Publisher().queue_info(self.queue)["messages"] or not self.is_drained():
            if self.agent.process.poll() is not None:
                self.count_end(self.agent.process.returncode, (1,))
                self.agent.start()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent does not come to rest: {self.agent.last}")
            time.sleep(0.05)

    def is_drained(self):
        try:
            with urllib.request.urlopen(f"{self.agent.url}metrics", timeout=20) as answer:
                text = answer.read().decode()
        except (OSError, ValueError):
            return False
        return "\nsource_amqp_pending_messages 0\n" in text

    def restored(self):
        """A copy of the journal is taken, or one that was taken earlier comes back."""
        if self.backup is None:
            self.quiet()
            self.backup = f"{self.directory}/backup-{time.monotonic_ns()}.db"
            subprocess.run([os.environ["SOURCE_AMQP_BINARY"], "journal", "backup", self.agent.journal, self.backup],
                           check=True, capture_output=True)
            self.load.resume()
            return
        self.quiet()
        self.agent.signal(signal.SIGTERM)
        self.count_end(self.agent.wait(), (0,))
        for path in glob.glob(f"{self.agent.journal}*"):
            if not path.endswith(".lock"):
                os.unlink(path)
        shutil.move(self.backup, self.agent.journal)
        os.chmod(self.agent.journal, 0o600)
        self.backup = None
        self.agent.start()
        self.is_restored = True
        self.load.resume()

    def refused(self):
        number = self.rng.choice([ENOSPC, EDQUOT, EROFS])
        text = self.rng.choice(["journal.db", "journal.db-wal", "journal.db-shm", ".jsonl"])
        if self.rng.random() < 0.3:
            self.agent.lie("half", "1")
        self.agent.lie("refuse", f"{number} {text}")
        self.rest(0.05, 3)
        self.agent.truth("refuse", "half")

    def slow(self):
        self.agent.lie("slow", f"{self.rng.choice([1, 4])} {self.rng.choice(['journal.db', '.jsonl'])}")
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
            # Busy: somebody else's turn.
            pass
        finally:
            connection.close()

    def stderr_unread(self):
        self.agent.reads.clear()
        self.harmless_signals()
        self.rest(0.2, 3)
        self.agent.reads.set()

    def connections_closed(self):
        subprocess.run(["scripts/broker", "ctl", os.environ["SOURCE_AMQP_TEST_BROKER_DIR"], "close_all_connections", "hands"],
                       stdin=subprocess.DEVNULL, capture_output=True, check=True)

    HANDS = [killed, stopped, quit, harmless_signals, early_signal, moved, deleted_file, cut, restored, refused, refused, refused,
             slow, clock_set, no_descriptors, looked_at, looked_at, stderr_unread, connections_closed]

    # The run.

    def green(self, hand):
        """Waits until it is green, and a message that is published from now on is in a file."""
        deadline = time.monotonic() + 90
        target = self.load.number
        while True:
            if self.agent.process.poll() is not None:
                # What was lied about may have been a sync.
                self.count_end(self.agent.process.returncode, (1,) if hand == "refused" else ())
                self.agent.start()
            health = self.agent.health()
            if health and health[0] == 200:
                new = [name for path in self.agent.files()[-3:] for name in self.ids(path)]
                if any(int(name.removeprefix("m-")) >= target for name in new):
                    self.is_restored = False
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"not green again after {hand}: {health}, {self.agent.last}")
            time.sleep(0.05)

    def run(self, steps, only):
        self.agent.start()
        self.load.start()
        for number in range(1, steps + 1):
            hand = self.rng.choice([hand for hand in self.HANDS if only in (None, hand.__name__)])
            name = hand.__name__.replace("_", " ")
            begin = time.monotonic()
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
        deadline = time.monotonic() + 60
        while Publisher().queue_info(self.queue)["messages"] or not self.is_drained():
            if time.monotonic() > deadline:
                raise RuntimeError("the queue is not empty at the end")
            time.sleep(0.1)
        self.agent.signal(signal.SIGTERM)
        self.count_end(self.agent.wait(), (0,))

    def judge(self):
        torn = 0
        for path in self.agent.files() + glob.glob(f"{self.agent.aside}/*.jsonl"):
            with open(path, "rb") as file:
                text = file.read()
            for line in text.split(b"\n")[:-1]:
                try:
                    json.loads(line)
                except ValueError:
                    torn += 1
            torn += not text.endswith(b"\n") and text != b""
        here = self.here()
        lost = self.load.confirmed - set(here) - self.deleted
        counts = {}
        for name in here + list(self.deleted):
            counts[name] = counts.get(name, 0) + 1
        twice = sorted(name for name, count in counts.items() if count > 1 and name not in self.excused)
        print(f"{len(self.load.confirmed):8} confirmed, {len(self.load.uncertain)} without a confirmation\n"
              f"{len(here):8} in files, {len(self.deleted)} deleted by a hand\n"
              f"{len(lost):8} lost\n{len(twice):8} twice\n{torn:8} torn lines")
        for (status, cause), count in sorted(self.ends.items(), key=str):
            print(f"{count:8} ended with {status} {cause}")
        if lost:
            self.problems.append(f"{len(lost)} lost: {sorted(lost)[:10]}")
        if twice:
            self.problems.append(f"{len(twice)} twice: {twice[:10]}")
        if torn:
            self.problems.append(f"{torn} torn lines")


def main():
    parser = argparse.ArgumentParser(prog="scripts/chaos --hands")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted({hand.__name__ for hand in Hands.HANDS}), help="only this hand")
    arguments = parser.parse_args()
    begin = time.monotonic()
    hands = Hands(arguments)
    try:
        hands.run(arguments.steps, arguments.only)
    except RuntimeError as error:
        hands.problems.append(str(error))
    finally:
        hands.agent.signal(signal.SIGKILL)
    hands.judge()
    print(f"{arguments.steps} steps, seed {arguments.seed}, {time.monotonic() - begin:.1f} s")
    for problem in hands.problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    sys.exit(1 if hands.problems else 0)


if __name__ == "__main__":
    main()
