"""Draws the rooms of Sources and the arrows between them into ARCHITECTURE.md, and finds what must not be: an arrow up, a circle of files,
a declaration that nobody uses, a public type or function without a word about it.

    rooms.py           writes the picture
    rooms.py --check   says what is wrong, and if the picture is not that of the code; exit status 1 then

A room is a directory of Sources, or of one of its modules. There is an arrow if a file of one names what a file of the other declares. That
is read from the code: words outside comments and texts, which a file can only mean if its module may import the other's. Members that an
extension adds are not seen; nor is a declaration dead whose name something else has, too.
"""

import collections
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
sources = root / "Sources"
page = root / "ARCHITECTURE.md"
begin, end = "<!-- rooms: written by scripts/docs -->\n", "<!-- end of rooms -->\n"

# From the lowest floor up. A room looks at those before it, and at none on its own floor.
FLOORS = [
    ["Platform"],
    ["AMQP/Wire", "Journal/Storage"],
    ["AMQP/Transport", "Journal/Journal"],
    ["AMQP/Connection", "Journal/Salvage"],
    ["Agent/Text"],
    ["Agent/JSON"],
    ["Agent/Config"],
    ["Agent/Failures", "Agent/Documents"],
    ["Agent/Redelivery", "Agent/Status"],
    ["Agent/Broker", "Agent/Output"],
    ["Agent/Capture"],
    ["Agent/Operations"],
    ["Agent/Setup"],
    ["Agent/Flow", "Agent/CLI"],
    ["Agent"],
]
# What a module may import; the build holds it.
MODULES = {"Platform": {"Platform"}, "AMQP": {"AMQP", "Platform"}, "Journal": {"Journal", "Platform"}}
DECLARATION = re.compile(
    r"^(?P<indent> *)(?:@\w+(?:\([^)]*\))? +)*(?P<modifiers>(?:[a-z]+(?:\(set\))? +)*)"
    r"(?P<kind>struct|class|enum|protocol|actor|typealias|func|let|var|case|extension) +`?(?P<name>[A-Za-z_]\w*)",
    re.M,
)
# Named by no one but the compiler, SQLite's or Swift's libraries.
CALLED_BY_OTHERS = {"description", "debugDescription", "customMirror", "configuration", "SourceAMQP"}
CALLED_BY_NIO = {"OutboundOut", "channelActive", "channelInactive", "channelRead", "userInboundEventTriggered"}


def uncommented(text: str) -> str:
    return re.sub(r"(?<!:)//[^\n]*", "", text)


def code(text: str) -> str:
    """The text without comments, and with no more of its string literals than what is interpolated."""

    def interpolated(match: re.Match) -> str:
        return " ".join(re.findall(r"\\\((.*?)\)", match.group(0), re.S))

    text = re.sub(r'"""\n.*?"""', interpolated, text, flags=re.S)
    text = uncommented(text)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', interpolated, text)
    return re.sub(r"^.*\bimport .*$", "", text, flags=re.M)


# Properties that a protocol of the standard library asks for and describes.
WITNESSES = {"description", "debugDescription", "customMirror", "rawValue"}


def undocumented(text: str) -> list:
    """Public types, functions and properties of a file that no comment stands before; operators say what they do."""
    lines, found = text.split("\n"), []
    for number, line in enumerate(lines):
        match = re.match(r"^ *(?:@\w+(?:\([^)]*\))? )*(?:public|package) .*\b(?:struct|class|enum|protocol|func|var|let) (\w+)", line)
        if match and match[1] not in WITNESSES:
            above = number - 1
            while lines[above].lstrip().startswith("@"):
                above -= 1
            if not lines[above].lstrip().startswith("///"):
                found.append(match[1])
    return found


