"""People who look into a journal while it is written: with plain sqlite3, in processes of their own, at random moments.

And a watch over the agent's locks: a process that loses those that SQLite has taken for it goes on as if nothing were, and
the next visitor deletes its WAL.
"""

import glob
import os
import random
import shutil
import subprocess
import threading
import time

VISITS = {
    "look": ["-readonly", "SELECT count(*) FROM pending"], "status": ["SELECT * FROM summary"],
    "backup": [".backup COPY"], "checkpoint": ["PRAGMA wal_checkpoint(TRUNCATE)"], "passive": ["PRAGMA wal_checkpoint"],
    "vacuum": ["VACUUM"], "mode": ["PRAGMA journal_mode = DELETE"], "hold": ["BEGIN IMMEDIATE; SELECT count(*) FROM message; COMMIT"],
}


class Visitors:
    """Visits the journal until the end, and counts what it did and what it saw.

    - journal: a pattern of paths; the newest that matches is visited.
    """

    def __init__(self, journal, directory, seed):
        self.pattern, self.directory, self.rng = journal, directory, random.Random(f"visitors/{seed}")
        self.lock, self.pid = threading.Lock(), None
        # Held by a visit, and while files are away: SQLite promises nothing to who writes to a database without its WAL.
        self.files = threading.Lock()
        self.visits, self.looks, self.without = dict.fromkeys(VISITS, 0), 0, []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.visit, self.watch)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def agent(self, process):
        """The agent is at work from now on; None before its end is brought about, or may come."""
        with self.lock:
            self.pid = process.pid if process else None

    def path(self):
        """The newest that matches: an agent that was killed leaves a temporary journal behind."""
        try:
            return max(glob.glob(self.pattern), key=os.path.getmtime, default=None)
        except FileNotFoundError:
            return None

    def visit(self):
        while not self.over.wait(self.rng.random() * 0.15):
            path = self.path()
            if path is None:
                continue
            name = self.rng.choice(list(VISITS))
            *options, sql = VISITS[name]
            copy = f"{self.directory}/visitor-copy"
            with self.files:
                # A copy may fail while the agent goes on writing, and so may what wants a lock: the visitor's trouble.
                subprocess.run(["sqlite3", *options, "-cmd", ".timeout 200", path, sql.replace("COPY", copy)],
                               stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if os.path.exists(copy):
                os.remove(copy)
            self.visits[name] += 1

    def inode(self):
        """Of the agent's own journal, if it is where it should be: an agent that was killed leaves a temporary one behind."""
        descriptors = f"/proc/{self.pid}/fd"
        opened = {os.stat(f"{descriptors}/{name}").st_ino for name in os.listdir(descriptors)}
        return next((inode for path in glob.glob(self.pattern) if (inode := os.stat(path).st_ino) in opened), None)

    def watch(self):
        while not self.over.wait(0.002):
            with self.lock:
                try:
                    inode = self.inode() if self.pid else None
                    if inode is None:
                        continue
                    with open("/proc/locks", encoding="ascii") as file:
                        held = any(line.split()[4] == str(self.pid) and line.split()[5].endswith(f":{inode}")
                                   for line in file if "->" not in line)
                except FileNotFoundError:
                    continue
                self.looks += 1
                if not held:
                    self.without.append(time.monotonic())

    def move(self, path):
        """Moves a file of the journal, or all of them, as a person would; returns what `put_back` takes."""
        suffixes = self.rng.choice([[""], ["-wal"], ["-shm"], ["", "-wal"], ["", "-wal", "-shm"]])
        self.files.acquire()
        elsewhere = f"{self.directory}/elsewhere"
        os.makedirs(elsewhere, exist_ok=True)
        moved = []
        for suffix in suffixes:
            if os.path.exists(path + suffix):
                os.rename(path + suffix, f"{elsewhere}/journal{suffix}")
                moved.append(suffix)
        return path, elsewhere, moved

    def put_back(self, place):
        path, elsewhere, moved = place
        for suffix in moved:
            os.rename(f"{elsewhere}/journal{suffix}", path + suffix)
        shutil.rmtree(elsewhere)
        self.files.release()

    def report(self):
        visits = ", ".join(f"{count} {name}" for name, count in self.visits.items())
        return f"visits: {visits}; looked for the agent's lock {self.looks} times, and found none {len(self.without)} times"
