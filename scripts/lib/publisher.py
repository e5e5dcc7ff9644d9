"""Publishes to a broker on command: one JSON object a line on stdin, one answer a line on stdout.

The tests' counterpart of the connector is pika, a client that shares no code with it. Every publish is confirmed: an
answer without "error" means that the broker has the messages. Broker and credentials come from the variables of
`scripts/broker env`. An answer is {"ok": …}, or {"error": TEXT, "code": AMQP reply code or 0}; after an error the next
command works on a fresh channel, and where need be on a fresh connection.

  {"op": "declare", "queue": …, "durable": true, "exclusive": false, "auto_delete": false, "passive": false,
   "arguments": {…}}                                          → {"messages": ready, "consumers": …}
  {"op": "queue_info", "queue": …}                            → the same, or {"missing": true}
  {"op": "exchange_declare", "exchange": …, "type": "topic", "durable": false, "arguments": {…}}
  {"op": "bind" or "unbind", "queue": …, "exchange": …, "routing_key": …, "arguments": {…}}
  {"op": "purge", "queue": …} → {"messages": …}   {"op": "delete", "queue": …}   {"op": "exchange_delete", …}
  {"op": "publish", "exchange": "", "routing_key": …, "properties": {…}, "body": text or {"b64": …}, "count": 1}
                                                              → {"routed": how many the broker could route}
  {"op": "publish_many", "exchange": "", "routing_key": …, "count": …, "kind": "mixed", "simple", "few", …, "seed": 1,
   "prefix": "m", "start": 1, "size": 200, "expiration": …}   → the same; ids PREFIX-NNNNNNN from `start` on
  {"op": "undeliverable", "queue": …}                         publishes, over AMQP 1.0, what RabbitMQ 4 can't send over 0-9-1
  {"op": "publish_entries", "stream": …, "entries": […]}      publishes by the stream protocol: see streams.py
  {"op": "get", "queue": …, "count": 1, "settle": "ack", "requeue", "reject" or "hold"}  → {"messages": [{…}]}
  {"op": "close"}                                             ends the connection (held messages go back)
"""

import base64
import json
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pika  # noqa: E402
from fields import RawProperties, octets, property_block  # noqa: E402
import messages  # noqa: E402

decode_table = pika.data.decode_table


def tolerant_decode_table(encoded, offset):
    """pika's own, but a table that it cannot represent (a timestamp beyond time_t) is {} and no lost connection."""
    try:
        return decode_table(encoded, offset)
    except Exception:
        return {}, offset + 4 + struct.unpack_from(">I", encoded, offset)[0]


pika.data.decode_table = tolerant_decode_table

# Unconfirmed messages at a time: enough to keep the broker busy, few enough to bound memory.
WINDOW = 2000


def known_ports():
    """The ports of the broker that the environment names; of a cluster several."""
    return [int(port) for port in os.environ.get("SOURCE_AMQP_TEST_PORTS", os.environ["SOURCE_AMQP_TEST_PORT"]).split(",")]


