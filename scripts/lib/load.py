"""Publishes all the time, from a process of its own, and never runs further ahead of the consumer than it is allowed to."""

import multiprocessing
import random
import time

from publisher import Publisher


class Load:
    """Messages 1, 2, 3 … of a seed to one queue, in small bursts, each confirmed, until the end.

    What a fault left without a confirmation is `uncertain`: it may be in the queue or not, and is not published again.
    """

    def __init__(self, queue, kind, seed, burst):
        context = multiprocessing.get_context("fork")
        # How many messages may be published so far, how many were tried, and how many of them the broker confirmed.
        self.limit, self.tried, self.confirmed = (context.Value("q", 0, lock=False) for _ in range(3))
        # Seconds between two bursts, drawn between these; negative to publish nothing. And the largest burst.
        self.shortest, self.longest = (context.Value("d", 0, lock=False) for _ in range(2))
        self.burst = context.Value("q", burst, lock=False)
        self.over = context.Event()
        # Held during every burst: who has it sees no message on its way to the broker.
        self.lock = context.Lock()
        self.results, results = context.Pipe(duplex=False)
        self.process = context.Process(target=self.run, args=(queue, kind, seed, results), daemon=True)

    def start(self):
        self.process.start()

    def allow(self, count):
        self.limit.value = max(self.limit.value, count)

    def pace(self, shortest, longest, burst):
        """From now on so many seconds lie between two bursts of at most `burst` messages; None for a silence."""
        self.burst.value = burst
        self.longest.value = -1 if longest is None else longest
        self.shortest.value = -1 if shortest is None else shortest

    def gap(self, rng):
        """Waits until the next burst may be."""
        begin, part = time.monotonic(), rng.random()
        while not self.over.is_set():
            shortest, longest = self.shortest.value, self.longest.value
            if shortest >= 0 and time.monotonic() - begin >= shortest + part * (longest - shortest):
                return
            time.sleep(0.002)

    def run(self, queue, kind, seed, results):
        rng, publisher, uncertain = random.Random(f"load/{seed}"), Publisher(), []
        number = 1
        while not self.over.is_set():
            room = self.limit.value + len(uncertain) - number + 1
            if room <= 0:
                time.sleep(0.0005)
                continue
            try:
                publisher.publishing_channel()
            except Exception:  # Nothing was sent yet.
                publisher = Publisher()
                time.sleep(0.05)
                continue
            if self.longest.value:
                self.gap(rng)
            count = min(room, rng.randint(1, self.burst.value))
            with self.lock:
                self.tried.value = number + count - 1
                try:
                    if kind.startswith("shapes"):
                        publisher.publish_shapes(queue, count, kind, seed, number)
                    else:
                        publisher.publish_many(queue, count, kind=kind, seed=seed, start=number)
                    self.confirmed.value += count
                except Exception:  # Whatever it was: the broker, or the way to it, is not what it was.
                    uncertain += range(number, number + count)
                    publisher = Publisher()
            number += count
            if rng.random() < 0.2:
                time.sleep(rng.random() * 0.004)
        publisher.close()
        results.send(uncertain)

    def end(self, seconds=300):
        """Publishes no more; returns how many messages there are, and the numbers of the uncertain ones."""
        self.over.set()
        if not self.results.poll(seconds):
            raise RuntimeError(f"the publisher does not end within {seconds} s")
        uncertain = self.results.recv()
        self.process.join()
        return self.tried.value, uncertain
