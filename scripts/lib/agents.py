"""The agents that scripts/lib/chaos.py lays its hands on, in both modes, with the files and lies that belong to them.

`Standalone` is `source-amqp run`, whose documents are lines of files; `Captured` is a capture that a runtime of Flow's drives
(scripts/lib/runtime.py), whose documents are those that it committed. Both are started again and again on one journal. Clock and disks
are lied about inside the process alone (scripts/lib/shim.c).
"""

import glob
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

from runtime import Runtime

HERE = os.path.dirname(os.path.abspath(__file__))


def number(name):
    """Of a message, by its message_id."""
    return int(name.removeprefix("m-"))


class Agent:
    """What both have: a process with a log, a journal, and lies."""

    def __init__(self, directory):
        self.directory, self.shim = directory, f"{directory}/shim"
        os.makedirs(self.shim, exist_ok=True)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{self.shim}/shim.so", f"{HERE}/shim.c", "-ldl"], check=True)
        self.binary = os.environ["SOURCE_AMQP_BINARY"]
        self.environment = dict(os.environ, LD_PRELOAD=f"{self.shim}/shim.so", SHIM=self.shim, LOG_FORMAT="json")
        self.log, self.log_is_read = open(f"{directory}/log", "ab"), threading.Event()
        self.log_is_read.set()
        self.reader, self.last, self.has_begun, self.saw_copy = None, "", False, False

    def start(self, early=None):
        """Starts it; with `early`, a signal and after how many seconds, without waiting for its first answer."""
        self.has_begun = self.saw_copy = False
        self.spawn()
        if early:
            time.sleep(early[1])
            self.signal(early[0])
        else:
            self.await_begin()

    def await_begin(self):
        """Whether it has begun; it has ended if not."""
        deadline = time.monotonic() + 60
        while not self.has_answered():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent does not answer: {self.last}")
            time.sleep(0.01)
        return True

    def read_log(self, process):
        """The log, line by line, while somebody reads it."""
        for line in process.stderr:
            self.log_is_read.wait()
            self.log.write(line)
            self.log.flush()
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if process is self.process:
                self.last = event.get("message", "")
                self.heard(event)

    def heard(self, event):
        if self.last == "Capture started":
            self.has_begun = True
        if "an older copy was put in its place" in self.last:
            self.saw_copy = True

    def signal(self, number):
        if self.process.poll() is None and self.process.pid > 1:
            self.process.send_signal(number)

    def wait(self, seconds=30):
        """Its exit status, once it has ended."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the agent does not end within {seconds} s: {self.last}") from None
        # Its last line.
        self.reader.join(10)
        return status

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

    def journal_files(self):
        """The journal's, but for its lock, which stays where it is."""
        return [path for path in glob.glob(f"{self.journal}*") if not path.endswith(".lock")]

    def back_up(self, copy):
        subprocess.run([self.binary, "journal", "backup", self.journal, copy], check=True, capture_output=True)

    def restore(self, copy):
        """The copy takes the place of the journal of an agent that has ended."""
        for path in self.journal_files():
            os.unlink(path)
        shutil.move(copy, self.journal)
        os.chmod(self.journal, 0o600)


class Standalone(Agent):
    """`source-amqp run` with files that are rotated, and its page."""

    # Of the files that a hand may let a disk refuse.
    places = ["journal.db", "journal.db-wal", "journal.db-shm", ".jsonl"]
    # What leaves it as it is.
    harmless = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP]

    def __init__(self, directory, config):
        super().__init__(directory)
        self.out, self.aside = f"{directory}/out", f"{directory}/aside"
        for path in (self.out, self.aside):
            os.makedirs(path, exist_ok=True)
        self.config, self.process, self.url, self.continues = f"{directory}/hands.json", None, None, False
        with open(self.config, "w") as file:
            json.dump(config, file)
        self.journal = f"{self.out}/journal.db"

    def spawn(self):
        command = [self.binary, "run", self.config, "--output", self.out, "--rotate-size", "200k", "--listen", "127.0.0.1:0"]
        command += ["--continue-output"] if self.continues else []
        self.continues, self.url = False, None
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment)
        self.reader = threading.Thread(target=self.read_log, args=(self.process,), daemon=True)
        self.reader.start()

    def has_answered(self):
        return self.url is not None

    def heard(self, event):
        super().heard(event)
        if "metrics and health are served" in self.last:
            self.url = event["fields"]["url"].removesuffix("metrics")

    def get(self, page):
        """Status and text of a page; None if nothing answers."""
        if self.url is None:
            return None
        try:
            with urllib.request.urlopen(f"{self.url}{page}", timeout=20) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()
        except OSError:
            return None

    def why_red(self, target):
        """Why it is not green, or has nothing newer than a message's number; None if it has."""
        health = self.get("healthz")
        if not health or health[0] != 200:
            return health or "no answer"
        new = [name for path in self.files()[-3:] for name in self.ids(path)]
        return None if any(number(name) >= target for name in new) else f"nothing new in the files: {health}"

    def has_all(self, confirmed):
        metrics = self.get("metrics")
        return metrics is not None and "\nsource_amqp_pending_messages 0\n" in f"\n{metrics[1]}\n"

    def files(self):
        return sorted(glob.glob(f"{self.out}/*.jsonl"))

    @staticmethod
    def ids(path):
        """Of the whole lines of a file."""
        with open(path, "rb") as file:
            text = file.read()
        return [json.loads(line)["properties"]["message_id"] for line in text[:text.rfind(b"\n") + 1].splitlines()]

    def messages(self):
        """Those in the files, and in those that were moved away, each as often as it is there; how many lines are torn; and which are
        marked `redelivered`."""
        found, torn, marked = [], 0, set()
        for path in self.files() + glob.glob(f"{self.aside}/*.jsonl"):
            with open(path, "rb") as file:
                *lines, rest = file.read().split(b"\n")
            torn += rest != b""
            for line in lines:
                try:
                    document = json.loads(line)
                except ValueError:
                    torn += 1
                    continue
                found.append(document["properties"]["message_id"])
                if document["delivery"]["redelivered"]:
                    marked.add(found[-1])
        return found, torn, marked

    def answer_refusal(self):
        """Somebody has read why a restored journal is refused, and what is missing in it."""
        self.continues = True

    def settled(self, status):
        pass


