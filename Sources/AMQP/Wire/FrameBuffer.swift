/// Bytes from the broker on their way to becoming frames.
///
/// A frame is: type (1 byte), channel (2), size (4), payload, and the byte 0xCE.
/// https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §4.2.3
struct FrameBuffer {
  enum FrameType: UInt8 {
    case method = 1
    case header = 2
    case body = 3
    case heartbeat = 8
  }

  struct Frame: Equatable {
    var type: FrameType
    var channel: UInt16
    /// Where the payload lies in ``FrameBuffer/bytes``.
    var payload: Range<Int>
  }

  /// Frames larger than this are taken for garbage. The negotiated limit (``negotiatedFrame`` at the most) is no bound
  /// for what a broker sends: a header is not cut to it, and dead-lettering lets headers grow.
  static let largestFrame = 4 << 20
  /// The largest frame, with the 8 bytes around its payload, that we let a broker send: well below what is taken for
  /// garbage, whatever `frame_max` the broker has, and small enough for its buffer.
  static let negotiatedFrame: UInt32 = 1 << 20
  /// A broker may not ask for less. https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §1.2, frame-min-size
  static let smallestFrame: UInt32 = 4096
  /// Methods keep to RabbitMQ's default frame limit: nothing makes them grow.
  static let largestMethod = 131_072
  /// One read takes up to this much, unless the settings say less.
  static let usualReadSize = 256 << 10

  /// One read takes up to this much; the buffer is usually twice as large.
  private let readSize: Int
  private(set) var bytes: [UInt8]
  private var start = 0
  private var end = 0

  init(readSize: Int = FrameBuffer.usualReadSize) {
    self.readSize = readSize
    bytes = [UInt8](repeating: 0, count: readSize * 2)
  }

  /// Nothing has been read yet, or everything was used.
  var isEmpty: Bool { start == end }

  /// The unread bytes, for telling what a peer is that speaks something else.
  var unread: ArraySlice<UInt8> { bytes[start..<end] }

  /// Takes the next whole frame off the front; nil if it is not all there yet.
  ///
  /// - Throws: `.malformed` if the bytes are no frame.
  mutating func next() throws(AMQPError) -> Frame? {
    guard end - start >= 7 else { return nil }
    let size =
      Int(bytes[start + 3]) << 24 | Int(bytes[start + 4]) << 16 | Int(bytes[start + 5]) << 8 | Int(bytes[start + 6])
    guard let type = FrameType(rawValue: bytes[start]) else {
      throw AMQPError(.malformed(text: "a frame of unknown type \(bytes[start])"), during: "reading a frame")
    }
    // rabbitmq-c decodes the tables of methods by recursion: no more than a stack holds, whatever a peer sends.
    guard size <= (type == .method ? Self.largestMethod : Self.largestFrame) else {
      throw AMQPError(.malformed(text: "a frame of \(size) bytes"), during: "reading a frame")
    }
    // Nothing else may stand in a heartbeat. https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §4.2.7
    guard size == 0 || type != .heartbeat else {
      throw AMQPError(.malformed(text: "a heartbeat with \(size) bytes"), during: "reading a frame")
    }
    guard end - start >= size + 8 else { return nil }
    guard bytes[start + 7 + size] == 0xCE else {
      throw AMQPError(.malformed(text: "a frame without its end octet"), during: "reading a frame")
    }
    let frame = Frame(
      type: type, channel: UInt16(bytes[start + 1]) << 8 | UInt16(bytes[start + 2]),
      payload: start + 7..<start + 7 + size)
    start += size + 8
    return frame
  }

  /// Lets `read` put bytes after those that are there; it returns how many. Frames taken before are void after this.
  mutating func fill<Result>(
    _ read: (UnsafeMutableRawBufferPointer) throws(AMQPError) -> (count: Int, result: Result)
  ) throws(AMQPError) -> Result {
    if start == end {
      start = 0
      end = 0
      // What a rare large frame needed is not kept for the ordinary ones.
      if bytes.count > readSize * 8 { bytes = [UInt8](repeating: 0, count: readSize * 2) }
    } else if bytes.count - end < readSize {
      unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
      }
      end -= start
      start = 0
      if bytes.count - end < readSize { bytes.append(contentsOf: repeatElement(0, count: bytes.count)) }
    }
    var failure: AMQPError?
    let (tail, readSize) = (end, readSize)
    let outcome: (count: Int, result: Result)? = unsafe bytes.withUnsafeMutableBytes { buffer in
      do throws(AMQPError) {
        return unsafe try read(UnsafeMutableRawBufferPointer(rebasing: buffer[tail...].prefix(readSize)))
      } catch {
        failure = error
        return nil
      }
    }
    guard let outcome else { throw failure! }
    end += outcome.count
    return outcome.result
  }

  /// Appends a frame around `payload` to `output`.
  static func append(_ type: FrameType, channel: UInt16, payload: [UInt8], to output: inout [UInt8]) {
    output.append(type.rawValue)
    output.append(contentsOf: [UInt8(channel >> 8), UInt8(channel & 0xFF)])
    let size = payload.count
    output.append(contentsOf: [
      UInt8(size >> 24), UInt8(size >> 16 & 0xFF), UInt8(size >> 8 & 0xFF), UInt8(size & 0xFF),
    ])
    output.append(contentsOf: payload)
    output.append(0xCE)
  }
}
