"""Kills the journal's writer at every system call that changes a file, and lets each of them fail, one run for each.

strace injects the fault (https://man7.org/linux/man-pages/man1/strace.1.html, "Tampering"). The writer opens, or makes, or
migrates a journal, commits, prunes, checkpoints, closes. After each run what was reported as committed must be there, in
a sound journal that can be opened and written; after a failed call nothing may have been reported on the strength of it.

  kill    SIGKILL before the n-th call of each kind, n = 1, 2, 3 … until the writer runs through
  EIO     the n-th call fails; the writer must end, or the call did not matter
  ENOSPC  the n-th call fails, or all from the n-th on; the writer may try again
  EROFS   all from the n-th on fail

Exit status 1 if a message is missing or a journal unsound.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

from journalwriter import Word, check

# What changes files and names; reads are not what a crash can tear.
CALLS = ["pwrite64", "write", "fdatasync", "fsync", "ftruncate", "openat", "unlink", "link", "linkat", "rename",
         "fallocate"]


# The schema of a journal that is migrated: the first, and that of before several subscriptions.
VERSIONS = {"old": 1, "former": 5}


def start(binary, directory, kind):
    """A journal as the run begins with: none, one that a crash left with a WAL, or one of an older schema."""
    path = f"{directory}/journal.db"
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    word = Word()
    if kind == "new":
        return path, word
    process = subprocess.Popen([binary, "write", path, "7", "1000000"], stdout=subprocess.PIPE, text=True)
    commits = 0
    for line in process.stdout:
        word.hear(line.rstrip("\n"))
        commits += " last " in line
        if commits == 5:
            process.kill()
    process.wait()
    if kind in VERSIONS:
        last, committed = check(binary, path, word)
        word = Word(last, committed)
        os.rename(path, f"{directory}/newer")
        subprocess.run([binary, "old", f"{directory}/newer", path, str(VERSIONS[kind])], check=True)
        os.unlink(f"{directory}/newer")
    return path, word


def run(binary, path, word, inject, transactions):
    """One run of the writer under strace; its exit status, negative for a signal."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + inject.split(":")[0], "-e", "inject=" + inject,
               binary, "write", path, "3", str(transactions)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    for line in process.stdout.splitlines():
        word.hear(line)
    return process.returncode


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/syscalls", description="Kills the journal's writer at every system call, and lets each fail.")
    parser.add_argument("--transactions", type=int, default=8, help="in each run (8)")
    parser.add_argument("--step", type=int, default=1, help="take only every n-th call (1)")
    parser.add_argument("--call", choices=CALLS, action="append", help="only this system call (all)")
    parser.add_argument("--start", choices=["new", "crashed", *VERSIONS], action="append",
                        help="no journal, one with a WAL, one of the first or the fifth schema (all four)")
    parser.add_argument("--fault", choices=["kill", "EIO", "ENOSPC", "EROFS"], action="append", help="(all four)")
    arguments = parser.parse_args()
    binary, directory = os.environ["JOURNAL_WRITER"], os.environ["WORK_DIRECTORY"]
    saved = f"{directory}/saved"
    work = f"{directory}/work"
    begin = time.monotonic()
    for fault in arguments.fault or ["kill", "EIO", "ENOSPC", "EROFS"]:
        points, ended, failures = 0, 0, 0
        for kind in arguments.start or ["new", "crashed", *VERSIONS]:
            os.makedirs(work, exist_ok=True)
            _, first = start(binary, work, kind)
            shutil.rmtree(saved, ignore_errors=True)
            shutil.copytree(work, saved)
            for call in arguments.call or CALLS:
                number, quiet = 1, 0
                while True:
                    shutil.rmtree(work)
                    shutil.copytree(saved, work)
                    path, word = f"{work}/journal.db", Word(first.last, first.committed)
                    word.committing = first.committing
                    every = "+" if fault == "EROFS" or (fault == "ENOSPC" and number % 2 == 0) else ""
                    action = "signal=KILL" if fault == "kill" else f"error={fault}"
                    status = run(binary, path, word, f"{call}:{action}:when={number}{every}", arguments.transactions)
                    # Without effect the call was not reached, or did not matter.
                    through = word.closed and word.failed is None
                    if fault == "kill" and not through and status not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                        sys.exit(f"FAILED: {kind}, {call} {number}: the writer ended with {status}: {word.failed}")
                    points += 1
                    ended += not through
                    try:
                        check(binary, path, word)
                    except AssertionError as problem:
                        failures += 1
                        print(f"FAILED: {fault}, {kind}, {call} {number}{every}: {problem}", flush=True)
                    quiet = quiet + 1 if through else 0
                    # A failing call may be without effect where later ones are not.
                    if through and (fault == "kill" or quiet > 3 * arguments.step or number > 400):
                        break
                    number += arguments.step
        print(f"{fault}: {points} points, the writer ended at {ended}, {failures} journals lacked something, "
              f"{time.monotonic() - begin:.1f} s", flush=True)
        if failures:
            sys.exit(1)


if __name__ == "__main__":
    main()
