import Yams

/// Reads JSON or YAML text into a `SourceNode`.
///
/// Text that is JSON is read as JSON, anything else as YAML, one document. YAML scalars follow the JSON schema of YAML
/// 1.2 if it matters: plain `true`, `false` and `null` (each also capitalised or in capitals), `~` and nothing are
/// what they say; a plain scalar is a number exactly if JSON could write it so, and keeps its text; everything else is a
/// string, `yes`, `on`, `0x10`, `007`, `+5` and `1_000` included, so that a user name `007` stays itself, and a boolean
/// setting refuses `yes` by name. Quoted and block scalars are strings. Of tags, `!!str`, `!!int`, `!!float`, `!!bool`,
/// `!!null`, `!!seq` and `!!map` are known. Merge keys (`<<`) are refused.
///
/// An alias is a copy of its anchor's value; the copies are counted, as ten lines of aliases can mean billions of values.
enum SourceText {
  /// Largest text; endpoint configurations with PEM text have a few kilobytes.
  static let maximumBytes = 4 << 20
  /// Most values after aliases are copied.
  static let maximumValues = 100_000
  /// Deepest nesting, in a catalog file above the configuration too.
  static let maximumDepth = 100

  /// - Parameter file: Name of the file, for errors.
  static func read(_ text: String, file: String) throws(ConfigurationError) -> SourceNode {
    guard text.utf8.count <= maximumBytes else {
      throw ConfigurationError(file: file, "is larger than \(maximumBytes) bytes")
    }
    let text = text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
    let isNamedJSON = file.hasSuffix(".json")
    if isNamedJSON || text.utf8.first(where: { !isBlank($0) }) == UInt8(ascii: "{") {
      do throws(JSONSyntaxError) {
        return SourceNode(try JSONValue.parse(Array(text.utf8)))
      } catch {
        // YAML's flow style looks like JSON, and says more about where it is wrong.
        if isNamedJSON {
          throw ConfigurationError(
            file: file, location: location(of: error.offset, in: text),
            "not valid JSON: \(Disclosure.text(error.reason))")
        }
      }
    }
    return try yaml(text, file: file)
  }

  /// Whether JSON could write a number so: `-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?`.
  static func isNumber(_ text: String) -> Bool {
    var rest = text.utf8[...]
    func skipDigits() -> Int {
      let digits = rest.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
      rest = rest[digits.endIndex...]
      return digits.count
    }
    if rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
    let leadingZero = rest.first == UInt8(ascii: "0")
    let whole = skipDigits()
    guard whole == 1 || (whole > 1 && !leadingZero) else { return false }
    if rest.first == UInt8(ascii: ".") {
      rest = rest.dropFirst()
      guard skipDigits() > 0 else { return false }
    }
    if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
      rest = rest.dropFirst()
      if rest.first == UInt8(ascii: "+") || rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
      guard skipDigits() > 0 else { return false }
    }
    return rest.isEmpty
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"), UInt8(ascii: "\r"): true
    default: false
    }
  }

  /// Line and column, in bytes, of an offset.
  static func location(of offset: Int, in text: String) -> TextLocation {
    let before = text.utf8.prefix(offset)
    let newline = UInt8(ascii: "\n")
    let start = before.lastIndex(of: newline).map { before.index(after: $0) } ?? before.startIndex
    return TextLocation(
      line: before.count { $0 == newline } + 1, column: before.distance(from: start, to: before.endIndex) + 1)
  }

  // MARK: YAML

  private static func yaml(_ text: String, file: String) throws(ConfigurationError) -> SourceNode {
    let root: Node?
    do {
      // The encoding's default would be read from an environment variable, and announced on stdout, which is the
      // protocol's. The basic resolver leaves plain scalars alone; they are resolved below.
      root = try Parser(yaml: text, resolver: .basic, constructor: .default, encoding: .utf8).singleRoot()
    } catch let error as YamlError {
      throw problem(of: error, in: text, file: file)
    } catch {
      throw ConfigurationError(file: file, "not valid YAML")
    }
    guard let root else { throw ConfigurationError(file: file, "is empty") }
    var converter = YAMLConverter(text: text, file: file)
    return try converter.convert(root, depth: 0)
  }

  /// Yams' own descriptions quote the line, which may hold a secret: only its reason and place are kept.
  private static func problem(of error: YamlError, in text: String, file: String) -> ConfigurationError {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      // The context names the construct: "while scanning a simple key".
      let words = [context?.text, problem].compactMap { $0 }.joined(separator: ", ")
      let hint = hint(for: text, at: mark).map { "; \($0)" } ?? ""
      return ConfigurationError(file: file, location: TextLocation(mark), "not valid YAML: \(words)\(hint)")
    case .duplicatedKeysInMapping(let keys, let context):
      let list = keys.map(ConfigurationWording.quote).joined(separator: ", ")
      return ConfigurationError(file: file, location: TextLocation(context.mark), "key given twice: \(list)")
    case .reader(let problem, _, _, _):
      return ConfigurationError(file: file, "not valid YAML: \(problem)")
    case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
      return ConfigurationError(file: file, "not valid YAML")
    }
  }
}

