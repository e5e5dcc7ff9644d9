"""Plays Estuary Flow's runtime for one capture: drives the connector over pipes, commits, acknowledges, kills, resumes.

A checkpoint closes the documents before it; both become visible in one step (`committed`, `state`), and only then is the
checkpoint acknowledged. What a killed session left without a checkpoint is discarded, a torn last line included, and the
next session is opened with the last committed state. What Flow would refuse (an unknown or repeated member, a blank
line) ends the run with an error.
"""

import json
import os
import select
import signal
import subprocess
import threading
import time


class ProtocolViolation(Exception):
    pass


def strict(line):
    """A line of the connector's as JSON; a member that comes twice is an error, as it is to Flow."""
    def members(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise ProtocolViolation(f"a member comes twice: {line[:300]!r}")
        return dict(pairs)
    try:
        return json.loads(line, object_pairs_hook=members)
    except ValueError as error:
        raise ProtocolViolation(f"not JSON ({error}): {line[:300]!r}") from error


def merge_patch(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge_patch(target.get(name), value)
    return target


KNOWN = {"spec": None, "opened": {"explicitAcknowledgements"}, "captured": {"binding", "doc"}, "checkpoint": {"state"}}


class Runtime:
    """One capture. Threads: the caller's, and per session one that reads stdout and one that reads stderr."""

    def __init__(self, binary, config, stream="orders", log_level="info", log_path=None):
        self.binary, self.config = binary, config
        # The bindings' resources, and which of them the newest document is of.
        self.resources, self.binding = [{"stream": stream}], 0
        self.environment = dict(os.environ, LOG_LEVEL=log_level, LOG_FORMAT="json")
        self.log_file = open(log_path, "ab") if log_path else None
        self.changed = threading.Condition()
        self.committed, self.state = [], {}
        self.sequence, self.pending, self.owed = [], [], 0
        self.hold_commits = self.hold_acknowledgements = False
        self.interval, self.ticker = 0, None
        self.process, self.session = None, 0
        self.reader, self.leave = None, None
        self.opened = self.ended = False
        self.failure = None
        self.read = self.checkpoints = self.acknowledged = 0
        self.last_log = ""

    def spawn(self):
        return subprocess.Popen(
            [self.binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment)

    def capture(self):
        bindings = [{
            "resourceConfig": resource, "resourcePath": [resource["stream"]], "stateKey": resource["stream"] + ".v0",
            "collection": {
                "name": "acmeCo/" + resource["stream"], "key": ["/session_id", "/sequence"], "uuidPtr": "/_meta/uuid"}}
            for resource in self.resources]
        return {
            "name": "acmeCo/source-amqp", "connectorType": "LOCAL", "config": self.config, "bindings": bindings,
            "intervalSeconds": 300}

    def apply(self):
        """Runs Apply in a process of its own, as Flow does before the first session; returns its description."""
        request = {"apply": {"capture": self.capture(), "version": "0123456789abcdef", "state": self.state}}
        lines = [json.dumps({"spec": {"connectorType": "LOCAL", "config": {}}}), json.dumps(request), ""]
        process = self.spawn()
        output, error = process.communicate("\n".join(lines).encode())
        if process.returncode != 0:
            raise RuntimeError(f"apply: exit status {process.returncode}: {error.decode(errors='replace')[-2000:]}")
        return strict(output.splitlines()[-1])["applied"].get("actionDescription", "")

    def start(self, wait_opened=True):
        with self.changed:
            self.session += 1
            self.sequence, self.pending, self.owed = [], [], 0
            self.opened = self.ended = False
        self.process = self.spawn()
        leaving, self.leave = os.pipe()
        arguments = (self.process, self.session)
        self.reader = threading.Thread(target=self.read_output, args=(*arguments, leaving), daemon=True)
        self.reader.start()
        threading.Thread(target=self.read_log, args=arguments, daemon=True).start()
        self.send({"spec": {"connectorType": "LOCAL", "config": {}}})
        self.send({"open": {
            "capture": self.capture(), "version": "0123456789abcdef", "state": self.state,
            "range": {"keyEnd": 4294967295, "rClockEnd": 4294967295}}})
        if wait_opened:
            self.wait(lambda: self.opened, "opened")

    def send(self, message):
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # It is gone; its exit is noticed where it is waited for.

    @staticmethod
    def lines(output, leaving):
        """The lines of a pipe, the last one torn where the pipe ends so; none any more once `leaving` is closed."""
        rest = b""
        poll = select.poll()
        poll.register(output, select.POLLIN)
        poll.register(leaving, 0)  # The end of the other side is reported all the same.
        while True:
            if any(descriptor == leaving for descriptor, _ in poll.poll()):
                return
            data = os.read(output.fileno(), 1 << 16)
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest

    def read_output(self, process, session, leaving):
        for line in self.lines(process.stdout, leaving):
            try:
                with self.changed:
                    if session != self.session or self.ended:
                        break
                    if not line.endswith(b"\n"):
                        break  # Torn by a kill; an orderly end is checked in `finish`.
                    self.receive(strict(line))
                    self.changed.notify_all()
            except ProtocolViolation as violation:
                self.failure = str(violation)
                process.kill()
                break
        process.stdout.close()
        os.close(leaving)
        with self.changed:
            if session == self.session:
                self.ended = True
            self.changed.notify_all()

    def kept(self, document):
        """What is kept of a document."""
        return document

    def receive(self, message):
        if not isinstance(message, dict) or len(message) != 1:
            raise ProtocolViolation(f"not exactly one message in a line: {str(message)[:300]}")
        kind, content = next(iter(message.items()))
        if kind not in KNOWN or (KNOWN[kind] is not None and set(content) - KNOWN[kind]):
            raise ProtocolViolation(f"unknown message or member: {str(message)[:300]}")
        if kind == "opened":
            self.opened = True
        elif kind == "captured":
            self.read += 1
            self.binding = content.get("binding", 0)
            self.sequence.append(self.kept(content["doc"]))
        elif kind == "checkpoint":
            self.checkpoints += 1
            self.pending.append((self.sequence, content.get("state")))
            self.sequence = []
            if not self.interval:
                self.settle()

    def settle(self):
        """Commits what is pending and acknowledges what is committed, as far as neither is held."""
        if not self.hold_commits:
            for documents, state in self.pending:
                self.committed += documents
                if state:
                    updated = state.get("updated", {})
                    self.state = merge_patch(self.state, updated) if state.get("mergePatch") else updated
                self.owed += 1
            self.pending = []
        if self.owed and not self.hold_acknowledgements:
            self.send({"acknowledge": {"checkpoints": self.owed}})
            self.acknowledged += self.owed
            self.owed = 0

    def hold(self, commits=False, acknowledgements=False):
        with self.changed:
            self.hold_commits, self.hold_acknowledgements = commits, acknowledgements
            self.settle()
            self.changed.notify_all()

    def combine(self, seconds):
        """From now on, checkpoints of so many seconds make one transaction, and one acknowledgement; 0 for none."""
        with self.changed:
            self.interval = seconds
            if not seconds:
                self.settle()
        if seconds and self.ticker is None:
            self.ticker = threading.Thread(target=self.tick, daemon=True)
            self.ticker.start()

    def tick(self):
        while True:
            time.sleep(self.interval or 0.05)
            with self.changed:
                if self.interval and not self.ended:
                    self.settle()
                    self.changed.notify_all()

    def read_log(self, process, session):
        for line in process.stderr:
            self.last_log = line.decode(errors="replace").rstrip()
            if self.log_file:
                self.log_file.write(line)
                self.log_file.flush()

    def wait(self, condition, what, seconds=60):
        """Waits until condition() holds; it is asked after every line that the connector wrote."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition() or self.ended, seconds):
                raise RuntimeError(f"no {what} within {seconds} s; last log line: {self.last_log}")
            if not condition():
                self.process.wait()
                raise RuntimeError(self.failure or f"the connector ended with {self.process.returncode} before {what}; "
                                   f"last log line: {self.last_log}")

    def kill(self):
        """SIGKILL; what is not committed at this instant is discarded."""
        with self.changed:
            # Before the reader sees that this session is over and closes stdout: a broken pipe is another fault.
            self.forget()
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.closed()

    def abandon(self):
        """The runtime is gone: it commits and acknowledges nothing more, and its ends of all pipes are closed.

        The connector notices, and is left to itself; the next `start` does not wait for it.
        """
        self.forget()
        self.closed()
        # stdout is closed by who reads it.
        self.reader.join()

    def forget(self):
        with self.changed:
            self.ended = True
            self.sequence, self.pending, self.owed = [], [], 0

    def closed(self):
        """Closes stdin, and lets the reader of stdout end."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # Something was left to be sent.
        if self.leave is not None:
            os.close(self.leave)
            self.leave = None

    def stop(self, seconds=30):
        """Closes stdin, commits what the connector still writes, and returns its exit status."""
        self.process.stdin.close()
        return self.finish(seconds)

    def terminate(self, seconds=30):
        """SIGTERM; commits what the connector still writes, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish(seconds)

    def finish(self, seconds):
        status = self.process.wait(seconds)
        with self.changed:
            self.changed.wait_for(lambda: self.ended, seconds)
            self.settle()
            if self.failure is None and self.sequence:
                self.failure = "the output ended inside a checkpoint sequence"
            self.sequence, self.pending, self.owed = [], [], 0
        self.reader.join()
        self.closed()
        return status
