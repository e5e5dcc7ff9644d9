/// The properties of a message, decoded from the block that a content header carries after the body's size.
///
/// The block is a word of flags, one bit for each property from the highest down, then the properties that are there,
/// in the same order (AMQP 0-9-1, 4.2.6.1; the properties: class `basic`, 1.8.2). Decoding allocates nothing: strings
/// and headers are ranges into the block. What a range holds may be any bytes; the broker checks nothing in it. The
/// headers are only delimited here; reading them with ``FieldTable`` can still find them malformed.
public struct BasicProperties: Equatable, Sendable {
  /// A MIME type, such as `application/json`; where its bytes lie, as of the other texts.
  public var contentType: Range<Int>?
  /// How the body is compressed, such as `gzip`.
  public var contentEncoding: Range<Int>?
  /// The content of the headers table, without its length.
  public var headers: Range<Int>?
  /// 1: not persistent; 2: persistent.
  public var deliveryMode: UInt8?
  /// 0…9 by AMQP; RabbitMQ allows 0…255.
  public var priority: UInt8?
  /// What a reply answers.
  public var correlationID: Range<Int>?
  /// The queue for replies.
  public var replyTo: Range<Int>?
  /// A TTL in milliseconds, in decimal digits.
  public var expiration: Range<Int>?
  /// The publisher's name for the message.
  public var messageID: Range<Int>?
  /// Seconds since 1970, by the specification; some publishers send milliseconds.
  public var timestamp: UInt64?
  /// The publisher's name for the kind of message.
  public var type: Range<Int>?
  /// The user who published it, checked by the broker.
  public var userID: Range<Int>?
  /// The application that published it.
  public var appID: Range<Int>?
  /// Deprecated by AMQP 0-9-1.
  public var clusterID: Range<Int>?

  /// Decodes `block` as a whole.
  ///
  /// - Throws: `truncated` also for a block of fewer than two bytes; `unknownFlags` for a flag that class `basic` does
  ///   not define, in a continued flags word too; `trailingBytes` for anything after the last property.
  public init(block: Span<UInt8>) throws(FieldError) {
    var reader = FieldReader(0..<block.count, of: block)
    let flags: UInt16 = try reader.integer(block)
    // Bit 1 is no property of `basic`.
    guard flags & 0b10 == 0 else { throw FieldError(kind: .unknownFlags, offset: 0) }
    // Bit 0 says that another word follows. RabbitMQ refuses that; an empty one would mean nothing.
    var continues = flags & 1 != 0
    while continues {
      let offset = reader.index
      let further: UInt16 = try reader.integer(block)
      guard further & ~1 == 0 else { throw FieldError(kind: .unknownFlags, offset: offset) }
      continues = further & 1 != 0
    }
    if flags & 1 << 15 != 0 { contentType = try reader.shortString(block) }
    if flags & 1 << 14 != 0 { contentEncoding = try reader.shortString(block) }
    if flags & 1 << 13 != 0 { headers = try reader.long(block) }
    if flags & 1 << 12 != 0 { deliveryMode = try reader.integer(block) }
    if flags & 1 << 11 != 0 { priority = try reader.integer(block) }
    if flags & 1 << 10 != 0 { correlationID = try reader.shortString(block) }
    if flags & 1 << 9 != 0 { replyTo = try reader.shortString(block) }
    if flags & 1 << 8 != 0 { expiration = try reader.shortString(block) }
    if flags & 1 << 7 != 0 { messageID = try reader.shortString(block) }
    if flags & 1 << 6 != 0 { timestamp = try reader.integer(block) }
    if flags & 1 << 5 != 0 { type = try reader.shortString(block) }
    if flags & 1 << 4 != 0 { userID = try reader.shortString(block) }
    if flags & 1 << 3 != 0 { appID = try reader.shortString(block) }
    if flags & 1 << 2 != 0 { clusterID = try reader.shortString(block) }
    guard reader.isAtEnd else { throw FieldError(kind: .trailingBytes, offset: reader.index) }
  }
}
