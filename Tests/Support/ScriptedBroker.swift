public import Glibc
import Platform

/// A listener on the loopback that plays a broker: for what no RabbitMQ would do. Everybody who connects gets the next
/// play, the last one again and again; each runs on a thread of its own.
public final class ScriptedBroker: Sendable {
  /// One connection, seen from the broker's side. Every call returns at once when the client has gone.
  public struct Client: Sendable {
    let descriptor: Int32

    /// Reads one frame of the client's, whatever it is; at the beginning its protocol header.
    public func skip(header: Bool = false) {
      if header {
        _ = read(8)
        return
      }
      let head = read(7)
      guard head.count == 7 else { return }
      _ = read(head[3...].reduce(0) { $0 << 8 | Int($1) } + 1)
    }

    /// Sends all of `bytes`; false if the client has gone.
    @discardableResult
    public func send(_ bytes: [UInt8]) -> Bool {
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = unsafe rest.withUnsafeBytes {
          unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard count > 0 else { return false }
        rest = rest.dropFirst(count)
      }
      return true
    }

    /// Sends `bytes` again and again, until the client goes or so many bytes were sent.
    public func flood(_ bytes: [UInt8], atMost limit: Int = 2 << 30) {
      let block = Array(repeatElement(bytes, count: max(1, 65_536 / bytes.count)).joined())
      var sent = 0
      while sent < limit, send(block) { sent += block.count }
    }

    /// Reads until the client closes.
    public func drain() {
      var buffer = [UInt8](repeating: 0, count: 65_536)
      while unsafe recv(descriptor, &buffer, buffer.count, 0) > 0 {}
    }

    /// The handshake of a broker that does everything right, up to the channel.
    public func greet() {
      skip(header: true)
      send(Wire.start())
      skip()
      send(Wire.tune())
      skip()
      skip()
      send(Wire.openOk)
      skip()
      send(Wire.channelOk)
    }

    /// The rest up to a consumer, of a client with `queue.declare: none`.
    /// - Returns: The tag that the client gave its consumer.
    @discardableResult
    public func startConsumer(confirming: Bool = true) -> String {
      skip()
      send(Wire.qosOk)
      let head = read(7)
      guard head.count == 7 else { return "" }
      let frame = read(head[3...].reduce(0) { $0 << 8 | Int($1) } + 1)
      // Class, method, ticket, queue, tag.
      guard frame.count > 7 else { return "" }
      let place = 7 + Int(frame[6])
      guard frame.count > place, frame.count > place + Int(frame[place]) else { return "" }
      let tag = String(decoding: frame[(place + 1)...].prefix(Int(frame[place])), as: UTF8.self)
      if confirming { send(Wire.consumeOk(tag)) }
      return tag
    }

    private func read(_ count: Int) -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: count)
      let got = unsafe recv(descriptor, &bytes, count, Int32(MSG_WAITALL))
      return Array(bytes.prefix(max(got, 0)))
    }
  }

  /// What to connect to on 127.0.0.1.
  public let port: Int
  private let accepted = Monitor(0)

  /// Listens until the process ends.
  public init(_ plays: [@Sendable (Client) -> Void]) throws {
    let listener = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = unsafe withUnsafeMutablePointer(to: &address) { place in
      unsafe place.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        unsafe bind(listener, raw, size) == 0 && listen(listener, 8) == 0 && getsockname(listener, raw, &size) == 0
      }
    }
    guard isListening else { throw SupportError("listening: errno \(errno)") }
    port = Int(UInt16(bigEndian: address.sin_port))
    let accepted = accepted
    startThread {
      for number in 0... {
        let descriptor = accept(listener, nil, nil)
        guard descriptor >= 0 else { return }
        accepted.update { $0 += 1 }
        startThread {
          plays[min(number, plays.count - 1)](Client(descriptor: descriptor))
          close(descriptor)
        }
      }
    }
  }

  /// Waits until so many have connected.
  public func wait(connections: Int) throws {
    guard accepted.wait(atMost: generousLimit, until: { $0 >= connections ? true : nil }) != nil else {
      throw SupportError("\(accepted.update { $0 }) connections, not \(connections)")
    }
  }
}

/// The largest resident set that a process ever had, in bytes.
public func peakResidentBytes(of pid: pid_t) throws -> Int {
  for line in try contents(ofFile: "/proc/\(pid)/status").split(separator: "\n") where line.hasPrefix("VmHWM:") {
    let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
    if fields.count == 3, let kibibytes = Int(fields[1]) { return kibibytes << 10 }
  }
  throw SupportError("no VmHWM: process \(pid) has ended")
}
