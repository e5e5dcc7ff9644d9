"""A cluster of private brokers (scripts/broker start DIR --cluster N), and what happens to clusters."""

import re
import subprocess
import time

# Seconds for a step that takes a few on an idle machine.
PATIENCE = 180


class Cluster:
    """Nodes are numbered from 1, as their directories are."""

    def __init__(self, directory):
        self.directory = directory
        with open(f"{directory}/nodes", encoding="utf-8") as file:
            self.numbers = list(range(1, int(file.read()) + 1))
        self.names, self.ports = {}, {}
        for number in self.numbers:
            with open(f"{directory}/{number}/env", encoding="utf-8") as file:
                env = file.read()
            self.names[number] = re.search(r"TEST_NODE=(\S+)", env).group(1)
            self.ports[number] = int(re.search(r"TEST_PORT=(\d+)", env).group(1))

    def broker(self, command, number, *arguments):
        result = subprocess.run(
            ["scripts/broker", command, f"{self.directory}/{number}", *arguments], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=PATIENCE)
        if result.returncode != 0:
            raise RuntimeError(f"scripts/broker {command} of node {number}: {result.stderr}{result.stdout}")
        return result.stdout

    def eval(self, number, text):
        return self.broker("ctl", number, "eval", text)

    def leader(self, queue):
        """The number of the node that has the queue's leader; any one's where that is not known."""
        rows = self.broker("ctl", self.numbers[0], "list_queues", "name", "pid")
        found = re.search(rf"^{re.escape(queue)}\t<([^.>]+@[^.>]+)\.", rows, re.MULTILINE)
        return next((number for number in self.numbers if found and self.names[number] == found.group(1)), self.numbers[0])

    def at(self, port):
        """The number of the node with this port."""
        return next((number for number in self.numbers if self.ports[number] == port), self.numbers[0])

    def down(self, numbers, seconds):
        """These nodes are killed, and start again some time later."""
        for number in numbers:
            self.broker("kill", number)
        time.sleep(seconds)
        # At once: the first alone might wait for the others.
        starting = [subprocess.Popen(
            ["scripts/broker", "start", f"{self.directory}/{number}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL) for number in numbers]
        if any(process.wait(PATIENCE) for process in starting):
            raise RuntimeError(f"nodes {numbers} did not start again")

    def rolling(self):
        """Each node is restarted in order."""
        for number in self.numbers:
            self.broker("restart", number)

    def apart(self, number, seconds):
        """The node loses the others: for a moment, or again and again for some seconds."""
        once = "[erlang:disconnect_node(N) || N <- nodes()]"
        if seconds:
            once = f"[begin {once}, timer:sleep(20) end || _ <- lists:seq(1, {int(seconds * 50)})]"
        self.eval(number, f"spawn(fun() -> {once} end), ok.")
        time.sleep(seconds)
