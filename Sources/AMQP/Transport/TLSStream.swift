// TLS over our own non-blocking socket, with OpenSSL.
//
// Duty: encrypt and decrypt what `Connection` reads and writes, verify the broker inside the handshake, present our own
// certificate, and say what failed in words that name the setting to change.
//
// Invariants
//   - Nothing here blocks but the handshake, which ends at its deadline. OpenSSL reaches the socket only through
//     `TLSTransport`, so that no write raises SIGPIPE and every errno is kept.
//   - The broker is verified, chain and name, before a byte of AMQP goes out; `verify: false` verifies nothing.
//   - Keys and certificates come as text and stay in memory. No message quotes any of it but a certificate's subject.
//   - In TLS 1.3 a broker that refuses our certificate says so after the handshake is over for us: the alert comes with
//     the first read, and is reported just like one during the handshake. https://www.rfc-editor.org/rfc/rfc8446#section-2
//   - After an error the stream is over. Its end sends `close_notify` as far as the socket takes it.
internal import COpenSSL
internal import Glibc
internal import Platform

/// The one owner of an OpenSSL connection (`SSL`); freed exactly once.
///
/// Safe because the pointer stays inside, the transport that OpenSSL calls back lives as long as this object, and
/// buffers are used only during a call. Belongs to one thread, like the connection that owns it: OpenSSL's error queue
/// is the thread's.
@safe final class TLSStream: ByteStream {
  let socket: Socket
  private let ssl: OpaquePointer
  private let transport: TLSTransport
  private let verification: TLSVerification
  private let presentsCertificate: Bool
  /// What a read waits for, `POLLIN` or `POLLOUT`: OpenSSL may have to write in order to read, and the other way round.
  private var readNeeds = Int16(POLLIN)
  private var writeNeeds = Int16(POLLOUT)
  /// An error that came after bytes which were already read; the next read reports it.
  private var readFailure: AMQPError?
  /// A write that failed; a first one is kept back, see ``write(_:)``.
  private var writeFailure: AMQPError?
  /// Neither may be used any more, also not for a goodbye.
  private var broken = false

  var descriptor: Int32 { socket.descriptor }

  /// Shakes hands and verifies the peer.
  ///
  /// - Parameter node: Verified by its own name, unless the settings have another one.
  /// - Parameter deadline: On ``SystemClock/now()``.
  /// - Parameter isAbandoned: As ``ConnectionSettings/isAbandoned``; a handshake that it ends throws `.timedOut`.
  /// - Throws: `.tls` for everything that a setting or a certificate is the cause of, `.timedOut`, `.notAMQP` if the peer
  ///   speaks no TLS, `.endOfStream` and `.socket` if it hung up.
  init(
    _ socket: Socket, _ settings: TLSSettings, node: BrokerNode, deadline: Instant, isAbandoned: () -> Bool = { false }
  )
    throws(AMQPError)
  {
    let operation = "connecting to \(node.text)"
    let context = try TLSContext.make(settings, during: operation)
    let transport = TLSTransport(socket)
    let verification = TLSVerification(settings, host: node.host)
    self.socket = socket
    self.transport = transport
    self.verification = verification
    presentsCertificate = settings.certificateChain != nil
    unsafe ssl = try context.connection(over: transport, verification, during: operation)
    do throws(AMQPError) {
      try shakeHands(until: deadline, isAbandoned)
    } catch {
      broken = true
      if case .tls = error.kind { throw AMQPError(error.kind, during: operation) }
      throw AMQPError(error.kind, during: operation + " (TLS handshake)")
    }
  }

  deinit {
    // Once, without waiting for the answer: AMQP has said goodbye before.
    if !broken { unsafe _ = SSL_shutdown(ssl) }
    ERR_clear_error()
    unsafe SSL_free(ssl)
  }

  private func shakeHands(until deadline: Instant, _ isAbandoned: () -> Bool) throws(AMQPError) {
    while true {
      ERR_clear_error()
      let status = unsafe SSL_connect(ssl)
      if status == 1 { return }
      let needs: Int16
      switch unsafe SSL_get_error(ssl, status) {
      case SSL_ERROR_WANT_READ: needs = Int16(POLLIN)
      case SSL_ERROR_WANT_WRITE: needs = Int16(POLLOUT)
      case let code: throw failure(code, "the TLS handshake", during: "shaking hands")
      }
      guard socket.wait(for: needs, until: deadline, isAbandoned: isAbandoned) else {
        throw AMQPError(.timedOut, during: "shaking hands")
      }
    }
  }

