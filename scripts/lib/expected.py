"""What a document has to hold of the message that was published: all of it, so that nothing foreign and nothing cut hides.

A message of a seed is the same wherever it is made (messages.py), so a document needs only to say which one it is; then
exchange, routing key, every property, every header and every byte of the body are compared with what was sent.
"""

import base64
import codecs
import datetime
import decimal
import gzip
import struct
import zlib

import messages
from fields import octets

# A queue writes these over a publisher's, or adds them, when it delivers again; a stream adds the last.
BROKERS = {"quorum": {"x-delivery-count", "x-acquired-count"}, "stream": {"x-stream-offset"}}


def instant(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(value):
    """A long string or bytes as a document shows them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def same(typed, found):
    """Whether `found`, of a document, is the typed value (see fields.py) that was sent."""
    kind, value = typed["t"], typed.get("v")
    if kind in "bBsuIilL":
        return type(found) is int and found == value
    if kind == "t":
        return found is value
    if kind == "V":
        return found is None
    if kind in "fd":
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return number and struct.pack(">" + kind, found) == struct.pack(">" + kind, value)
    if kind == "D":
        # The document's number is exact; Python reads it as a double.
        return float(found) == float(decimal.Decimal(value["value"]).scaleb(-value["scale"]))
    if kind == "T":
        return found == instant(value)
    if kind == "A":
        return isinstance(found, list) and len(found) == len(value) and all(map(same, value, found))
    if kind == "F":
        return same_table(value, found)
    if kind == "raw":
        # Of what the tests send so, only bytes: the type octet x, a length, and no UTF-8.
        return found == {"base64": base64.b64encode(octets(typed)[5:]).decode()}
    data = octets(typed) if "b64" in typed else octets(value)
    return found == ({"base64": base64.b64encode(data).decode()} if kind == "x" else text(data))


def same_table(entries, found, without=()):
    """A table as an object: the first field with a key is its member, further ones are pairs in `_fields`."""
    if not isinstance(found, dict):
        return False
    first, others = {}, []
    for name, typed in entries:
        if name in without:
            continue
        if name in first:
            others.append((name, typed))
        else:
            first[name] = typed
    members = {name: value for name, value in found.items() if name not in without and name != "_fields"}
    pairs = [pair for pair in found.get("_fields", []) if pair[0] not in without]
    return members.keys() == first.keys() and all(same(first[name], members[name]) for name in first) \
        and len(pairs) == len(others) and all(
            name == pair[0] and same(typed, pair[1]) for (name, typed), pair in zip(others, pairs))


def decoded(body, encoding):
    """The bytes that body_raw stands for. Among very many random bodies one begins with a byte order mark of UTF-16, and is text."""
    try:
        body = {"gzip": gzip.decompress, "deflate": zlib.decompress}[encoding](body)
    except (KeyError, OSError, EOFError, zlib.error):
        pass
    if body[:2] in (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE):
        try:
            text = body.decode("utf-16")
            return body if "\0" in text else text.encode()
        except UnicodeDecodeError:
            pass
    return body


def problem(message, document, queue, later=False):
    """The name of the first thing in which the document is not the message; None if it is the same.

    - message: a messages.Message.
    - queue: its type.
    - later: the broker is RabbitMQ 4 or newer. Of headers with one key it keeps the first (seen with 4.0.5, 4.3.6).
    """
    delivery, found = document["delivery"], dict(document["properties"])
    if delivery["exchange"] != message.exchange or delivery["routing_key"] != message.routing_key:
        return "routing"
    raw = document.get("body_raw", "")
    body = base64.b64decode(raw) if document.get("body_encoding") == "base64" else raw.encode()
    if body != decoded(message.body, message.properties.get("content_encoding")):
        return "body"
    if document["body_size"] != len(message.body):
        return "body_size"
    if message.protocol == "1.0":
        # The broker makes headers and properties of what AMQP 1.0 has; these must arrive.
        return None if all(found.get(name) == value for name, value in message.properties.items()) else "properties"
    brokers = BROKERS.get(queue, set())
    headers = found.pop("headers", None)
    sent = {name: value for name, value in message.properties.items() if value is not None}
    entries = sent.pop("headers", None)
    if later and entries:
        entries = list({name: [name, typed] for name, typed in reversed(entries)}.values())
    if brokers:
        if not same_table(entries or [], headers or {}, brokers):
            return "headers"
    elif (entries is None) != (headers is None) or entries is not None and not same_table(entries, headers):
        return "headers"
    if "timestamp" in sent:
        sent["timestamp"] = instant(sent["timestamp"])
    return None if found == sent else "properties"


class Expected:
    """The messages of one campaign, found by their documents."""

    def __init__(self, seed, kind, queue, prefix="m", target=""):
        self.seed, self.kind, self.queue, self.prefix, self.target = seed, kind, queue, prefix, target

    def identity(self, document):
        return messages.identity(self.kind, document)

    def problem(self, document):
        """What of the document nobody published; None where it is a message, byte for byte."""
        try:
            number = messages.number(self.identity(document))
            return problem(
                messages.message(self.seed, self.kind, self.prefix, number, self.target), document, self.queue,
                self.kind == "shapes-4")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            return f"{type(error).__name__} {error}"