extension SourceText {
  /// What mostly is the matter with a line that is no YAML; nothing of it is shown.
  private static func hint(for text: String, at mark: Mark) -> String? {
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    guard lines.indices.contains(mark.line - 1) else { return nil }
    let line = lines[mark.line - 1]
    if line.prefix(while: { $0 == " " || $0 == "\t" }).contains("\t") {
      return "the line begins with a tab: YAML is indented with blanks"
    }
    let value = (line.firstRange(of: ": ").map { line[$0.upperBound...] } ?? line).drop { $0 == " " || $0 == "-" }
    // In flow style the error points after the character that begins the value.
    let before = line.prefix(max(0, mark.column - 1)).last { $0 != " " }
    let first = before.map { "*&!".contains($0) } == true ? before : value.first
    guard let first, "*&!%@`|>".contains(first) else { return nil }
    return "a value that begins with \(first) has a meaning of its own in YAML: put it in quotes"
  }
}

extension TextLocation {
  fileprivate init(_ mark: Mark) {
    self.init(line: mark.line, column: mark.column)
  }
}

/// Turns Yams' nodes into ours, within the bounds of `SourceText`.
private struct YAMLConverter {
  let file: String
  private var values = 0

  /// Its lines.
  private let lines: [Substring]

  init(text: String, file: String) {
    self.file = file
    lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
  }

  mutating func convert(_ node: Node, depth: Int) throws(ConfigurationError) -> SourceNode {
    let location = node.mark.map { TextLocation($0) }
    values += 1
    guard values <= SourceText.maximumValues else {
      throw ConfigurationError(file: file, "has more than \(SourceText.maximumValues) values; mind its aliases")
    }
    guard depth <= SourceText.maximumDepth else {
      throw ConfigurationError(
        file: file, location: location, "is nested more than \(SourceText.maximumDepth) levels deep")
    }
    switch node {
    case .scalar(let scalar):
      return SourceNode(.scalar(try resolve(scalar, at: location)), at: location)
    case .sequence(let sequence):
      var elements: [SourceNode] = []
      for element in sequence { elements.append(try convert(element, depth: depth + 1)) }
      return SourceNode(.array(elements), at: location)
    case .mapping(let mapping):
      return SourceNode(.object(try members(of: mapping, depth: depth)), at: location)
    case .alias:
      // The parser puts the anchor's node in place; this case is for emitting.
      throw ConfigurationError(file: file, location: location, "has an alias without its anchor")
    }
  }

  private mutating func members(
    of mapping: Node.Mapping, depth: Int
  ) throws(ConfigurationError) -> [SourceNode.Member] {
    var members: [SourceNode.Member] = []
    var seen: Set<String> = []
    for (key, value) in mapping {
      let location = key.mark.map { TextLocation($0) }
      guard case .scalar(let scalar) = key else {
        throw ConfigurationError(file: file, location: location, "has a key that is no string")
      }
      if scalar.string == "<<", scalar.style == .plain {
        throw ConfigurationError(file: file, location: location, "has a merge key (<<), which is not supported")
      }
      // Yams compares keys with their tags: `on` and `!!str on` would be two.
      guard seen.insert(scalar.string).inserted else {
        let key = ConfigurationWording.quote(scalar.string)
        throw ConfigurationError(file: file, location: location, "key given twice: \(key)")
      }
      let converted = try convert(value, depth: depth + 1)
      if case .scalar(let empty) = value, empty.string.isEmpty, let location, isCutOff(location) {
        throw ConfigurationError(
          file: file, location: location,
          "the value begins with #, which begins a comment in YAML: put it in quotes")
      }
      members.append(SourceNode.Member(key: scalar.string, location: location, value: converted))
    }
    return members
  }

  /// Whether a key's value is taken for a comment, though it looks like a routing key: `#` alone, or `#.new`.
  private func isCutOff(_ location: TextLocation) -> Bool {
    guard lines.indices.contains(location.line - 1) else { return false }
    let key = lines[location.line - 1].dropFirst(location.column - 1)
    guard let colon = key.firstIndex(of: ":") else { return false }
    let value = key[colon...].dropFirst().drop { $0 == " " }
    guard value.first == "#" else { return false }
    return value.dropFirst().allSatisfy { $0 == " " || $0 == "}" || $0 == "," || $0 == "]" } || value.hasPrefix("#.")
  }

  private func resolve(
    _ scalar: Node.Scalar, at location: TextLocation?
  ) throws(ConfigurationError) -> JSONValue {
    let tag = scalar.tag.rawValue
    let text = scalar.string
    switch tag {
    case Tag.Name.implicit.rawValue:
      return scalar.style == .plain ? plain(text) : .string(text)
    case Tag.Name.str.rawValue, Tag.Name.nonSpecific.rawValue:
      return .string(text)
    case Tag.Name.int.rawValue, Tag.Name.float.rawValue, Tag.Name.bool.rawValue, Tag.Name.null.rawValue:
      return plain(text)
    default:
      throw ConfigurationError(file: file, location: location, "has a tag that is not supported")
    }
  }

  private func plain(_ text: String) -> JSONValue {
    switch text {
    case "", "~", "null", "Null", "NULL": .null
    case "true", "True", "TRUE": .bool(true)
    case "false", "False", "FALSE": .bool(false)
    default: SourceText.isNumber(text) ? .number(text) : .string(text)
    }
  }
}
