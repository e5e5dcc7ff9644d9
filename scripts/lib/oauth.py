"""Prints an OAuth 2 token for a broker of `scripts/broker start --oauth`.

    oauth.py KEY SECONDS [USER]

KEY is SOURCE_AMQP_TEST_OAUTH_KEY; the token expires in SECONDS, which may be negative.
"""

import base64
import hashlib
import hmac
import json
import sys
import time


def encoded(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def main():
    key, seconds, user = sys.argv[1], int(sys.argv[2]), (sys.argv + ["agent"])[3]
    secret = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    head = {"alg": "HS256", "typ": "JWT", "kid": "test"}
    claims = {
        "aud": ["rabbitmq"],
        "sub": user,
        "client_id": user,
        "exp": int(time.time()) + seconds,
        "scope": [f"rabbitmq.{right}:*/*" for right in ("read", "write", "configure")],
    }
    signed = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    print((signed + b"." + encoded(hmac.new(secret, signed, hashlib.sha256).digest())).decode(), end="")


main()
