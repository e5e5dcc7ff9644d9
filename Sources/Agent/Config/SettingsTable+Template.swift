/// The configuration that `source-amqp init` prints: every setting with its meaning, most of them commented out.
extension SettingsTable {
  /// What is not commented out, so that the file is valid as it stands.
  private static let given: [String: String] = [
    "host": "localhost", "queue.name": "orders", "consumer.exclusive": "true",
  ]

  /// An endpoint configuration in YAML.
  static var template: String {
    """
    # A configuration of source-amqp. Each setting is explained; a line such as "#port: 5671" is
    # commented out, so its default holds. To give it, take away the #, and that of its group.
    # Try it:  source-amqp check FILE


    """ + body(indentation: "")
  }

  /// The same in a Flow catalog, with its collection.
  static var catalogTemplate: String {
    """
    # A Flow catalog with a capture of source-amqp. Each setting is explained; a line such as
    # "#port: 5671" is commented out, so its default holds. To give it, take away the #, and that of
    # its group. Names of captures and collections are paths, and none may be the beginning of another.
    # Try it:  source-amqp check FILE
    captures:
      acmeCo/shop/source-amqp:
        endpoint:
          connector:
            # An image that your data plane may run. With "flowctl preview" this also works:
            #   local: { command: [source-amqp], config: … }, in place of "connector".
            image: ghcr.io/acmeco/source-amqp:dev
            config:

    """ + body(indentation: "          ").replacing("\"${env:AMQP_PASSWORD}\"", with: "secret") + """
          bindings:
            - resource: { stream: orders }
              target: acmeCo/shop/orders

      collections:
        acmeCo/shop/orders:
          writeSchema:
            type: object
            required: [session_id, sequence]
            properties:
              session_id: { type: string }
              sequence: { type: integer }
            x-infer-schema: true
          readSchema:
            allOf:
              - $ref: flow://write-schema
              - $ref: flow://inferred-schema
          key: [/session_id, /sequence]

      """
  }

  private static func body(indentation: String) -> String {
    var lines: [String] = []
    write(root, path: "", indentation, &lines)
    return lines.map { $0.isEmpty ? "\n" : indentation + $0 + "\n" }.joined()
  }

  /// - Parameter base: What is put before each line, which counts for its width.
  private static func write(_ group: SettingGroup, path: String, _ base: String, _ lines: inout [String]) {
    let depth = path.isEmpty ? "" : "  "
    var isFirst = true
    for node in group.members {
      switch node {
      case .setting(let setting):
        let own = join(path, setting.key)
        if path.isEmpty, !isFirst { lines.append("") }
        lines += wrapped(meaning(of: setting), base: base, depth)
        // The first line of a list's item has the dash.
        let dash = group.repeats ? isFirst ? "- " : "  " : ""
        if let value = given[own] {
          lines.append("\(depth)\(dash)\(setting.key): \(value)")
        } else {
          let value: JSONValue = if case .value(let value) = setting.presence { value } else { setting.example }
          lines.append("\(depth)#\(dash)\(setting.key): \(yaml(setting.secret ? setting.example : value))")
        }
        isFirst = false
      case .group(let group):
        let own = join(path, group.key)
        lines.append("")
        lines += wrapped(group.description, base: base, depth)
        let isGiven = given.keys.contains { $0.hasPrefix(own + ".") }
        lines.append("\(depth)\(isGiven ? "" : "#")\(group.key):")
        write(group, path: own, base, &lines)
      }
    }
  }

  private static func meaning(of setting: Setting) -> String {
    let range: String? =
      switch setting.kind {
      case .integer(let range): "From \(range.lowerBound) to \(range.upperBound)."
      case .number(let range): "From \(plain(range.lowerBound)) to \(plain(range.upperBound))."
      case .choice(let choices): "One of " + choices.map(\.value).joined(separator: ", ") + "."
      case .text, .texts, .boolean, .streamOffset, .table: nil
      }
    return [setting.description, range, presence(of: setting)].compactMap { $0 }.joined(separator: " ")
      .replacing("`", with: "")
  }

  /// Comment lines of at most 100 columns.
  private static func wrapped(_ text: String, base: String, _ depth: String) -> [String] {
    var lines: [String] = []
    var line = ""
    let width = max(40, 98 - base.utf8.count - depth.utf8.count)
    for word in text.split(separator: " ") {
      if !line.isEmpty, line.utf8.count + word.utf8.count + 1 > width {
        lines.append("\(depth)# \(line)")
        line = ""
      }
      line += line.isEmpty ? String(word) : " \(word)"
    }
    return lines + ["\(depth)# \(line)"]
  }

  /// A value in YAML, on one line.
  static func yaml(_ value: JSONValue) -> String {
    guard case .string(let text) = value else { return value.text }
    let isPlain = text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
        UInt8(ascii: "/"):
        true
      default: false
      }
    }
    let begins = text.utf8.first.map { $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: ".") } ?? false
    let isOther =
      SourceText.isNumber(text) || ["true", "false", "null", "yes", "no", "on", "off"].contains(text.lowercased())
    return isPlain && begins && !isOther ? text : value.text
  }
}
