/// What may be shown of a text that people, files or a broker wrote.
///
/// What is shown of the configuration:
/// - names, wherever they come from: host, port, virtual host, user name, queue, exchange, routing key, the names of
///   arguments, file paths, names of environment variables;
/// - never the value of a setting marked `secret`, PEM text, or the value of a setting that has a problem and came from
///   the environment or a file;
/// - never what has the shape of credentials, wherever it stands: the user information and the query of a URL, `user:password@` in
///   front of a host, a JSON web token, PEM text. Someone who pastes a whole address into `host`, `port` or
///   `queue.name` must not find the password in a log.
///
/// The settings table refuses such values for names (``holdsCredentials(_:)``), wordings of problems show single values by
/// ``value(_:)``, and whatever goes into a log, a status or onto the page passes ``text(_:)`` last.
enum Disclosure {
  /// What stands in the place of what is not shown.
  static let hidden = Secret.hidden

  /// Whether a name is none: a URL with user information, `user:password@host`, PEM text, or a token.
  static func holdsCredentials(_ value: String) -> Bool {
    value.contains(PEMSource.marker)
      || value.split(whereSeparator: isDelimiter).contains { isToken($0) || login(in: $0) != nil }
      || userInformation(in: value)
  }

  /// A single value from outside, all of which is one thing: what stands before its last `@` may be a password with any
  /// characters in it.
  static func value(_ value: String) -> String {
    if value.contains(PEMSource.marker) { return hidden }
    guard let at = value.lastIndex(of: "@") else { return text(value) }
    let before = value[..<at]
    let scheme = before.firstRange(of: "://")
    guard scheme != nil || before.contains(":") else { return text(value) }
    let start = scheme.map { before[..<$0.upperBound] } ?? ""
    let host = value[at...].prefix { $0 != "?" }
    return start + hidden + text(String(host)) + (host.endIndex < value.endIndex ? "?" + hidden : "")
  }

  /// A key from outside, up to where a value begins that was written into it by mistake: `password:hunter2`.
  static func key(_ key: String) -> String {
    let end = key.firstIndex { $0 == ":" || $0 == "=" || $0 == " " } ?? key.endIndex
    return end == key.endIndex ? value(key) : key[..<end] + "…"
  }

  /// A running text, with everything hidden in it that has the shape of credentials.
  static func text(_ text: String) -> String {
    var result = text
    if text.contains(PEMSource.marker) { result = withoutPEM(result) }
    if text.contains("://") || text.contains("eyJ") || text.contains("@") && text.contains(":") || text.contains("=") {
      var shown = ""
      var word = ""
      for character in result {
        if isDelimiter(character) {
          shown += self.word(word)
          shown.append(character)
          word = ""
        } else {
          word.append(character)
        }
      }
      result = shown + self.word(word)
    }
    return result
  }

  /// The same, with a secret that someone may echo hidden as well. A short one is a word that occurs by itself.
  static func text(_ text: String, hiding secret: Secret) -> String {
    guard secret.value.utf8.count >= shortest else { return Disclosure.text(text) }
    return Disclosure.text(text.replacing(secret.value, with: hidden))
  }

  private static let shortest = 6

  /// Where a URL or a token ends in a running text.
  private static func isDelimiter(_ character: Character) -> Bool {
    character.isWhitespace || character == "\"" || character == "'" || character == "\\"
  }

  private static func word(_ word: String) -> String {
    guard let scheme = word.firstRange(of: "://") else {
      return isToken(word[...]) ? hidden : withoutAssignment(withoutLogin(word))
    }
    let start = scheme.upperBound
    var rest = word[start...]
    let query = rest.firstIndex(of: "?")
    // A password may hold a question mark; then what is before it is hidden anyway.
    let at = rest.lastIndex(of: "@")
    guard query != nil || at != nil else { return word }
    var result = String(word[..<start])
    if let at {
      result += hidden
      rest = rest[at...]
    }
    if let query = rest.firstIndex(of: "?") { return result + rest[..<query] + "?" + hidden }
    return result + rest
  }

  /// What stands before a colon in names of people and rooms. https://www.iana.org/assignments/uri-schemes
  private static let schemes: Set = ["sip", "sips", "mailto", "xmpp", "acct", "im", "pres"]

  /// Where the password stands in `user:password@host`; nil if a word is none.
  private static func login(in word: some StringProtocol) -> Range<String.Index>? {
    guard let at = word.lastIndex(of: "@"), let colon = word[..<at].firstIndex(of: ":"), colon > word.startIndex,
      word.index(after: colon) < at, word.index(after: at) < word.endIndex,
      !schemes.contains(word[..<colon].lowercased())
    else { return nil }
    return word.index(after: colon)..<at
  }

  private static func withoutLogin(_ word: String) -> String {
    guard let password = login(in: word) else { return word }
    return word[..<password.lowerBound] + hidden + word[password.upperBound...]
  }

  /// Words before `=` whose value is a secret, as in the query of an address.
  private static let assigned = ["password=", "passwd=", "pass=", "pwd=", "secret=", "token=", "auth="]

  /// `password=…`, up to an ampersand.
  private static func withoutAssignment(_ word: String) -> String {
    let folded = word.lowercased()
    guard folded.utf8.count == word.utf8.count,
      let found = assigned.compactMap({ folded.firstRange(of: $0) }).min(by: { $0.lowerBound < $1.lowerBound }),
      found.upperBound < folded.endIndex
    else { return word }
    let start = word.utf8.index(
      word.startIndex, offsetBy: folded.utf8.distance(from: folded.startIndex, to: found.upperBound))
    let rest = word[start...].drop { $0 != "&" }
    return word[..<start] + hidden + withoutAssignment(String(rest))
  }

  /// A user and a password in a URL. A user alone (`sip:` and the like) is no secret in a name.
  private static func userInformation(in value: String) -> Bool {
    guard let scheme = value.firstRange(of: "://"), let at = value[scheme.upperBound...].lastIndex(of: "@") else {
      return false
    }
    return value[scheme.upperBound..<at].contains(":")
  }

  /// Three parts in base64url, the first of which begins with `{"`. https://www.rfc-editor.org/rfc/rfc7519#section-3
  private static func isToken(_ word: some StringProtocol) -> Bool {
    guard let start = word.firstRange(of: "eyJ") else { return false }
    return word[start.lowerBound...].count { $0 == "." } >= 2
  }

  /// Each block from its first line to the last one, or to the end of the text if that is missing.
  private static func withoutPEM(_ text: String) -> String {
    var result = ""
    var rest = text[...]
    while let begin = rest.firstRange(of: "\(PEMSource.marker) ") {
      let label = rest[begin.upperBound...]
      // A lower-case word is one about PEM text; labels are upper-case.
      if label.prefix(while: { !$0.isWhitespace }).allSatisfy(\.isLowercase) {
        result += rest[..<begin.upperBound]
        rest = label
        continue
      }
      result += rest[..<begin.lowerBound] + hidden
      guard let end = label.firstRange(of: "-----END ") else { return result }
      let tail = label[end.upperBound...]
      rest = tail.firstRange(of: "-----").map { tail[$0.upperBound...] } ?? tail[tail.endIndex...]
    }
    return result + rest
  }
}
