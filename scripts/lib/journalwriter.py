"""What scripts/powercut and scripts/syscalls share: running JournalWriter, and comparing the journal with its word."""

import subprocess


class Word:
    """What a writer said: everything up to `last` is safe, `committed` is recorded, `committing` may be."""

    def __init__(self, last=0, committed=0):
        self.last, self.committed, self.committing, self.closed, self.failed = last, committed, committed, False, None

    def hear(self, line, before=None):
        """Takes a line of the writer's; with `before` (nanoseconds, CLOCK_MONOTONIC) only if it was true by then."""
        time, _, words = line.partition(" ")
        kind, _, rest = words.partition(" ")
        # What Swift's runtime prints of a process whose disk has gone is no word of the writer's.
        if not time.isdigit():
            return
        # What was tried may have been recorded whenever it was said.
        if before is not None and int(time) >= before and kind != "committing":
            return
        if kind == "last":
            self.last = int(rest)
        elif kind == "committing":
            self.committing = int(rest)
        elif kind == "committed":
            self.committed = int(rest)
        elif kind == "closed":
            self.closed = True
        elif kind == "failed":
            self.failed = rest


def check(binary, path, word):
    """The journal's last and committed position; raises AssertionError where it lacks what was said."""
    run = subprocess.run([binary, "check", path, str(word.last), str(word.committed),
                          str(max(word.committed, word.committing))], capture_output=True, text=True, timeout=120)
    lines = [line.partition(" ")[2] for line in run.stdout.splitlines()]
    if run.returncode != 0 or not lines or not lines[-1].startswith("sound "):
        raise AssertionError(f"{lines[-1] if lines else run.stderr or 'no answer'} (status {run.returncode})")
    _, last, committed = lines[-1].split()
    return int(last), int(committed)
