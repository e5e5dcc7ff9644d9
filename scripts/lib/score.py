"""Counts what a capture lost, repeated, damaged or put out of order, from the documents that were committed."""

import base64
import collections
import hashlib


class Record:
    """What the count needs of one document: a fraction of its size, so that long runs fit into memory."""
    __slots__ = ("session", "sequence", "identity", "redelivered", "offset", "damaged", "run", "queue")

    def __init__(self, document, run=0, expected=None, queue=0):
        """- queue: which of the capture's queues it is of.
        - expected: an Expected, with which the whole message is compared; else its body is, by the header `digest`."""
        properties = document["properties"]
        self.session, self.sequence = document["session_id"], document["sequence"]
        self.redelivered = document["delivery"]["redelivered"]
        self.offset = properties.get("headers", {}).get("x-stream-offset")
        if expected is None:
            raw = document.get("body_raw", "")
            octets = base64.b64decode(raw) if document.get("body_encoding") == "base64" else raw.encode()
            self.identity = properties["message_id"]
            self.damaged = properties["headers"]["digest"] != hashlib.sha256(octets).hexdigest() and "body"
        else:
            self.damaged = expected.problem(document)
            try:
                self.identity = expected.identity(document)
            except (KeyError, TypeError, ValueError):
                self.identity = "?"
        # Which start of the connector it was read from.
        self.run, self.queue = run, queue


def judge(committed, published):
    """Counts and findings about committed documents, given the set of published ids, each of them of one message."""
    records = [document if isinstance(document, Record) else Record(document) for document in committed]
    seen, duplicated, unmarked, strangers = set(), 0, 0, 0
    for record in records:
        strangers += record.identity not in published
        if record.identity in seen:
            duplicated += 1
            unmarked += not record.redelivered
        seen.add(record.identity)
    problems = out_of_sequence(records)
    return {
        "published": len(published), "committed": len(records), "lost": len(published - seen),
        "duplicated": duplicated, "duplicated not marked redelivered": unmarked,
        "damaged": sum(bool(record.damaged) for record in records),
        "never published": strangers, "out of order": len(problems),
    }, problems


def out_of_sequence(records):
    """The way from journal to document is exact: in every session_id the sequence runs 1, 2, 3 …, in one piece."""
    order, problems, current = {}, [], None
    for record in records:
        if record.session != current and record.session in order:
            problems.append(f"session {record.session} comes back after another one")
        current = record.session
        expected = order.get(record.session, 0) + 1
        if record.sequence != expected:
            problems.append(f"session {record.session}: sequence {record.sequence} after {expected - 1}")
        order[record.session] = record.sequence
    return problems


def compare(records, sent, uncertain, stream=False, ordered=True):
    """The same for payloads of which many messages share one.

    Messages of one payload cannot be told apart, so each payload is counted: lost is what was sent more often than
    captured, and duplicated what was captured more often.

    - sent: the identities in the order of the queue, those that a fault left unconfirmed included.
    - uncertain: how often each identity was among those; they may be there or not.
    - ordered: whether the queue gives them in the order in which they were sent.
    """
    captured, wanted = collections.Counter(record.identity for record in records), collections.Counter(sent)
    lost = sum(max(0, count - uncertain[identity] - captured[identity]) for identity, count in wanted.items())
    duplicated = sum(max(0, captured[identity] - count) for identity, count in wanted.items())
    problems = out_of_sequence(records)
    if stream:
        # The broker numbers a stream's messages, so nothing hides here, whatever the payload.
        offsets = [record.offset for record in records]
        duplicated = max(duplicated, len(offsets) - len(set(offsets)))
        lost = max(lost, len(set(range(len(set(offsets)))) - set(offsets)))
        problems += [f"offset {now} behind {before}" for before, now in zip(offsets, offsets[1:]) if now <= before]
    if ordered and not duplicated and not uncertain and [record.identity for record in records] != sent[:len(records)]:
        problems.append("the payloads are not in the order of the queue")
    return {
        "published": len(sent), "committed": len(records), "lost": lost, "duplicated": duplicated,
        "damaged": sum(bool(record.damaged) for record in records),
        "never published": sum(count for identity, count in captured.items() if identity not in wanted),
        "out of order": len(problems),
    }, problems


def out_of_order(records):
    """First captures of messages with growing ids that are not behind those of all smaller ids."""
    newest, seen, problems = "", set(), []
    for record in records:
        if record.identity not in seen:
            if record.identity < newest:
                problems.append(f"{record.identity} behind {newest}")
            newest = max(newest, record.identity)
        seen.add(record.identity)
    return problems