def room(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def circles(graph: dict) -> list:
    """The strongly connected components of more than one node (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in list(graph):
        if node not in index:
            visit(node)
    return found


def node(name: str) -> str:
    return name.replace("/", "_")


def picture(arrows: dict) -> str:
    below: dict = {}

    def reached(name):
        if name not in below:
            below[name] = set().union(*(reached(other) | {other} for other in arrows.get(name, ())), set())
        return below[name]

    names = [name for floor in reversed(FLOORS) for name in floor]
    lines = ["```mermaid", "flowchart TD"] + [f'  {node(name)}["{name}"]' for name in names]
    for name in names:
        direct = arrows.get(name, set())
        for other in names:
            if other in direct and not any(other in reached(third) for third in direct - {other}):
                lines.append(f"  {node(name)} --> {node(other)}")
    lines += ["```", "", "| room | looks at |", "|---|---|"]
    for name in names:
        looks = [other for floor in FLOORS for other in floor if other in arrows.get(name, ())]
        lines.append(f"| `Sources/{name}` | {', '.join(looks)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    texts = {str(path.relative_to(sources)): path.read_text() for path in sorted(sources.rglob("*.swift"))}
    files = {path: code(text) for path, text in texts.items()}
    owner, places = {}, {}
    for path, text in files.items():
        for match in DECLARATION.finditer(text):
            # A case that begins with a capital is a pattern.
            if match["kind"] == "extension" or match["kind"] == "case" and match["name"][0].isupper():
                continue
            places.setdefault(match["name"], path)
            if not match["indent"] and "private" not in match["modifiers"]:
                owner.setdefault(match["name"], path)

    uses, arrows = collections.defaultdict(set), collections.defaultdict(set)
    for path, text in files.items():
        may = MODULES.get(path.split("/")[0])
        for word in set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text)):
            other = owner.get(word)
            if other and other != path and (may is None or other.split("/")[0] in may):
                uses[path].add(other)
                if room(other) != room(path):
                    arrows[room(path)].add(room(other))

    if set(sys.argv[1:]) - {"--check"}:
        print(__doc__)
        return 64
    problems = []
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for path in files:
        if room(path) not in floor and path != "AMQP/AMQP.swift":
            problems.append(f"{path} is in no room of scripts/lib/rooms.py")
    up = 0
    for path, others in sorted(uses.items()):
        for other in sorted(others):
            low, high = floor.get(room(path), 0), floor.get(room(other), 0)
            if room(path) != room(other) and high >= low:
                up += 1
                problems.append(f"arrow up: {path} names what {other} declares")
    rings = circles(uses)
    problems += [f"circle of files: {', '.join(ring)}" for ring in rings]

    words = collections.Counter()
    for text in texts.values():
        words.update(re.findall(r"[A-Za-z_]\w*", uncommented(text)))
    used = CALLED_BY_OTHERS | CALLED_BY_NIO
    # What is for the tests alone stands below a mark that says so.
    for text in texts.values():
        used.update(match["name"] for match in DECLARATION.finditer(text.partition("// MARK: Seams")[2]))
    dead = sorted((path, name) for name, path in places.items() if words[name] == 1 and name not in used)
    problems += [f"unused: {name} of {path}" for path, name in dead]

    silent = [(path, name) for path, text in texts.items() for name in undocumented(text)]
    problems += [f"no word about {name} of {path}" for path, name in silent]

    drawn = picture(arrows)
    text = page.read_text()
    if begin not in text or end not in text:
        print(f"{page.name} lacks the lines {begin.strip()} and {end.strip()}")
        return 1
    head, rest = text.split(begin)
    old, tail = rest.split(end)
    count = sum(len(others) for others in arrows.values())
    print(f"rooms {len(floor)}, arrows {count}, up {up}, circles {len(rings)}, dead declarations {len(dead)}, undocumented {len(silent)}")
    if "--check" not in sys.argv:
        page.write_text(head + begin + drawn + end + tail)
    elif old != drawn:
        problems.append("ARCHITECTURE.md does not show the rooms as they are: scripts/docs writes it")
    for problem in problems:
        print(problem)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
