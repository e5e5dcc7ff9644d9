"""When messages come, how long the runtime's commits take, and when a kill falls, as drawn from a seed.

What repeats messages is rhythm as much as kills: a queue that rests is settled, and a kill or a lost acknowledgement in the
middle of that is another matter than one under load.
"""

import time

# Seconds that the agent lets a queue rest before it settles it, and between its two questions after the acknowledgement.
REST, PAUSE = 0.5, 1.0
# How far from a moment an aimed kill falls, in seconds.
SPREAD = 0.02
# Seconds that a commit of the runtime takes.
COMMITS = [0, 0, 0.05, 0.3, 0.6, 1, 2]

GAPS = {
    # Seconds between two bursts: none, or between the first and the second number; and the largest burst, in bursts.
    "steady": (0, 0, 1), "bursts": (0.2, 1.6, 4), "trickle": (0.3, 1.4, 0), "silence": (None, None, 1)}


def draw(rng, load, burst):
    """A new rhythm of a load; returns its name."""
    name = rng.choice(list(GAPS))
    shortest, longest, bursts = GAPS[name]
    load.pace(shortest, longest, max(1, burst * bursts))
    return name


class Rhythm:
    """Draws what one fault and the time before it are like."""

    def __init__(self, rng, load, burst, commits):
        """- commits: seconds that commits take, to draw from."""
        self.rng, self.load, self.burst, self.commits = rng, load, burst, commits
        self.name = "steady"

    def draw(self, runtime):
        """A new rhythm, from now on."""
        self.name = draw(self.rng, self.load, self.burst)
        runtime.combine(self.rng.choice(self.commits))

    def wait(self, runtime):
        """Until the fault: some time after something came, in which the queue may have come to rest."""
        wait_for(runtime, lambda before=runtime.captured: runtime.captured > before, 1)
        time.sleep(self.rng.uniform(0, 3) if self.name != "steady" else self.rng.uniform(0, 0.3))

    def aim(self, runtime):
        """Publishes a few, lets them be captured, and waits for a moment of the settling that follows; returns its name."""
        self.load.pace(0, 0, self.burst)
        interval = self.rng.choice(self.commits)
        runtime.combine(interval)
        count = self.load.confirmed.value + self.rng.randint(1, 40)
        self.load.allow(count)
        wait_for(runtime, lambda: self.load.confirmed.value >= count, 20)
        self.load.pace(None, None, 1)
        wait_for(runtime, lambda: runtime.captured >= self.load.confirmed.value, 20)
        last = time.monotonic()
        moments = ["rest", "ask"]
        if hasattr(runtime, "moments"):
            moments += ["checkpoint", "commit", "ask after commit", "second checkpoint", "second commit"]
            with runtime.changed:
                runtime.moments.clear()
        name = self.rng.choice(moments)
        offset = self.rng.uniform(-SPREAD, SPREAD)
        if name in ("rest", "ask"):
            rest(last + REST + (PAUSE if name == "ask" else 0) + offset)
        else:
            kind = "commit" if "commit" in name else "checkpoint"
            number = 2 if name.startswith("second") else 1

            def times():
                return [at for what, at in runtime.moments if what == kind]
            wait_for(runtime, lambda: len(times()) >= number, 8 + 2 * interval)
            if found := times()[number - 1:number]:
                rest(found[0] + (PAUSE + offset if name.startswith("ask") else abs(offset)))
        return f"{name}, commits of {interval} s"


def rest(until):
    """Sleeps until a time of time.monotonic()."""
    time.sleep(max(0, until - time.monotonic()))


def wait_for(runtime, condition, seconds):
    """Waits until `condition` holds, but not for ever: nothing may come."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline and not runtime.ended:
        with runtime.changed:
            runtime.changed.wait(0.005)