  /// Reads until `buffer` is full or nothing is there: OpenSSL gives one record, at most 16 KiB, a call.
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(AMQPError) -> Socket.Progress {
    if let readFailure { throw readFailure }
    var count = 0
    repeat {
      ERR_clear_error()
      var read = 0
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[count...])
      let status = unsafe SSL_read_ex(ssl, rest.baseAddress, rest.count, &read)
      if status == 1 {
        count += read
        readNeeds = Int16(POLLIN)
        continue
      }
      switch unsafe SSL_get_error(ssl, status) {
      case SSL_ERROR_WANT_READ: readNeeds = Int16(POLLIN)
      case SSL_ERROR_WANT_WRITE: readNeeds = Int16(POLLOUT)
      case SSL_ERROR_ZERO_RETURN:
        return count > 0 ? .bytes(count) : .endOfStream
      case let code:
        broken = true
        let failure = failure(code, "", during: "reading from the broker")
        if count > 0 {
          readFailure = failure
          return .bytes(count)
        }
        // A broker that goes without close_notify is gone all the same; AMQP has its own goodbye, so nothing is cut off
        // unnoticed.
        if case .endOfStream = failure.kind { return .endOfStream }
        throw failure
      }
      return count > 0 ? .bytes(count) : .wouldBlock
    } while unsafe count < buffer.count && SSL_has_pending(ssl) == 1
    return .bytes(count)
  }

  /// Writes what the socket takes.
  ///
  /// A broker that refused our certificate has closed the connection, and why stands in an alert that is still to be read.
  /// So the first failure of the socket shows as `.wouldBlock`, which lets the caller read; the next call throws it.
  func write(_ buffer: UnsafeRawBufferPointer) throws(AMQPError) -> Socket.Progress {
    if let writeFailure { throw writeFailure }
    ERR_clear_error()
    var count = 0
    let status = unsafe SSL_write_ex(ssl, buffer.baseAddress, buffer.count, &count)
    if status == 1 {
      writeNeeds = Int16(POLLOUT)
      return .bytes(count)
    }
    switch unsafe SSL_get_error(ssl, status) {
    case SSL_ERROR_WANT_READ: writeNeeds = Int16(POLLIN)
    case SSL_ERROR_WANT_WRITE: writeNeeds = Int16(POLLOUT)
    case let code:
      broken = true
      writeFailure = failure(code, "", during: "writing to the broker")
    }
    return .wouldBlock
  }

  func interest(in events: Int16) -> Int16 {
    var needs: Int16 = 0
    if events & Int16(POLLIN) != 0 { needs |= readNeeds }
    if events & Int16(POLLOUT) != 0 { needs |= writeNeeds }
    return needs
  }

  func wait(for events: Int16, until deadline: Instant) -> Bool {
    socket.wait(for: interest(in: events), until: deadline)
  }

  /// The error for a status of OpenSSL that is no request to wait.
  ///
  /// - Parameter place: Where the peer hung up, for the hint; empty if that goes without saying.
  private func failure(_ code: Int32, _ place: String, during operation: String) -> AMQPError {
    if code == SSL_ERROR_SYSCALL {
      if let failure = transport.failure { return AMQPError(failure.kind, during: operation) }
      let hint = place.isEmpty ? "" : "during \(place); the broker's log tells why"
      return AMQPError(.endOfStream(hint: hint), during: operation)
    }
    if code == SSL_ERROR_ZERO_RETURN {
      return AMQPError(.endOfStream(hint: "during \(place); the broker's log tells why"), during: operation)
    }
    if let problem = verification.problem { return AMQPError(.tls(text: problem), during: operation) }
    let error = TLSLibraryError.take()
    // What is no TLS record shows as a wrong version number; the bytes themselves tell more.
    if transport.firstBytes.starts(with: Array("AMQP".utf8)) {
      return AMQPError(
        .tls(text: "the broker answered without TLS: this is its plain AMQP port. \(Self.plainAdvice)"),
        during: operation)
    }
    if let first = transport.firstBytes.first, !(20...24).contains(first) {
      return AMQPError(
        .tls(text: "the peer does not speak TLS (\(error.text)). \(Self.plainAdvice)"), during: operation)
    }
    return AMQPError(.tls(text: error.explained(withCertificate: presentsCertificate)), during: operation)
  }

  private static let plainAdvice = "Correct port (TLS is usually on 5671), or set tls.enabled: false"
}
