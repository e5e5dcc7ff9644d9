/// PEM as people hand it over: out of an environment variable, a JSON file or an indented YAML block.
///
/// OpenSSL reads lines that begin in the first column (https://www.rfc-editor.org/rfc/rfc7468#section-2). What is told apart from that
/// without doubt is put right: `\n` as two characters, blanks in the place of line ends, indentation, quotes around the whole.
enum PEMText {
  private static let begin = "-----BEGIN "
  private static let dashes = "-----"

  /// The same text with each block in lines, if it is not so already; text outside of blocks is left out then.
  static func normalised(_ text: String) -> String {
    guard needsMending(text) else { return text }
    var rest = text.replacing("\\r", with: "").replacing("\\n", with: "\n")[...]
    var blocks = ""
    while let start = rest.firstRange(of: begin) {
      let afterBegin = rest[start.upperBound...]
      guard let labelEnd = afterBegin.firstRange(of: dashes) else { break }
      let label = afterBegin[..<labelEnd.lowerBound]
      let afterLabel = afterBegin[labelEnd.upperBound...]
      let endLine = "-----END \(label)-----"
      guard let end = afterLabel.firstRange(of: endLine) else { break }
      blocks += "\(begin)\(label)-----\n"
      blocks += lines(of: afterLabel[..<end.lowerBound])
      blocks += "\(endLine)\n"
      rest = afterLabel[end.upperBound...]
    }
    // What cannot be taken apart is for OpenSSL to refuse.
    return blocks.isEmpty ? text : blocks
  }

  private static func needsMending(_ text: String) -> Bool {
    guard text.contains(begin) else { return false }
    if text.contains("\\n") { return true }
    return text.split(whereSeparator: \.isNewline).contains { line in
      let isIndented = line.first?.isWhitespace == true || line.first == "\"" || line.first == "'"
      return isIndented || line.contains(begin) && !line.trimmingSuffix(while: \.isWhitespace).hasSuffix(dashes)
        || line.hasPrefix(begin) && line.contains("-----END ")
    }
  }

  /// The content of a block: base64 in lines of 64 characters, or its lines if it has headers (`Proc-Type: 4,ENCRYPTED`).
  private static func lines(of content: Substring) -> String {
    if content.contains(":") {
      let lines = content.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).dropFirst()
      return lines.map { $0.drop(while: \.isWhitespace) + "\n" }.joined().trimmedEnd + "\n"
    }
    let characters = content.filter { !$0.isWhitespace }
    var (result, rest) = ("", characters[...])
    while !rest.isEmpty {
      result += rest.prefix(64) + "\n"
      rest = rest.dropFirst(64)
    }
    return result
  }
}

extension StringProtocol where SubSequence == Substring {
  /// Without what `while` is true for at the end.
  fileprivate func trimmingSuffix(while isTrimmed: (Character) -> Bool) -> Substring {
    var end = endIndex
    while end > startIndex, isTrimmed(self[index(before: end)]) { end = index(before: end) }
    return self[startIndex..<end]
  }

  fileprivate var trimmedEnd: Substring { trimmingSuffix(while: \.isWhitespace) }
}