class Publisher:
    def __init__(self):
        self.connection = None
        self.topology = None
        self.out = None
        self.unconfirmed = set()
        self.refused = self.returned = 0
        self.next_tag = 1
        self.later = self.sender = None

    def connected(self):
        """Makes sure of an open connection; notices first what the broker did to the old one meanwhile."""
        if self.connection is not None and self.connection.is_open:
            try:
                self.connection.process_data_events(0)
            except pika.exceptions.AMQPError:
                pass
        if self.connection is None or not self.connection.is_open:
            environ = os.environ
            self.topology = self.out = None
            # Of a cluster, the first node that answers.
            self.connection = pika.BlockingConnection([pika.ConnectionParameters(
                host=environ["SOURCE_AMQP_TEST_HOST"], port=port,
                virtual_host=environ["SOURCE_AMQP_TEST_VHOST"], heartbeat=0, client_properties={"product": "tests"},
                credentials=pika.PlainCredentials(
                    environ["SOURCE_AMQP_TEST_USER"], environ["SOURCE_AMQP_TEST_PASSWORD"])) for port in known_ports()])
        return self.connection

    def channel(self):
        connection = self.connected()
        if self.topology is None or not self.topology.is_open:
            self.topology = connection.channel()
        return self.topology

    def publishing_channel(self):
        """A channel in confirm mode, used below pika's blocking layer, which would wait for each message alone."""
        connection = self.connected()
        if self.out is None or not self.out.is_open:
            self.out = connection.channel()
            self.unconfirmed, self.next_tag = set(), 1
            selected = []
            self.out._impl.add_on_return_callback(self.on_return)
            self.out._impl.confirm_delivery(self.on_confirm, callback=selected.append)
            self.wait(lambda: selected)
        return self.out

    def on_return(self, *_):
        self.returned += 1

    def on_confirm(self, frame):
        method = frame.method
        if method.multiple:
            settled = {tag for tag in self.unconfirmed if tag <= method.delivery_tag}
        else:
            settled = {method.delivery_tag}
        if isinstance(method, pika.spec.Basic.Nack):
            self.refused += len(settled)
        self.unconfirmed -= settled

    def wait(self, done):
        """Runs the connection until `done()` is true or the channel is gone, which it reports as an error; so is a broker that
        does not answer for a minute, as one whose nodes have lost each other may."""
        late = []
        timer = self.connection.call_later(60, lambda: late.append(True))
        try:
            self.connection._flush_output(lambda: done() or late or not self.out.is_open)
        finally:
            self.connection.remove_timeout(timer)
        if late and not done():
            # Nor may it answer to a close.
            self.connection = None
            raise TimeoutError("no confirmation within a minute")
        if not self.out.is_open:
            raise self.out._closing_reason or pika.exceptions.ChannelClosed(0, "channel closed")

    def send(self, exchange, routing_key, contents):
        """Publishes (properties, body) pairs, or (properties, body, exchange, routing key), and waits until the broker
        confirmed them all."""
        channel = self.publishing_channel()
        self.refused = self.returned = 0
        count = 0
        for properties, body, *route in contents:
            block = RawProperties(property_block(properties))
            channel._impl.basic_publish(*(route or (exchange, routing_key)), body, block, mandatory=True)
            self.unconfirmed.add(self.next_tag)
            self.next_tag += 1
            count += 1
            if len(self.unconfirmed) >= WINDOW:
                self.wait(lambda: len(self.unconfirmed) < WINDOW // 2)
        self.wait(lambda: not self.unconfirmed)
        if self.refused:
            raise RuntimeError(f"the broker refused {self.refused} messages")
        return {"routed": count - self.returned}

    # Commands: one method an "op", its members as parameters.

    def declare(self, queue, passive=False, durable=True, exclusive=False, auto_delete=False, arguments=None):
        method = self.channel().queue_declare(queue, passive, durable, exclusive, auto_delete, arguments).method
        return {"messages": method.message_count, "consumers": method.consumer_count}

    def queue_info(self, queue):
        try:
            return self.declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return {"missing": True}
            raise

    def exchange_declare(self, exchange, type="topic", durable=False, arguments=None):
        self.channel().exchange_declare(exchange, type, durable=durable, arguments=arguments)

    def exchange_delete(self, exchange):
        self.channel().exchange_delete(exchange)

    def bind(self, queue, exchange, routing_key="", arguments=None):
        self.channel().queue_bind(queue, exchange, routing_key, arguments)

    def unbind(self, queue, exchange, routing_key="", arguments=None):
        self.channel().queue_unbind(queue, exchange, routing_key, arguments)

    def purge(self, queue):
        return {"messages": self.channel().queue_purge(queue).method.message_count}

    def delete(self, queue):
        self.channel().queue_delete(queue)

    def publish(self, routing_key, exchange="", properties=None, body="", count=1):
        content = (properties or {}, octets(body))
        return self.send(exchange, routing_key, (content for _ in range(count)))

    def publish_shapes(self, queue, count, kind, seed, start, prefix="m"):
        """Messages of every shape, in order; those of AMQP 1.0 through a connection of its own."""
        batch, routed = [], 0
        for number in range(start, start + count):
            message = messages.message(seed, kind, prefix, number, queue)
            if message.protocol == "1.0":
                # Confirmed, so that it stands after those before it.
                routed += self.send("", queue, batch)["routed"] if batch else 0
                batch = []
                self.send_later(queue, message)
                routed += 1
            else:
                batch.append((message.properties, message.body, message.exchange, message.routing_key))
        routed += self.send("", queue, batch)["routed"] if batch else 0
        return {"routed": routed}

    def connect_later(self, queue):
        """Opens a connection and a sender over AMQP 1.0, once. https://www.rabbitmq.com/docs/amqp"""
        # Debian's package; it is not among those of the virtual environment.
        if "/usr/lib/python3/dist-packages" not in sys.path:
            sys.path.append("/usr/lib/python3/dist-packages")
        from proton.utils import BlockingConnection
        if self.later is None:
            environ = os.environ
            self.later = BlockingConnection(
                f"amqp://{environ['SOURCE_AMQP_TEST_USER']}:{environ['SOURCE_AMQP_TEST_PASSWORD']}@"
                f"{environ['SOURCE_AMQP_TEST_HOST']}:{environ['SOURCE_AMQP_TEST_PORT']}",
                allowed_mechs="PLAIN", heartbeat=0)
            self.sender = self.later.create_sender(f"/queues/{queue}")

    def undeliverable(self, queue):
        """Publishes a message over AMQP 1.0 that RabbitMQ 4 can't send over 0-9-1: it has a decimal."""
        self.connect_later(queue)
        from proton import Message, decimal32
        self.sender.send(Message(body=b"odd", durable=True, inferred=True, properties={"d": decimal32(5)}))
        return {}

    def publish_entries(self, stream, entries):
        import streams  # Only where it is asked for: few need what it needs.
        streams.publish(stream, entries)
        return {}

    def send_later(self, queue, message):
        """Publishes one message over AMQP 1.0, and waits until the broker has it."""
        self.connect_later(queue)
        from proton import Message
        properties = message.properties
        self.sender.send(Message(
            body=message.body, inferred=True, durable=True, id=properties["message_id"],
            content_type=properties["content_type"]))

    def publish_many(self, routing_key, count, exchange="", kind="mixed", seed=1, prefix="m", start=1, size=200,
                     expiration=None):
        def contents():
            for number in range(start, start + count):
                base = kind.removeprefix("plain-")
                if base == "mixed" or base in messages.POOLS:
                    content = messages.mixed(
                        seed, prefix, messages.original(seed, base, number), plain=base != kind)
                elif kind == "simple":
                    content = messages.simple(seed, prefix, number, size)
                else:
                    raise ValueError(f"no kind of messages {kind!r}")
                content[0]["expiration"] = expiration
                yield content
        return self.send(exchange, routing_key, contents())

    def get(self, queue, count=1, settle="ack"):
        channel, found = self.channel(), []
        for _ in range(count):
            method, properties, body = channel.basic_get(queue)
            if method is None:
                break
            if settle == "ack":
                channel.basic_ack(method.delivery_tag)
            elif settle in ("requeue", "reject"):
                channel.basic_reject(method.delivery_tag, requeue=settle == "requeue")
            found.append({
                "body": base64.b64encode(body).decode(), "message_id": properties.message_id,
                "redelivered": method.redelivered, "exchange": method.exchange, "routing_key": method.routing_key})
        return {"messages": found}

    def close(self):
        if self.connection is not None and self.connection.is_open:
            self.connection.close()


COMMANDS = {
    "declare", "queue_info", "exchange_declare", "exchange_delete", "bind", "unbind", "purge", "delete", "publish",
    "publish_many", "undeliverable", "publish_entries", "get", "close",
}


def answer(publisher, line):
    try:
        command = json.loads(line)
        operation = command.pop("op")
        if operation not in COMMANDS:
            raise ValueError(f"no operation {operation!r}")
        return {"ok": getattr(publisher, operation)(**command) or {}}
    except Exception as error:  # The caller decides what an error means: here it is one more answer.
        code = getattr(error, "reply_code", 0) or 0
        text = getattr(error, "reply_text", "") or str(error)
        return {"error": f"{type(error).__name__}: {text}", "code": code}


def main():
    publisher = Publisher()
    for line in sys.stdin:
        print(json.dumps(answer(publisher, line), default=repr), flush=True)
    try:
        publisher.close()
    except pika.exceptions.AMQPError:
        pass


if __name__ == "__main__":
    main()
