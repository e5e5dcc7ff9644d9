import Glibc

/// The time in answers of HTTP, `Mon, 30 Nov 2026 02:28:30 GMT`. https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
enum HTTPDate {
  static func now() -> String { text(time(nil)) }

  /// - Parameter seconds: Since 1970.
  static func text(_ seconds: Int) -> String {
    var seconds = seconds
    var parts = unsafe tm()
    var text = [UInt8](repeating: 0, count: 40)
    // The process's locale is C, so names are English.
    let count = unsafe text.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress, unsafe gmtime_r(&seconds, &parts) != nil else { return 0 }
      return unsafe strftime(
        base.assumingMemoryBound(to: CChar.self), buffer.count, "%a, %d %b %Y %H:%M:%S GMT", &parts)
    }
    return String(decoding: text[..<count], as: UTF8.self)
  }
}
