/// The character encoding of a body's text, and its way to UTF-8.
///
/// What `content_type` or `content_encoding` says counts, else a byte order mark, else it is UTF-8. A byte order mark is no
/// part of the text (RFC 8259 §8.1 lets a JSON reader ignore it; RFC 2781 §3.2 for UTF-16).
enum BodyCharset: Equatable {
  case utf8
  /// By its mark, big-endian without one.
  case utf16
  case utf16LittleEndian
  case utf16BigEndian
  /// ISO-8859-1: each byte is the code point.
  case latin1

  /// - Parameter name: Lower case. Nil if the name is not known; then the bytes decide.
  init?(name: String) {
    switch name {
    case "utf-8", "utf8", "us-ascii", "ascii": self = .utf8
    case "utf-16", "utf16": self = .utf16
    case "utf-16le", "utf16le": self = .utf16LittleEndian
    case "utf-16be", "utf16be": self = .utf16BigEndian
    case "iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "latin-1", "l1": self = .latin1
    default: return nil
    }
  }

  /// Where a text's UTF-8 is.
  enum Source: Equatable {
    /// In the bytes themselves, from this one on.
    case bytes(from: Int)
    /// In what was appended.
    case transcoded
  }

  /// The text's UTF-8. Whether `.bytes` really are UTF-8 is not looked at.
  ///
  /// - Returns: Nil if the bytes are not of that encoding.
  static func text(of bytes: Span<UInt8>, _ charset: BodyCharset?, into out: inout [UInt8]) -> Source? {
    func begins(_ mark: UInt8...) -> Bool {
      bytes.count >= mark.count && mark.indices.allSatisfy { bytes[$0] == mark[$0] }
    }
    switch charset {
    case .latin1:
      out.removeAll(keepingCapacity: true)
      out.reserveCapacity(bytes.count)
      for index in bytes.indices { appendScalar(UInt32(bytes[index]), to: &out) }
      return .transcoded
    case .utf16LittleEndian:
      return appendUTF16(bytes, from: begins(0xFF, 0xFE) ? 2 : 0, little: true, to: &out) ? .transcoded : nil
    case .utf16BigEndian:
      return appendUTF16(bytes, from: begins(0xFE, 0xFF) ? 2 : 0, little: false, to: &out) ? .transcoded : nil
    case .utf16 where !begins(0xFF, 0xFE) && !begins(0xFE, 0xFF):
      return appendUTF16(bytes, from: 0, little: false, to: &out) ? .transcoded : nil
    case .utf16, .utf8, nil:
      if begins(0xEF, 0xBB, 0xBF) { return .bytes(from: 3) }
      // Two bytes alone that no one declared are no empty text.
      guard charset == .utf16 || charset == nil && bytes.count > 2, begins(0xFF, 0xFE) || begins(0xFE, 0xFF)
      else { return .bytes(from: 0) }
      return appendUTF16(bytes, from: 2, little: bytes[0] == 0xFF, to: &out) ? .transcoded : nil
    }
  }

  /// Appends UTF-16 as UTF-8 instead of what `out` holds; false if it is none (a lone surrogate, an odd byte).
  private static func appendUTF16(_ bytes: Span<UInt8>, from start: Int, little: Bool, to out: inout [UInt8]) -> Bool {
    out.removeAll(keepingCapacity: true)
    guard (bytes.count - start) % 2 == 0 else { return false }
    out.reserveCapacity((bytes.count - start) / 2 * 3)
    func unit(_ index: Int) -> UInt32 {
      little
        ? UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8 : UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
    }
    var index = start
    while index < bytes.count {
      let first = unit(index)
      index += 2
      switch first {
      case 0xD800...0xDBFF:
        guard index < bytes.count, case let second = unit(index), (0xDC00...0xDFFF).contains(second) else {
          return false
        }
        index += 2
        appendScalar(0x1_0000 + (first - 0xD800) << 10 + (second - 0xDC00), to: &out)
      case 0xDC00...0xDFFF: return false
      default: appendScalar(first, to: &out)
      }
    }
    return true
  }

  private static func appendScalar(_ scalar: UInt32, to out: inout [UInt8]) {
    func tail(_ shift: UInt32) -> UInt8 { UInt8(0x80 | scalar >> shift & 0x3F) }
    switch scalar {
    case 0..<0x80: out.append(UInt8(scalar))
    case 0x80..<0x800:
      out.append(UInt8(0xC0 | scalar >> 6))
      out.append(tail(0))
    case 0x800..<0x1_0000:
      out.append(UInt8(0xE0 | scalar >> 12))
      out.append(tail(6))
      out.append(tail(0))
    default:
      out.append(UInt8(0xF0 | scalar >> 18))
      out.append(tail(12))
      out.append(tail(6))
      out.append(tail(0))
    }
  }
}
