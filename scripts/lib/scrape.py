"""Asks an HTTP server for a page, and prints what came as one JSON object.

  scrape.py URL   →   {"status": 200, "body": TEXT, "samples": {"name{label=\\"value\\"}": number}, "types": {name: type}}

A page of metrics goes through prometheus_client's parser, which is strict; other pages have no samples.
"""

import json
import sys
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def main():
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=30) as reply:
            status, body, kind = reply.status, reply.read().decode(), reply.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        status, body, kind = error.code, error.read().decode(), ""
    samples, types = {}, {}
    if "version=0.0.4" in kind:
        for family in text_string_to_metric_families(body):
            types[family.name] = family.type
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    print(json.dumps({"status": status, "body": body, "samples": samples, "types": types}))


main()
