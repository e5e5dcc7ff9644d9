"""Messages of mixed kinds from a seed: what the crash test and the tests publish by the thousand.

Message n of a seed is the same wherever it is made. Those of the kind `mixed` have a unique message_id, PREFIX-NNNNNNN, and a header
`digest`: the SHA-256 of the bytes that a document's body_raw has to stand for (of the decoded bytes where the body is
compressed), so that a captured document can be checked without knowing what was sent.
"""

import base64
import dataclasses
import gzip
import hashlib
import json
import random
import zlib

WORDS = "order invoice payment café straße 注文 🚚 parcel refund customer quote stock route depot".split()


def text(random, words):
    return " ".join(random.choice(WORDS) for _ in range(words))


def header(random, depth=0):
    """A typed field value (see fields.py) of any kind."""
    kind = random.choice("tbBsuIildfDTVSSxAF" if depth < 3 else "tIlS")
    if kind in "bBsuIil":
        bits = {"b": 8, "B": 8, "s": 16, "u": 16, "I": 32, "i": 32, "l": 64}[kind]
        low = 0 if kind in "Bui" else -(1 << (bits - 1))
        return {"t": kind, "v": random.randint(low, low + (1 << bits) - 1)}
    if kind == "t":
        return {"t": kind, "v": random.random() < 0.5}
    if kind in "df":
        return {"t": kind, "v": random.choice([0.5, -1.25e10, 1 / 3, -0.0])}
    if kind == "D":
        return {"t": kind, "v": {"scale": random.randint(0, 9), "value": random.randint(-(1 << 31), (1 << 31) - 1)}}
    if kind == "T":
        return {"t": kind, "v": random.randint(0, 2_000_000_000)}
    if kind == "S":
        return {"t": kind, "v": text(random, random.randint(0, 6))}
    if kind == "A":
        return {"t": kind, "v": [header(random, depth + 1) for _ in range(random.randint(0, 3))]}
    if kind == "F":
        return {"t": kind, "v": headers(random, random.randint(0, 3), depth + 1)}
    if kind == "x":
        return {"t": "raw", "b64": "eAAAAAT//gCA"}  # x, length 4, four octets that are no UTF-8.
    return {"t": "V"}


def headers(random, count, depth=0):
    return [[f"{random.choice(WORDS)}-{n}", header(random, depth)] for n in range(count)]


def body(random):
    """The body, its content type, its content encoding, and the bytes it stands for."""
    kind = random.choices(
        ["object", "array", "text", "scalar", "binary", "empty", "gzip", "deflate", "broken gzip", "large"],
        [30, 5, 20, 5, 15, 5, 10, 5, 4, 1])[0]
    record = {"id": random.randint(1, 1 << 62), "total": random.random() * 1e6, "note": text(random, 8), "tags": []}
    data, content_type, encoding = b"", random.choice([None, "application/octet-stream"]), None
    if kind == "object":
        data, content_type = json.dumps(record, ensure_ascii=random.random() < 0.5).encode(), "application/json"
    elif kind == "array":
        data, content_type = json.dumps([record, None, True]).encode(), None
    elif kind == "text":
        data, content_type = text(random, random.randint(1, 60)).encode(), "text/plain"
    elif kind == "scalar":
        data, content_type = random.choice([b"42", b'"x"', b"true", b"1e400", b"-0"]), "application/json"
    elif kind == "binary":
        data = random.randbytes(random.randint(1, 400))
    elif kind == "large":
        data, content_type = text(random, 20_000).encode(), "text/plain"
    if kind in ("gzip", "deflate"):
        plain = json.dumps(record).encode()
        packed = gzip.compress(plain, mtime=0) if kind == "gzip" else zlib.compress(plain)
        return packed, "application/json", kind, plain
    if kind == "broken gzip":
        data, encoding = b"\x1f\x8bnot gzip at all", "gzip"
    return data, content_type, encoding, data


def mixed(seed, prefix, number, plain=False):
    """Message `number` of `seed`: (properties for fields.property_block, body). With `plain` it has no headers but the
    digest: a stream of RabbitMQ 3.10 closes the connection (541) over some types."""
    rng = random.Random(f"{seed}/{number}")
    data, content_type, encoding, octets = body(rng)
    properties = {
        "message_id": f"{prefix}-{number:07}",
        "content_type": content_type,
        "content_encoding": encoding,
        "delivery_mode": 2,
        "headers": [["digest", {"t": "S", "v": hashlib.sha256(octets).hexdigest()}]],
    }
    others = headers(rng, rng.randint(0, 4))
    if not plain:
        properties["headers"] += others
    for name in ("correlation_id", "reply_to", "type", "app_id"):
        if rng.random() < 0.2:
            properties[name] = text(rng, 2)
    if rng.random() < 0.5:
        properties["timestamp"] = rng.randint(0, 2_000_000_000)
    return properties, data


# How many different messages a kind has; every other kind has a new one each time.
POOLS = {"few": 3, "same": 1}