class Captured(Agent):
    """A capture of Flow's, which a runtime opens again and again with what it committed last."""

    places = ["journal.db", "journal.db-wal", "journal.db-shm"]
    harmless = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXFSZ]

    def __init__(self, directory, config, rng):
        super().__init__(directory)
        self.journal, self.rng = f"{directory}/journal.db", rng
        self.runtime = Session(self, {**config, "journal": {"path": self.journal}})
        self.newest, self.seen, self.counted = f"{directory}/newest", set(), 0

    @property
    def process(self):
        return self.runtime.process

    def spawn(self):
        self.runtime.start(wait_opened=False)

    def has_answered(self):
        return self.runtime.opened

    def settled(self, status):
        """What it has written is committed if its end was in order, and now and then otherwise: a checkpoint is whole or not there.

        If the runtime does not read, an end in order waits for it no longer than eight seconds, and then leaves documents without their
        checkpoint behind.
        """
        is_whole = status == 0 and self.runtime.output_is_read.is_set()
        self.runtime.output_is_read.set()
        self.runtime.hold()
        if is_whole:
            self.runtime.finish(30)
            return
        if self.rng.random() < 0.5:
            self.runtime.reader.join(10)
            self.runtime.hold()
        self.runtime.forget()
        self.runtime.closed()
        self.runtime.reader.join(10)

    def why_red(self, target):
        if self.runtime.failure:
            raise RuntimeError(self.runtime.failure)
        with self.runtime.changed:
            new = self.runtime.committed[-2000:]
        return None if any(number(name) >= target for *_, name in new) else "nothing new is committed"

    def has_all(self, confirmed):
        with self.runtime.changed:
            committed, rest = self.runtime.committed[self.counted:], self.runtime.pending or self.runtime.owed
        self.counted += len(committed)
        self.seen |= {name for *_, name in committed}
        return confirmed <= self.seen and not rest

    def messages(self):
        """Those that were committed, each as often as it was; how many are not in the order of their numbers; and which are marked
        `redelivered`."""
        last, wrong, committed = {}, 0, self.runtime.committed
        for session, sequence, *_ in committed:
            wrong += sequence <= last.get(session, 0)
            last[session] = sequence
        return [name for *_, name in committed], wrong, {name for *_, marked, name in committed if marked}

    def restore(self, copy):
        """The journal is kept: on one that is older than what the runtime has committed nothing can go on."""
        shutil.rmtree(self.newest, ignore_errors=True)
        os.mkdir(self.newest)
        for path in self.journal_files():
            shutil.move(path, self.newest)
        super().restore(copy)

    def answer_refusal(self):
        for path in self.journal_files():
            os.unlink(path)
        for path in glob.glob(f"{self.newest}/*"):
            shutil.move(path, self.directory)


class Session(Runtime):
    """A runtime whose process belongs to an agent, and who may stop reading."""

    def __init__(self, agent, config):
        super().__init__(agent.binary, config)
        self.agent, self.environment, self.output_is_read = agent, agent.environment, threading.Event()
        self.output_is_read.set()

    def read_log(self, process, session):
        self.agent.reader = threading.current_thread()
        self.agent.read_log(process)

    def lines(self, output, leaving):
        for line in Runtime.lines(output, leaving):
            self.output_is_read.wait()
            yield line

    def kept(self, document):
        marked = document["delivery"]["redelivered"]
        return document["session_id"], document["sequence"], marked, document["properties"]["message_id"]
