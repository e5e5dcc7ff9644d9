"""The demonstration's play: publishes, captures, looks, kills, compares. Run by scripts/demo, which sets the stage."""

import datetime
import decimal
import gzip
import json
import os
import subprocess
import sys
import threading

import pika

from runtime import Runtime

EXCHANGE = "amq.topic"


def say(text):
    print(f"\n== {text}", flush=True)


def connect():
    environ = os.environ
    connection = pika.BlockingConnection(pika.ConnectionParameters(
        environ["SOURCE_AMQP_TEST_HOST"], int(environ["SOURCE_AMQP_TEST_PORT"]), heartbeat=0))
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def order(number):
    return {"order": number, "customer": "Ada Café", "total": 1234567890.10, "lines": [{"sku": "A-17", "quantity": 2}]}


def various():
    """Messages of several kinds, as applications send them: (routing key, body, properties)."""
    yield "orders.new", json.dumps(order(1), ensure_ascii=False).encode(), pika.BasicProperties(
        content_type="application/json", message_id="various-1", delivery_mode=2, app_id="shop", priority=5,
        timestamp=1767607200, correlation_id="basket-88", headers={
            "retries": 3, "big": 9007199254740993, "express": True, "price": decimal.Decimal("12.50"),
            "placed": datetime.datetime(2026, 1, 5, 10, 0, 0), "nothing": None, "raw": b"\x00\xff",
            "route": ["depot", 7], "address": {"city": "Zürich", "floor": 4}})
    yield "orders.note", "Please ring twice – merci!".encode(), pika.BasicProperties(
        content_type="text/plain", message_id="various-2")
    yield "orders.label", bytes([0x89, 0x50, 0x4E, 0x47, 0, 255]), pika.BasicProperties(
        content_type="image/png", message_id="various-3")
    yield "orders.batch", gzip.compress(json.dumps([order(2), order(3)]).encode()), pika.BasicProperties(
        content_type="application/json", content_encoding="gzip", message_id="various-4")
    yield "orders.empty", b"", pika.BasicProperties(message_id="various-5")


def shortened(value):
    """A document for the screen: long strings cut, so that all of its fields fit."""
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    if isinstance(value, str) and len(value) > 60:
        return value[:57] + "..."
    return value


def sqlite(journal, statement, mode="-box"):
    print(f"$ sqlite3 {mode} journal.db '{statement}'")
    print(subprocess.run(
        ["sqlite3", "-readonly", mode, journal, statement], check=True, capture_output=True, text=True).stdout,
        end="", flush=True)


def publish_orders(channel, count):
    for number in range(1, count + 1):
        channel.basic_publish(EXCHANGE, "orders.new", json.dumps(order(number)).encode(), pika.BasicProperties(
            content_type="application/json", message_id=f"order-{number:05}", delivery_mode=2))


def main():
    journal = os.environ["WORK_DIRECTORY"] + "/journal.db"
    config = {
        "host": os.environ["SOURCE_AMQP_TEST_HOST"], "port": int(os.environ["SOURCE_AMQP_TEST_PORT"]),
        "queue": {"name": "orders"}, "bindings": [{"exchange": EXCHANGE, "routing_key": "orders.#"}],
        "consumer": {"prefetch_count": 500, "exclusive": True}, "journal": {"path": journal}}
    say("The endpoint configuration; the rest is defaults")
    print(json.dumps(config, indent=2))
    runtime = Runtime(os.environ["SOURCE_AMQP_BINARY"], config, log_path=os.environ["WORK_DIRECTORY"] + "/log")

    say("Flow's Apply: the connector declares its queue and bindings")
    print(runtime.apply() or "(nothing to do)")

    say("Flow's Open: a capture session starts; five messages are published with pika, of all kinds")
    runtime.start()
    channel = connect()
    count = 0
    for key, body, properties in various():
        channel.basic_publish(EXCHANGE, key, body, properties)
        count += 1
    runtime.wait(lambda: len(runtime.committed) == count, f"{count} documents")
    for document in runtime.committed:
        print(json.dumps(shortened(document), indent=2, ensure_ascii=False))

    orders = 3000
    say(f"Flow stops committing; {orders} orders are published meanwhile. The broker's side goes on: what the journal\n"
        "   has is acknowledged to the broker")
    runtime.hold(commits=True)
    before = runtime.read
    publisher = threading.Thread(target=publish_orders, args=(channel, orders))
    publisher.start()
    runtime.wait(lambda: runtime.read >= before + orders // 5, "documents")
    sqlite(journal, "SELECT sequence, received_at, routing_key, message_id, state FROM pending LIMIT 5")
    sqlite(journal, "SELECT * FROM summary", "-line")

    say("kill -9, in the middle of it")
    runtime.kill()
    print(f"documents that Flow had read and not committed, discarded with the session: {runtime.read - before}")
    sqlite(journal, "SELECT state, count(*) FROM pending GROUP BY state")

    say("The connector starts again with the last committed state; Flow commits again")
    runtime.hold()
    runtime.start()
    publisher.join()
    runtime.wait(lambda: len({identity(d) for d in runtime.committed[count:]}) >= orders, "all orders", seconds=120)
    runtime.wait(lambda: not runtime.owed, "the last acknowledgement")
    status = runtime.stop()
    seen = {identity(document) for document in runtime.committed[count:]}
    lost, repeated = orders - len(seen), len(runtime.committed) - count - len(seen)
    print(f"published {orders}, distinct orders committed {len(seen)}, lost {lost}, repeated {repeated}, "
          f"exit status {status}")
    sqlite(journal, "SELECT * FROM summary", "-line")
    sys.exit(1 if lost or repeated or status else 0)


def identity(document):
    return document["properties"]["message_id"]


if __name__ == "__main__":
    main()