def original(seed, kind, number):
    """Which message of the kind `mixed` message `number` of a kind is a copy of."""
    pool = POOLS.get(kind)
    return number if pool is None else random.Random(f"{seed}/{kind}/{number}").randint(1, pool)


@dataclasses.dataclass
class Message:
    """One message as it is published: properties for fields.property_block, unless the protocol is AMQP 1.0's."""
    properties: dict
    body: bytes
    exchange: str = ""
    routing_key: str = ""
    protocol: str = "0-9-1"


# What `shapes` publishes to: a topic exchange that every broker has. The queue is bound to it with `#`.
SHAPES_EXCHANGE = "amq.topic"
SHAPES = 12


def shaped(seed, prefix, number, target, later=False):
    """Message `number` in every shape in turn: what campaigns with one shape never varied.

    Two neighbours of twelve are alike, byte for byte, so that no eight in a row tell themselves apart less than they
    would in the field. Which message one is says its body, or, where that is empty, its routing key.

    - later: the broker is RabbitMQ 4 or newer, and takes AMQP 1.0 too.
    """
    rng = random.Random(f"{seed}/{number}")
    name = f"{prefix}-{number:07}"
    body = f"{name} {text(rng, rng.randint(0, 30))}".encode()
    message = Message({"delivery_mode": 2}, body, SHAPES_EXCHANGE, f"shape.{number % SHAPES}")
    shape = number % SHAPES
    if shape in (0, 1):
        message.body, message.routing_key = b"ping", "alike"
    elif shape == 2:
        message.properties = {}
    elif shape == 3:
        message.exchange, message.routing_key = "", target
    elif shape == 4:
        message.properties["headers"] = []
    elif shape == 5:
        message.properties["headers"] = [
            ["x-delivery-count", {"t": "l", "v": rng.randint(0, 30)}], ["x-acquired-count", {"t": "l", "v": 3}],
            ["x-stream-offset", {"t": "l", "v": number}], ["mine", {"t": "S", "v": "kept"}]]
    elif shape == 6:
        message.properties["headers"] = [
            [header_name, {"t": "I", "v": value}] for value in (1, 9)
            for header_name in ("x-delivery-count", "x-acquired-count", "mine")]
    elif shape == 7:
        message.properties |= {"priority": rng.randint(0, 9), "headers": headers(rng, rng.randint(0, 3))}
    elif shape == 8:
        message.body, message.routing_key = b"", f"empty.{name}"
        if rng.random() < 0.5:
            message.properties = {}
    elif shape == 9:
        # Several frames of 128 KiB now and then.
        message.body += rng.randbytes(rng.choice([2_000, 20_000, 20_000, 300_000]))
    elif shape == 10:
        properties, mixed_body = mixed(seed, prefix, number)
        message = Message(properties, mixed_body, SHAPES_EXCHANGE, "mixed")
    elif later:
        # Without a number of its own the sender's settings decide.
        message = Message({"message_id": name, "content_type": "text/plain"}, body, "", target, "1.0")
    else:
        message.properties |= {"expiration": "3600000", "type": "t", "correlation_id": name, "user_id": "guest"}
    return message


def message(seed, kind, prefix, number, target=""):
    """Message `number` of a kind, whole; `target` is the queue's name."""
    if kind in ("shapes", "shapes-4"):
        return shaped(seed, prefix, number, target, later=kind == "shapes-4")
    base = kind.removeprefix("plain-")
    return Message(*mixed(seed, prefix, original(seed, base, number), plain=base != kind), routing_key=target)


# The identity of those that cannot be told apart.
ALIKE = "alike"


def identity(kind, document):
    """Which message a document is of, as its publisher would call it."""
    properties = document["properties"]
    if not kind.startswith("shapes") or document["delivery"]["routing_key"] == "mixed":
        return properties["message_id"]
    routing_key = document["delivery"]["routing_key"]
    if routing_key == "alike":
        return ALIKE
    if routing_key.startswith("empty."):
        return routing_key.removeprefix("empty.")
    raw = document["body_raw"]
    if document.get("body_encoding") == "base64":
        raw = base64.b64decode(raw[:64]).decode(errors="replace")
    return raw.split(" ", 1)[0]


def number(identity):
    """The number of a message by its identity: of those that are alike the first."""
    return SHAPES if identity == ALIKE else int(identity.rpartition("-")[2])


def identities(seed, kind, prefix, count):
    """The identities of the messages 1 to `count`, in order."""
    if kind.startswith("shapes"):
        return [ALIKE if n % SHAPES in (0, 1) else f"{prefix}-{n:07}" for n in range(1, count + 1)]
    return [f"{prefix}-{original(seed, kind, n):07}" for n in range(1, count + 1)]


def simple(seed, prefix, number, size):
    """Message `number` with a JSON body of about `size` bytes: for load, where the kind does not matter."""
    data = json.dumps({"n": number, "pad": "x" * max(0, size - 24)}).encode()
    return {"message_id": f"{prefix}-{number:07}", "content_type": "application/json", "delivery_mode": 2}, data
