internal import COpenSSL

/// Carries OpenSSL's records over a ``Socket``: a BIO of our own in place of OpenSSL's, whose writes would raise SIGPIPE
/// and whose errors lose their errno.
///
/// Safe because the BIO holds an unretained reference that the owner of both, ``TLSStream``, keeps alive longer.
@safe final class TLSTransport {
  let socket: Socket
  /// Why the socket failed last; nil if it only ended.
  private(set) var failure: AMQPError?
  /// How the peer's first answer begins, for telling what it is that speaks no TLS.
  private(set) var firstBytes: [UInt8] = []

  init(_ socket: Socket) { self.socket = socket }

  /// A BIO over this transport; its taker frees it.
  func makeBIO() -> OpaquePointer? {
    guard let method = unsafe Self.method, let bio = unsafe BIO_new(method) else { return nil }
    unsafe BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    unsafe BIO_set_init(bio, 1)
    return unsafe bio
  }

  /// Made once, never changed, never freed.
  private nonisolated(unsafe) static let method: OpaquePointer? = unsafe makeMethod()

  private static func makeMethod() -> OpaquePointer? {
    // 0x400 is BIO_TYPE_SOURCE_SINK.
    guard let method = unsafe BIO_meth_new(BIO_get_new_index() | 0x400, "source-amqp socket") else { return nil }
    unsafe BIO_meth_set_read(method) { bio, buffer, size in
      guard let bio = unsafe bio, let buffer = unsafe buffer, size > 0 else { return -1 }
      unsafe BIO_clear_flags(bio, TLSTransport.retry | BIO_FLAGS_READ | BIO_FLAGS_WRITE)
      let target = unsafe UnsafeMutableRawBufferPointer(start: buffer, count: Int(size))
      switch unsafe TLSTransport.transport(of: bio)?.receive(into: target) {
      case .bytes(let count): return Int32(count)
      case .wouldBlock:
        unsafe BIO_set_flags(bio, TLSTransport.retry | BIO_FLAGS_READ)
        return -1
      case .endOfStream: return 0
      case nil: return -1
      }
    }
    unsafe BIO_meth_set_write(method) { bio, buffer, size in
      guard let bio = unsafe bio, let buffer = unsafe buffer, size > 0 else { return -1 }
      unsafe BIO_clear_flags(bio, TLSTransport.retry | BIO_FLAGS_READ | BIO_FLAGS_WRITE)
      let source = unsafe UnsafeRawBufferPointer(start: buffer, count: Int(size))
      guard case .bytes(let count) = unsafe TLSTransport.transport(of: bio)?.send(source) else {
        if unsafe TLSTransport.transport(of: bio)?.failure == nil {
          unsafe BIO_set_flags(bio, TLSTransport.retry | BIO_FLAGS_WRITE)
        }
        return -1
      }
      return Int32(count)
    }
    // Nothing is buffered here, so a flush has nothing to do; every other control is not known.
    unsafe BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    return unsafe method
  }

  private static let retry = BIO_FLAGS_SHOULD_RETRY

  private static func transport(of bio: OpaquePointer) -> TLSTransport? {
    guard let data = unsafe BIO_get_data(bio) else { return nil }
    return unsafe Unmanaged<TLSTransport>.fromOpaque(data).takeUnretainedValue()
  }

  private func receive(into buffer: UnsafeMutableRawBufferPointer) -> Socket.Progress? {
    do throws(AMQPError) {
      let progress = unsafe try socket.read(into: buffer)
      if firstBytes.isEmpty, case .bytes(let count) = progress {
        unsafe firstBytes = Array(buffer.prefix(min(count, 8)))
      }
      return progress
    } catch {
      failure = error
      return nil
    }
  }

  private func send(_ buffer: UnsafeRawBufferPointer) -> Socket.Progress? {
    do throws(AMQPError) {
      return unsafe try socket.write(buffer)
    } catch {
      failure = error
      return nil
    }
  }
}
