"""What the parts of scripts/bench share: the private broker, the connector's configuration, running a program."""

import json
import os
import subprocess
import time

import pika

ENVIRON = os.environ
HERE = ENVIRON["BENCH_PROGRAMS"]
WORK = ENVIRON["WORK_DIRECTORY"]
CONNECTOR = ENVIRON["SOURCE_AMQP_BINARY"]
HERTZ = os.sysconf("SC_CLK_TCK")


class Broker:
    """Queues of the private broker, and the CPU that it has used."""

    def __init__(self):
        self.pid = int(open(f"{ENVIRON['SOURCE_AMQP_TEST_BROKER_DIR']}/beam.pid", encoding="ascii").read())

    def channel(self):
        return pika.BlockingConnection(pika.URLParameters(ENVIRON["SOURCE_AMQP_TEST_URL"])).channel()

    def declare(self, queues, exchange):
        channel = self.channel()
        channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
        for queue in queues:
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, exchange)
        channel.connection.close()

    def delete(self, queues):
        channel = self.channel()
        for queue in queues:
            channel.queue_delete(queue)
        channel.connection.close()

    def consumers(self, queue):
        channel = self.channel()
        found = channel.queue_declare(queue, passive=True).method.consumer_count
        channel.connection.close()
        return found

    def publish(self, exchange, count, size, rate=None):
        further = [str(rate)] if rate else []
        subprocess.run([f"{HERE}/load", exchange, str(count), str(size), *further], check=True, timeout=600)

    def cpu(self):
        """Seconds of user and system time."""
        fields = open(f"/proc/{self.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ

    def collect_garbage(self):
        """Once queues are loaded: else their processes do it with all that they hold, during one drain or another."""
        subprocess.run(
            ["scripts/broker", "ctl", ENVIRON["SOURCE_AMQP_TEST_BROKER_DIR"], "force_gc"],
            check=True, stdout=subprocess.DEVNULL, timeout=120)

    def settle(self, seconds=30):
        """Waits until the broker rests and nothing is left to be written, at most so many seconds.

        For some seconds behind a load or a drain it writes and tidies up, and whatever is drained meanwhile takes twice
        its time: the one of two that comes first.
        """
        os.sync()
        deadline = time.monotonic() + seconds
        before, quiet = self.cpu(), 0
        while quiet < 5 and time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.cpu()
            quiet = quiet + 1 if now - before < 0.02 else 0
            before = now


def configuration(queue, prefetch, **further):
    return {
        "host": ENVIRON["SOURCE_AMQP_TEST_HOST"], "port": int(ENVIRON["SOURCE_AMQP_TEST_PORT"]),
        "queue": {"name": queue, "declare": "none"}, "consumer": {"prefetch_count": prefetch, "exclusive": True},
        **further}


def requests(path, config):
    """Writes what the runtime sends first: spec and open."""
    binding = {
        "resourceConfig": {"stream": "orders"}, "resourcePath": ["orders"], "stateKey": "orders.v0",
        "collection": {"name": "acmeCo/orders", "key": ["/session_id", "/sequence"], "uuidPtr": "/_meta/uuid"}}
    lines = [
        {"spec": {"connectorType": "LOCAL", "config": {}}},
        {"open": {
            "capture": {"name": "acmeCo/source-amqp", "connectorType": "LOCAL", "config": config,
                        "bindings": [binding], "intervalSeconds": 300},
            "version": "0123456789abcdef", "state": {}, "range": {"keyEnd": 4294967295, "rClockEnd": 4294967295}}}]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def run(command, output=None, seconds=300):
    """Runs a program; the JSON objects that it printed to stderr as one."""
    with open(output or os.devnull, "wb") as file:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, timeout=seconds,
            env=dict(ENVIRON, LOG_LEVEL="error"), check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}: {done.stderr.decode()[-2000:]}")
    found = {}
    for line in done.stderr.decode().splitlines():
        if line.startswith("{") and '"level"' not in line:
            found.update(json.loads(line))
    return found


def remove_journal(name="journal"):
    for suffix in ("", "-wal", "-shm", ".lock"):
        if os.path.exists(f"{WORK}/{name}.db{suffix}"):
            os.remove(f"{WORK}/{name}.db{suffix}")
