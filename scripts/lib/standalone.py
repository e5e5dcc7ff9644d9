"""Drives `source-amqp run`: starts and kills it, and reads the JSONL files that it writes, as far as they have come.

It has the face of Runtime as far as scripts/crash asks for it: what stands in the files is what counts. After a crash the
end of the newest file may be cut off and written again, so that file is read anew after each.
"""

import glob
import json
import os
import signal
import subprocess
import threading
import time


class Standalone:
    """One agent with its directory. Threads: the caller's, one that reads files, and per start one that reads stderr."""

    def __init__(self, binary, config, directory, kept, progressed, log_path=None):
        """- kept: what is kept of a document; progressed: called after some were read."""
        self.binary, self.directory, self.kept, self.progressed = binary, directory, kept, progressed
        os.makedirs(directory, exist_ok=True)
        self.config = f"{directory}/config.json"
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.environment = dict(os.environ, LOG_LEVEL="info", LOG_FORMAT="json")
        self.log_file = open(log_path, "ab") if log_path else None
        self.changed = threading.Condition()
        # Of each file its name, the records in it, how far it was read, and the beginning of a line.
        self.files = []
        self.session, self.process = 0, None
        self.opened = self.ended = False
        self.failure, self.last_log = None, ""
        # Nothing waits for a runtime here.
        self.checkpoints, self.pending, self.owed, self.sequence, self.uncommitted = 0, [], 0, [], 0
        threading.Thread(target=self.read_files, daemon=True).start()

    @property
    def committed(self):
        with self.changed:
            return [record for file in self.files for record in file[1]]

    @property
    def captured(self):
        return sum(len(file[1]) for file in self.files)

    def start(self, wait_opened=True):
        with self.changed:
            self.session += 1
            # The last one may be cut back, and what follows it removed.
            del self.files[-3:]
            # In one step: the last process's end may be noticed late.
            self.process = subprocess.Popen(
                [self.binary, "run", self.config, "--output", f"{self.directory}/out", "--rotate-size", "4M"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment)
            self.opened = self.ended = False
        threading.Thread(target=self.read_log, args=(self.process,), daemon=True).start()
        if wait_opened:
            self.wait(lambda: self.opened, "consumer")

    def read_log(self, process):
        for line in process.stderr:
            self.last_log = line.decode(errors="replace").rstrip()
            if self.log_file:
                self.log_file.write(line)
                self.log_file.flush()
            if b"consuming from queue" in line:
                with self.changed:
                    self.opened = self.opened or process is self.process
                    self.changed.notify_all()
        process.wait()
        with self.changed:
            if process is self.process:
                self.ended = True
            self.changed.notify_all()

    def read_files(self):
        while True:
            with self.changed:
                if self.process is not None and self.process.poll() is None and self.read_more():
                    self.progressed()
                    self.changed.notify_all()
            time.sleep(0.003)

    def read_more(self):
        """Reads what has been added; true where there was anything."""
        names = sorted(glob.glob(f"{self.directory}/out/*.jsonl"))
        while self.files and self.files[-1][0] not in names:
            self.files.pop()
        known = {file[0] for file in self.files}
        changed = False
        for name in names:
            if name not in known:
                self.files.append([name, [], 0, b""])
            elif name != self.files[-1][0]:
                continue
            file = self.files[-1]
            try:
                with open(name, "rb") as source:
                    if os.fstat(source.fileno()).st_size < file[2]:
                        file[1:] = [[], 0, b""]
                    source.seek(file[2])
                    data = source.read()
            except FileNotFoundError:
                break
            file[2] += len(data)
            *whole, file[3] = (file[3] + data).split(b"\n")
            file[1] += [self.kept(json.loads(line)) for line in whole]
            changed = changed or bool(data)
        return changed

    def read_all(self):
        with self.changed:
            while self.read_more():
                pass

    def wait(self, condition, what, seconds=60):
        with self.changed:
            if not self.changed.wait_for(lambda: condition() or self.ended, seconds):
                raise RuntimeError(f"no {what} within {seconds} s; last log line: {self.last_log}")
            if not condition():
                raise RuntimeError(f"the agent ended with {self.process.returncode} before {what}; {self.last_log}")

    def hold(self, commits=False, acknowledgements=False):
        """Files hold nothing back."""

    def combine(self, seconds):
        """Nor do they make transactions of several batches."""

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, seconds=30):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        self.read_all()
        return status

    stop = terminate
