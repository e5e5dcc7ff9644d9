"""Cuts the power of a journal's disk, again and again, and looks for what was said to be safe.

The journal is on an ext4 file system of its own, on a loop device, which EXT4_IOC_SHUTDOWN stops at a random moment: what
the kernel has not yet written to the device is gone, as after a power cut. Then it is mounted anew, and everything that
the writer reported as committed before that moment must be there, whole and in order, in a sound journal.
(While the shutdown is under way the kernel has been seen to call a sync good that it no longer did; after a real power cut
nobody would hear of that. Such words are counted, not judged.) With --control commits are
not synced (synchronous=NORMAL); then something must be missing, or the test could not find it.

Exit status 1 if a message is missing, or with --control if none is. Where one is missing that must not be, the disk as the
cut left it and every word of the writer are kept, and the directory is printed.
"""

import argparse
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

from journalwriter import Word, check

# <linux/ext4.h>: _IOR('X', 125, __u32); 2 is EXT4_GOING_FLAGS_NOLOGFLUSH, which drops what is only in memory.
EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2


def call(*arguments):
    subprocess.run(arguments, check=True, timeout=60)


class Disk:
    """An ext4 file system of 256 MB on a loop device."""

    def __init__(self, directory):
        self.image, self.mount = f"{directory}/image", f"{directory}/disk"
        os.mkdir(self.mount)
        with open(self.image, "wb") as file:
            file.truncate(256 << 20)
        call("mkfs.ext4", "-q", self.image)
        self.on()

    def on(self):
        call("mount", "-o", "loop", self.image, self.mount)

    def cut(self):
        directory = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(directory)

    def off(self):
        call("umount", self.mount)

    def copy(self):
        """Keeps what is on the device now, beside the image, until the next copy; mounting changes it."""
        call("cp", "--sparse=always", self.image, f"{self.image}.cut")


def keep(disk, seed, cut, moment, lines, problem):
    """Returns a directory with all that is needed to find out why."""
    kept = tempfile.mkdtemp(prefix="source-amqp-powercut.", dir="/var/tmp")
    shutil.move(f"{disk.image}.cut", f"{kept}/image")
    with open(f"{kept}/words", "w", encoding="utf-8") as file:
        file.write(f"seed {seed}, cut {cut}, at {moment} ns of the monotonic clock: {problem}\n\n")
        file.writelines(f"{line}\n" for line in lines)
    return kept


def main():
    parser = argparse.ArgumentParser(prog="scripts/powercut", description="Cuts the power of a journal's disk.")
    parser.add_argument("--cuts", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the messages and of the moments (1)")
    parser.add_argument("--control", action="store_true", help="do not sync commits; something must be missing")
    parser.add_argument("--first", action="store_true", help="end at the first cut with something missing")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    binary = os.environ["JOURNAL_WRITER"]
    disk = Disk(os.environ["WORK_DIRECTORY"])
    journal, begin = f"{disk.mount}/journal.db", time.monotonic()
    word, missing, reported, kept, late, cut = Word(), 0, 0, 0, 0, 0
    try:
        for cut in range(1, arguments.cuts + 1):
            before = word.last
            command = [binary, "write", journal, str(rng.randrange(1 << 60)), "1000000"]
            writer = subprocess.Popen(command + (["normal"] if arguments.control else []), stdout=subprocess.PIPE,
                                      text=True)
            started = threading.Event()
            lines = []

            def listen():
                for line in writer.stdout:
                    lines.append(line.rstrip("\n"))
                    # Some cuts fall into opening, the others into writing.
                    if " last " in line:
                        started.set()

            listener = threading.Thread(target=listen)
            listener.start()
            if rng.random() < 0.85:
                started.wait(60)
            time.sleep(rng.random() * 0.25)
            moment = time.monotonic_ns()
            disk.cut()
            writer.kill()
            writer.wait()
            listener.join()
            disk.off()
            disk.copy()
            disk.on()
            heard = Word(word.last, word.committed)
            for line in lines:
                heard.hear(line, before=moment)
                word.hear(line)
            try:
                last, committed = check(binary, journal, heard)
            except AssertionError as problem:
                missing += 1
                print(f"cut {cut:4}: {problem}", flush=True)
                if not arguments.control:
                    kept = keep(disk, arguments.seed, cut, moment, lines, problem)
                    sys.exit(f"FAILED: seed {arguments.seed}, cut {cut}; disk and words kept in {kept}")
                for name in os.listdir(disk.mount):
                    if name.startswith("journal.db"):
                        os.unlink(f"{disk.mount}/{name}")
                word = Word()
                if arguments.first:
                    break
                continue
            reported += heard.last - before
            kept += last - before
            late += last < word.last or committed < word.committed
            word = Word(last, committed)
    finally:
        disk.off()
    print(f"{cut} power cuts, seed {arguments.seed}: {reported} messages reported as safe, {kept} found, "
          f"{missing} cuts with something missing, {late} with a late word, {time.monotonic() - begin:.1f} s")
    if arguments.control and missing == 0:
        sys.exit("FAILED: without syncing nothing was missing, so this test finds nothing")


if __name__ == "__main__":
    main()
