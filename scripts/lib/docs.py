"""Checks README.md and what lies below docs/ and examples/: no page may say what is not so, or be in the reader's way.

  docs.py            every finding is a line on stderr; exit status 1 if there is one

Checked are README's length; the width of code; every link to a file or heading; catalogs by Flow's rules for names; settings,
scripts, files of examples/ and causes of the log that pages name; and that each cause and each script is named. What commands do is
checked by the tests, which run them.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
README_LINES = 180
CODE_COLUMNS = 100
# A token of a name in Flow's catalogs; names are tokens joined by slashes, at least two.
# https://docs.estuary.dev/concepts/catalogs/
NAME = re.compile(r"^[\w\-.]+(/[\w\-.]+)+$")
GROUPS = "queue|tls|consumer|journal|document|bindings\\[\\]"

found = []


def wrong(page, text):
    found.append(f"{page}: {text}")


def pages():
    paths = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def blocks(text):
    """(language, first line's number, lines) of each block of code."""
    result, current = [], None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            if current is None:
                current = (line[3:].strip(), number + 1, [])
            else:
                result.append(current)
                current = None
        elif current is not None:
            current[2].append(line)
    return result


def prose(text):
    """The text without its blocks of code."""
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def anchors(text):
    """As GitHub makes them of headings; the second of the same text gets -1, and so on."""
    seen = {}
    for line in prose(text).split("\n"):
        if line.startswith("#"):
            anchor = re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
            seen[anchor] = seen.get(anchor, -1) + 1
            if seen[anchor]:
                seen[f"{anchor}-{seen[anchor]}"] = 0
    return set(seen)


def check_links(all_pages):
    for page, text in all_pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
            if "://" in link:
                if not re.match(r"^https://[a-z0-9.-]+(/\S*)?$", link):
                    wrong(page, f"{link} is no https address")
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            if not target.resolve().exists():
                wrong(page, f"{link} leads nowhere")
            elif anchor and target.suffix == ".md":
                if anchor not in anchors(target.read_text(encoding="utf-8")):
                    wrong(page, f"{link}: there is no such heading")


def names_of(lines):
    """Names of captures and collections in a catalog, and the targets of its bindings: by indentation, as examples are written."""
    names, targets, section = [], [], None
    for line in lines:
        if re.match(r"^\S", line) and not line.startswith("#"):
            section = line.rstrip(":")
        elif section in ("captures", "collections", "materializations") and (match := re.match(r"^  ([^\s#][^:]*):", line)):
            names.append((section, match.group(1)))
        if match := re.match(r"^\s+target: (\S+)", line):
            targets.append(match.group(1))
    return names, targets


def check_catalog(place, lines):
    names, targets = names_of(lines)
    if not names:
        return
    plain = [name for _, name in names]
    for name in plain:
        if not NAME.match(name):
            wrong(place, f"{name} is no name that Flow takes: letters, digits, - _ . joined by slashes")
        for other in plain:
            if other.startswith(name + "/"):
                wrong(place, f"{name} is the beginning of {other}, which Flow refuses")
    for name in {name for name in plain if plain.count(name) > 1}:
        wrong(place, f"{name} stands twice, which Flow refuses")
    if "x-infer-schema: true" in "\n".join(lines) and not any("$ref: flow://inferred-schema" in line for line in lines):
        wrong(place, "x-infer-schema without a readSchema that refers to flow://inferred-schema infers nothing")
    collections = [name for section, name in names if section == "collections"]
    for target in targets:
        if target not in collections:
            wrong(place, f"the target {target} is not among the catalog's collections")


def check_catalogs(all_pages):
    count = 0
    for page, text in all_pages.items():
        for language, line, lines in blocks(text):
            if language == "yaml" and any(line.startswith("captures:") for line in lines):
                check_catalog(f"{page}:{line}", lines)
                count += 1
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").split("\n")
        if "captures:" in lines:
            check_catalog(f"examples/{path.name}", lines)
            count += 1
    if count < 7:
        wrong("examples", f"only {count} catalogs were found")


def check_code(all_pages):
    lines = all_pages["README.md"].count("\n")
    if lines > README_LINES:
        wrong("README.md", f"has {lines} lines, which is more than {README_LINES}")
    for page, text in all_pages.items():
        for _, first, lines in blocks(text):
            for number, line in enumerate(lines, first):
                if len(line) > CODE_COLUMNS:
                    wrong(f"{page}:{number}", f"code of {len(line)} columns, more than {CODE_COLUMNS}")


def check_names(all_pages):
    settings = set(re.findall(r"(?m)^### `([^`]+)`$", all_pages["docs/settings.md"]))
    if len(settings) < 40:
        wrong("docs/settings.md", f"has {len(settings)} settings only: run scripts/docs")
    listed = "".join(text for page, text in all_pages.items() if page != "CHANGELOG.md")
    for page, text in all_pages.items():
        if page == "CHANGELOG.md":
            continue
        for name in re.findall(rf"`((?:{GROUPS})\.[a-z_]+)", text):
            if name not in settings and name != "journal.db":
                wrong(page, f"there is no setting {name}")
        for name in re.findall(r"`?\b(scripts/[a-z]+)\b", text):
            if not (ROOT / name).exists():
                wrong(page, f"there is no {name}")
        for name in re.findall(r"\bexamples/[\w.-]+\.\w+", text):
            if not (ROOT / name).exists():
                wrong(page, f"there is no {name}")
    for path in sorted((ROOT / "scripts").iterdir()):
        if path.is_file() and f"scripts/{path.name}" not in listed:
            wrong("docs", f"scripts/{path.name} is on no page")
    for path in sorted((ROOT / "examples").iterdir()):
        if f"examples/{path.name}" not in listed:
            wrong("docs", f"examples/{path.name} is on no page")


def check_causes(all_pages):
    """Each cause that the log and source_amqp_reconnects_total can have is explained, and each one explained exists."""
    page = "docs/troubleshooting.md"
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "Sources").rglob("*.swift"))
    known = set(re.findall(r'\bcause: "([a-z_]+)"', source))
    known |= set(re.findall(r'return \("([a-z_]+)", (?:true|false), \.', source))
    known -= {"abandoned"}
    table = all_pages[page].partition("## Causes")[2]
    cells = re.findall(r"(?m)^\| (`[^|]*) \|", table)
    named = {name for cell in cells for name in re.findall(r"`([a-z_0-9]+)`", cell)}
    for cause in sorted(known):
        if cause not in named and not re.match(r"(connection|channel)_closed_", cause):
            wrong(page, f"the cause {cause} is not explained")
    for cause in sorted(named):
        if cause not in source and not re.match(r"(connection|channel)_closed_\d+$", cause):
            wrong(page, f"there is no cause {cause}")
    # What is quoted of a message is in one of the program's own, as far as it does not vary. What brokers say is in capitals.
    joined = re.sub(r'"\s*\n?\s*\+ "|\\\n\s*', "", source)
    for quoted in re.findall(r"(?m)^\| [^`|\n]*(?:\| )?`([^`\n]{12,})`", all_pages[page].partition("## Causes")[0]):
        words = re.split(r"\s+", re.sub(r'…|"[^"]*"', " ", quoted).strip())
        runs = [" ".join(words[place:place + 3]).strip(" :;.,()") for place in range(max(1, len(words) - 2))]
        pairs = [" ".join(words[place:place + 2]).strip(" :;.,()") for place in range(max(1, len(words) - 1))]
        if not any(run in joined for run in runs + pairs if len(run) > 8) and not re.search(r"[A-Z]{6}", quoted):
            wrong(page, f"the program never says {quoted!r}")


def main():
    all_pages = pages()
    check_code(all_pages)
    check_links(all_pages)
    check_catalogs(all_pages)
    check_names(all_pages)
    check_causes(all_pages)
    for line in found:
        print(f"docs: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
