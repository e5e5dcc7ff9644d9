"""The document that the Python peers build of a message, as one would write it."""

import base64
import json
from datetime import datetime, timezone

NAMES = ("content_type content_encoding headers delivery_mode priority correlation_id reply_to expiration message_id "
         "timestamp type user_id app_id").split()


def encode(value):
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"base64": base64.b64encode(value).decode()}


def document(sequence, body, properties, delivery, queue):
    """One line. `properties` has the attributes of NAMES, `delivery` is the dictionary that the document shows."""
    text = body.decode()
    shown = {}
    for name in NAMES:
        value = getattr(properties, name)
        if value is not None:
            shown[name] = value
    if isinstance(shown.get("timestamp"), int):
        shown["timestamp"] = datetime.fromtimestamp(shown["timestamp"], timezone.utc)
    return json.dumps({
        "received_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "body": json.loads(text),
        "body_raw": text, "body_size": len(body), "properties": shown, "delivery": delivery, "queue": queue,
        "virtual_host": "/", "sequence": sequence, "session_id": "3677a7ff-0201-4708-b56f-49932a757c64",
    }, default=encode, separators=(",", ":"))
