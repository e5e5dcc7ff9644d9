"""What scripts/powercut and scripts/syscalls share: running JournalWriter, and comparing the journal with its word."""

import subprocess


class Word:
    """What a writer said: everything up to `last` is safe, `committed` is recorded, `committing` may be."""

    def __init__(self, last=0, committed=0):
        self.last, self.committed, self.committing, self.closed, self.failed = last, committed, committed, False, None

    def hear(self, line):
        kind, _, rest = line.partition(" ")
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
    lines = run.stdout.splitlines()
    if run.returncode != 0 or not lines or not lines[-1].startswith("sound "):
        raise AssertionError(f"{lines[-1] if lines else run.stderr or 'no answer'} (status {run.returncode})")
    _, last, committed = lines[-1].split()
    return int(last), int(committed)
