"""Encodes AMQP 0-9-1 property blocks, with every field type RabbitMQ reads, well-formed or not.

pika's own encoder knows few types and insists on valid ones; tests need all of them, and bytes no client would send.
The types are RabbitMQ's dialect: https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3

A typed value in JSON is {"t": LETTER, "v": VALUE}, where LETTER is the type's octet on the wire:

  t boolean   b B int8, uint8   s u int16, uint16   I i int32, uint32   l L int64   f d float, double
  D decimal {"scale": n, "value": n}   T timestamp   V void   S x long string, bytes: "v" is text, or "b64" its bytes
  A array [typed, …]   F table [[name, typed], …]   raw "b64": octets put on the wire as they are, type octet included

A short string or a name is text, or {"b64": …} for octets that are no UTF-8.
"""

import base64
import struct

# Names of the properties in the order of their flag bits, from bit 15 down, and how each is encoded.
PROPERTIES = [
    ("content_type", "short"), ("content_encoding", "short"), ("headers", "table"), ("delivery_mode", ">B"),
    ("priority", ">B"), ("correlation_id", "short"), ("reply_to", "short"), ("expiration", "short"),
    ("message_id", "short"), ("timestamp", ">Q"), ("type", "short"), ("user_id", "short"), ("app_id", "short"),
    ("cluster_id", "short"),
]

FIXED = {
    "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q", "f": ">f", "d": ">d",
    "T": ">Q",
}


def octets(value):
    """The bytes of a text or of {"b64": …}."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def short(value):
    data = octets(value)
    return struct.pack("B", len(data)) + data


def number(value):
    """JSON has no NaN and no infinities: they come as the strings that float() reads."""
    return float(value) if isinstance(value, str) else value


def field(typed):
    """One field value, its type octet in front."""
    kind, value = typed["t"], typed.get("v")
    if kind == "raw":
        return octets(typed)
    head = kind.encode()
    if kind in FIXED:
        return head + struct.pack(FIXED[kind], number(value))
    if kind == "t":
        return head + struct.pack("B", 1 if value else 0)
    if kind == "V":
        return head
    if kind in "Sx":
        data = octets(typed) if "b64" in typed else octets(value)
        return head + struct.pack(">I", len(data)) + data
    if kind == "D":
        return head + struct.pack(">Bi", value["scale"], value["value"])
    if kind == "A":
        data = b"".join(field(item) for item in value)
        return head + struct.pack(">I", len(data)) + data
    if kind == "F":
        return head + table(value)
    raise ValueError(f"no field type {kind!r}")


def table(entries):
    data = b"".join(short(name) + field(value) for name, value in entries)
    return struct.pack(">I", len(data)) + data


def property_block(properties):
    """The flag word and the encoded properties of a content header, as RawProperties wants them."""
    unknown = set(properties) - {name for name, _ in PROPERTIES}
    if unknown:
        raise ValueError(f"no such property: {', '.join(sorted(unknown))}")
    flags, pieces = 0, []
    for index, (name, kind) in enumerate(PROPERTIES):
        value = properties.get(name)
        if value is None:
            continue
        flags |= 1 << (15 - index)
        if kind == "short":
            pieces.append(short(value))
        elif kind == "table":
            pieces.append(table(value))
        else:
            pieces.append(struct.pack(kind, value))
    return struct.pack(">H", flags) + b"".join(pieces)


class RawProperties:
    """Stands in for pika.BasicProperties: pika's content header frame asks for INDEX and encode(), nothing else."""

    INDEX = 0x003C  # The class id of basic.

    def __init__(self, block):
        self.block = block

    def encode(self):
        return [self.block]
