import CZlib

/// Decompresses DEFLATE (RFC 1951), bare or in a gzip (RFC 1952) or zlib (RFC 1950) wrapper, up to a bound, by zlib
/// (https://zlib.net/manual.html).
///
/// Bodies come from anybody: any input is either decompressed as a whole, with its checksum confirmed, or refused. Output never exceeds the
/// bound, and time is proportional to input and output.
@safe struct BodyInflate: ~Copyable {
  enum Failure: Error, Equatable {
    /// The input ends too early.
    case truncated
    /// The input is not of the format, or a checksum differs, or something follows its end.
    case invalid
    /// The output would exceed the bound.
    case tooLarge
  }

  /// What stands around the compressed bytes, as `windowBits` of zlib has it.
  private enum Wrapper: Int32 {
    case gzip = 31
    case zlib = 15
    case none = -15
  }

  /// Appends what the gzip file `bytes` holds (one or more members, nothing after them).
  ///
  /// - Parameter limit: Most bytes appended. After a failure some may have been.
  static func gunzip(_ bytes: Span<UInt8>, limit: Int, to out: inout [UInt8]) throws(Failure) {
    let end = out.count + limit
    var stream = BodyInflate(.gzip)
    var index = 0
    repeat {
      index += try stream.run(bytes.extracting(index...), limit: end, to: &out)
      unsafe inflateReset(stream.state)
    } while index < bytes.count
  }

  /// Appends what the zlib stream `bytes` holds; if it is none, tries it as bare DEFLATE, which many servers and
  /// clients mean by `deflate` (RFC 9110, 8.4.1.2).
  ///
  /// - Parameter limit: Most bytes appended. After a failure some may have been.
  static func inflate(_ bytes: Span<UInt8>, limit: Int, to out: inout [UInt8]) throws(Failure) {
    let start = out.count
    do throws(Failure) {
      return try whole(bytes, .zlib, limit: start + limit, to: &out)
    } catch {
      if error == .tooLarge { throw error }
    }
    out.removeLast(out.count - start)
    try whole(bytes, .none, limit: start + limit, to: &out)
  }

  private static func whole(
    _ bytes: Span<UInt8>, _ wrapper: Wrapper, limit: Int, to out: inout [UInt8]
  ) throws(Failure) {
    var stream = BodyInflate(wrapper)
    guard try stream.run(bytes, limit: limit, to: &out) == bytes.count else { throw .invalid }
  }

  /// Between two looks at the bound.
  private static let chunkBytes = 64 << 10

  private let state: UnsafeMutablePointer<z_stream>

  private init(_ wrapper: Wrapper) {
    unsafe state = .allocate(capacity: 1)
    unsafe state.initialize(to: z_stream())
    // It only fails for want of some 40 KiB of memory, or with another library than it was built with.
    let status = unsafe inflateInit2_(state, wrapper.rawValue, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    precondition(status == Z_OK, "zlib could not begin")
  }

  deinit {
    unsafe inflateEnd(state)
    unsafe state.deallocate()
  }

  /// Appends one stream's content.
  ///
  /// - Parameter limit: Count of `out` that must not be exceeded.
  /// - Returns: How many bytes of the input the stream has.
  private mutating func run(_ bytes: Span<UInt8>, limit: Int, to out: inout [UInt8]) throws(Failure) -> Int {
    guard let count = UInt32(exactly: bytes.count) else { throw .tooLarge }
    var status = Z_OK
    // The pointers are used only while the spans are held; zlib does not keep what they point to.
    unsafe bytes.withUnsafeBufferPointer { input in
      unsafe state.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
      unsafe state.pointee.avail_in = count
      while status == Z_OK, out.count <= limit {
        // One more than may be: whether there is more shows only if there is room for it.
        let room = min(Self.chunkBytes, limit - out.count + 1)
        out.append(addingCapacity: room) { output in
          unsafe output.withUnsafeMutableBufferPointer { buffer, written in
            unsafe state.pointee.next_out = buffer.baseAddress?.advanced(by: written)
            unsafe state.pointee.avail_out = UInt32(room)
            status = unsafe CZlib.inflate(state, Z_NO_FLUSH)
            written += room - Int(unsafe state.pointee.avail_out)
          }
        }
      }
      unsafe state.pointee.next_in = nil
    }
    if out.count > limit { throw .tooLarge }
    switch status {
    case Z_STREAM_END: return bytes.count - Int(unsafe state.pointee.avail_in)
    // All of the input is used, and the stream goes on.
    case Z_BUF_ERROR: throw .truncated
    default: throw .invalid
    }
  }
}
