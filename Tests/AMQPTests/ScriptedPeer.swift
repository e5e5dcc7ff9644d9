import Glibc
import Platform
import Synchronization

@testable import AMQP

/// A listener on the loopback that plays one written conversation: for how the client frames its side, and what it says
/// about peers that are no broker. What a broker decides is tested against a broker.
final class ScriptedPeer: Sendable {
  enum Step: Sendable {
    /// Reads the protocol header, 8 bytes.
    case readHeader
    /// Reads one frame, whatever it is.
    case readFrame
    case send([UInt8])
    /// The same, each byte by itself.
    case dribble([UInt8])
    /// Reads until the client closes.
    case drain
    /// Ends our side; the client can go on sending.
    case end
    /// Closes so that the client sees a reset.
    case reset
  }

  /// What the client is told to connect to.
  let port: Int
  private let received = Mutex<[[UInt8]]>([])
  private let listener: Int32

  /// Listens, and plays `steps` to the first who connects; after the last step it closes.
  init(_ steps: [Step]) throws {
    listener = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = listener
    let bound = unsafe withUnsafeMutablePointer(to: &address) { place in
      unsafe place.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        unsafe bind(descriptor, raw, size) == 0 && listen(descriptor, 1) == 0
          && getsockname(descriptor, raw, &size) == 0
      }
    }
    guard bound else { throw AMQPError(.socket(code: errno, text: systemText(errno)), during: "listening") }
    port = Int(UInt16(bigEndian: address.sin_port))
    OSThread.start("peer") { self.play(steps) }
  }

  /// What every reading step read, in order.
  var readings: [[UInt8]] { received.withLock { $0 } }

  private func play(_ steps: [Step]) {
    let client = accept(listener, nil, nil)
    close(listener)
    guard client >= 0 else { return }
    defer { close(client) }
    for step in steps {
      switch step {
      case .readHeader: note(read(8, from: client))
      case .readFrame:
        let head = read(7, from: client)
        guard head.count == 7 else { return note(head) }
        let size = head[3...].reduce(0) { $0 << 8 | Int($1) }
        note(head + read(size + 1, from: client))
      case .send(let bytes): write(bytes, to: client)
      case .dribble(let bytes): for byte in bytes { write([byte], to: client) }
      case .drain: while !read(1, from: client).isEmpty {}
      case .end: _ = shutdown(client, Int32(SHUT_WR))
      case .reset:
        var option = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(client, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        return
      }
    }
  }

  private func note(_ bytes: [UInt8]) { received.withLock { $0.append(bytes) } }

  private func read(_ count: Int, from client: Int32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let got = unsafe recv(client, &bytes, count, Int32(MSG_WAITALL))
    return Array(bytes.prefix(max(got, 0)))
  }

  private func write(_ bytes: [UInt8], to client: Int32) {
    // A client that has gone shows in what the test expects of it.
    _ = unsafe Glibc.send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
  }
}
