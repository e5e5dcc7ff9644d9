"""Checks what scripts/image found out about an image.

  image.py spec FILE      FILE has what the entry point answered to a spec request of the Flow capture protocol
  image.py config FILE    FILE has what `docker image inspect` or `buildah inspect --type image` printed

Exit status: 0, or 1 with what is wrong on stderr.
"""

import json
import sys

LABELS = {
    "FLOW_RUNTIME_PROTOCOL": "capture",
    "FLOW_RUNTIME_CODEC": "json",
    "CONNECTOR_PROTOCOL": "flow-capture",
}


def spec_problems(text):
    lines = text.splitlines()
    if len(lines) != 1 or not text.endswith("\n"):
        return [f"{len(lines)} lines instead of one whole line"]
    answer = json.loads(lines[0]).get("spec")
    if answer is None:
        return [f"no spec: {lines[0][:200]}"]
    found = []
    if "host" not in answer.get("configSchema", {}).get("properties", {}):
        found.append("the configuration's schema has no host")
    if "stream" not in answer.get("resourceConfigSchema", {}).get("properties", {}):
        found.append("the resource's schema has no stream")
    return found


def config_problems(text):
    value = json.loads(text)
    # docker prints a list; buildah has docker's form of the configuration below "Docker".
    config = (value[0]["Config"] if isinstance(value, list) else value["Docker"]["config"])
    wanted = {
        "User": "nonroot:nonroot", "StopSignal": "SIGTERM", "Entrypoint": ["/connector/source-amqp"], "Cmd": None,
        "WorkingDir": "/connector",
    }
    found = [
        f"{name} is {config.get(name)!r} instead of {expected!r}"
        for name, expected in wanted.items() if (config.get(name) or None) != expected]
    labels = config.get("Labels") or {}
    found += [
        f"label {name} is {labels.get(name)!r} instead of {expected!r}"
        for name, expected in LABELS.items() if labels.get(name) != expected]
    return found


def main():
    check, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = {"spec": spec_problems, "config": config_problems}[check](text)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
