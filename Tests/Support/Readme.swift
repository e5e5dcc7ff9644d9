/// A command that a page of the documentation shows: a line `$ …` of a block ```` ```console ````.
public struct DocumentedCommand: Sendable {
  /// The heading that it stands below.
  public let section: String
  /// The number of its block on the page, from 0.
  public let block: Int
  /// Without the comment after it; of one that goes on after `> `, in one line.
  public let text: String
  /// The line `$ # …` before it.
  public let question: String?
  /// The lines after it that are no commands: what it prints.
  public let output: [String]

  /// Its words as far as blanks separate them; quotes are not looked at.
  public var words: [String] { text.split(separator: " ").map(String.init) }

  /// All commands of a page, in order.
  ///
  /// - Parameter file: Its path in the repository, such as `README.md`.
  public static func all(in file: String) throws -> [DocumentedCommand] {
    var found: [DocumentedCommand] = []
    var section = ""
    var block = -1
    var isConsole = false
    var isCode = false
    var question: String?
    for line in try contents(ofFile: repository + "/" + file).split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        isConsole = !isCode && line == "```console"
        isCode.toggle()
        if isConsole { block += 1 }
        question = nil
      } else if !isCode, line.hasPrefix("#") {
        section = String(line.drop { $0 == "#" || $0 == " " })
      } else if isConsole, line.hasPrefix("$ # ") {
        question = String(line.dropFirst(4))
      } else if isConsole, line.hasPrefix("> "), let last = found.popLast() {
        let rest = " " + command(String(line.drop { $0 == ">" || $0 == " " }))
        let begin = last.text.hasSuffix(" \\") ? String(last.text.dropLast(2)) : last.text
        found.append(
          DocumentedCommand(
            section: last.section, block: last.block, text: begin + rest, question: last.question, output: []))
      } else if isConsole, line.hasPrefix("$ ") {
        let text = command(String(line.dropFirst(2)))
        found.append(
          DocumentedCommand(section: section, block: block, text: text, question: question, output: []))
        question = nil
      } else if isConsole, let last = found.popLast() {
        found.append(
          DocumentedCommand(
            section: last.section, block: last.block, text: last.text, question: last.question,
            output: last.output + [String(line)]))
      }
    }
    return found
  }

  /// The files that a page shows: blocks of any language whose first line is a comment with a file's name and nothing else,
  /// as in `# capture.yaml`.
  public static func files(in file: String) throws -> [(name: String, content: String)] {
    var found: [(name: String, content: String)] = []
    var lines: [Substring]?
    for line in try contents(ofFile: repository + "/" + file).split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        if let block = lines, let first = block.first, first.hasPrefix("# "), first.dropFirst(2).contains("."),
          !first.dropFirst(2).contains(" ")
        {
          found.append((String(first.dropFirst(2)), block.joined(separator: "\n") + "\n"))
        }
        lines = lines == nil ? [] : nil
      } else {
        lines?.append(line)
      }
    }
    return found
  }

  /// What stands before two blanks and a `#`.
  private static func command(_ line: String) -> String {
    let bytes = Array(line.utf8)
    var end = bytes.count
    for index in bytes.indices.dropLast(2) where Array(bytes[index..<index + 3]) == Array("  #".utf8) {
      end = index
      break
    }
    while end > 0, bytes[end - 1] == 0x20 { end -= 1 }
    return String(decoding: bytes[..<end], as: UTF8.self)
  }
}

/// A directory in which a shell runs commands as a page prints them: `source-amqp` is the binary under test.
public struct DocumentedShell: Sendable {
  /// Absolute, and there already.
  public let directory: String

  public init(in directory: String) throws {
    self.directory = directory
    try run("/bin/mkdir", ["-p", directory + "/.bin"])
    try run("/bin/ln", ["-sfn", try connectorBinary(), directory + "/.bin/source-amqp"])
  }

  /// Puts a program of that name before the machine's own.
  public func program(_ name: String, _ script: String) throws {
    let path = directory + "/.bin/" + name
    try run("/bin/sh", ["-c", "printf '%s\\n' '#!/bin/sh' \"$1\" >\"$0\" && chmod 755 \"$0\"", path, script])
  }

  /// The arguments with which bash runs a command there.
  public func arguments(_ command: String, replacing shell: Bool = false) -> [String] {
    ["-c", "cd \"$0\" && PATH=\"$0/.bin:$PATH\" && \(shell ? "exec " : "")\(command)", directory]
  }

  /// Runs it to its end and returns what it printed.
  ///
  /// - Throws: If it does not exit with 0.
  @discardableResult
  public func callAsFunction(_ command: String) throws -> String { try run("/bin/bash", arguments(command)) }
}
