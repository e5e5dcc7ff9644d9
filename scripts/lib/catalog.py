"""Reads the YAML files below examples/, and checks them against the schemas that the connector publishes.

  catalog.py load FILE                 prints the YAML file as JSON
  catalog.py check BINARY FILE         checks a Flow catalog file, or an endpoint configuration, against the schemas of
                                       `BINARY spec`, and prints {"config", "stream", "resources"}: the first binding's
                                       stream, null for an endpoint configuration, and all resources
  catalog.py documents BINARY FILE     checks documents, one a line on stdin, against the connector's schema and the
                                       collection's in the catalog FILE; prints how many there were

Exit status: 0, or 1 with each problem a line on stderr.
"""

import json
import subprocess
import sys

import jsonschema
import yaml


def problems(value, schema, what):
    """Every violation, a line each. A schema that is none is an error of its own."""
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    checker = validator(schema, format_checker=validator.FORMAT_CHECKER)
    return [f"{what}: {error.json_path}: {error.message}" for error in checker.iter_errors(value)]


def one(mapping, what):
    if not isinstance(mapping, (dict, list)) or len(mapping) != 1:
        raise SystemExit(f"{what}: one is needed")
    return next(iter(mapping.values() if isinstance(mapping, dict) else mapping))


def parts(catalog):
    """Configuration, and each binding's resource and collection, of a catalog with one capture; no binding in a configuration."""
    if "captures" not in catalog:
        return catalog, []
    capture = one(catalog["captures"], "captures")
    bindings = [(binding["resource"], catalog["collections"][binding["target"]]) for binding in capture["bindings"]]
    return one(capture["endpoint"], "endpoint")["config"], bindings


def main():
    operation, *arguments = sys.argv[1:]
    with open(arguments[-1], encoding="utf-8") as file:
        catalog = yaml.safe_load(file)
    if operation == "load":
        print(json.dumps(catalog))
        return 0
    spec = json.loads(subprocess.run([arguments[0], "spec"], check=True, capture_output=True).stdout)
    config, bindings = parts(catalog)
    found = []
    if operation == "check":
        found += problems(config, spec["configSchema"], "config")
        for resource, collection in bindings:
            found += problems(resource, spec["resourceConfigSchema"], "resource")
            jsonschema.validators.validator_for(collection["writeSchema"]).check_schema(collection["writeSchema"])
            # What Flow puts there beside what it infers. https://docs.estuary.dev/concepts/schemas/#write-and-read-schemas
            if {"$ref": "flow://inferred-schema"} not in collection["readSchema"]["allOf"]:
                found.append("the readSchema does not refer to what is inferred")
            if collection["key"] != ["/session_id", "/sequence"]:
                found.append(f"collection: key {collection['key']}")
        resources = [resource for resource, _ in bindings]
        print(json.dumps({"config": config, "stream": resources[0]["stream"] if resources else None, "resources": resources}))
    elif operation == "documents":
        count = 0
        for count, line in enumerate(sys.stdin, 1):
            document = json.loads(line)
            found += problems(document, spec["documentSchema"], f"document {count}")
            found += problems(document, bindings[0][1]["writeSchema"], f"document {count} in its collection")
        print(count)
    else:
        raise SystemExit(f"no operation {operation!r}")
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
