/// What tells one queue from every other, for state that must not be used for another: virtual host and name.
///
/// The broker's address is no part of it. One queue is reached by many: a name or an address, another node of the
/// cluster, another port with TLS. Virtual host and name are what a cluster knows a queue by.
/// https://www.rabbitmq.com/docs/vhosts
struct QueueIdentity: Equatable, Sendable {
  let virtualHost: String
  let queue: String

  init(virtualHost: String, queue: String) {
    self.virtualHost = virtualHost
    self.queue = queue
  }

  init(_ configuration: EndpointConfiguration) {
    self.init(virtualHost: configuration.virtualHost, queue: configuration.queue.name)
  }

  /// As journals and checkpoints keep it: a JSON array of virtual host and queue, so that no two have one text.
  var text: String { text(stateKey: nil) }

  /// The same with the state key under which the queue was captured, so that a backfill shows.
  func text(stateKey: String?) -> String {
    var bytes: [UInt8] = []
    JSONValue.array(([virtualHost, queue] + (stateKey.map { [$0] } ?? [])).map { .string($0) }).append(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The state key in a stored text; nil if there is none.
  static func stateKey(in stored: String) -> String? {
    guard let parts = (try? JSONValue.parse(stored))?.arrayValue, parts.count == 3 else { return nil }
    return parts[2].stringValue
  }

  /// Whether `stored` is of this queue.
  ///
  /// Version 0.1.0 wrote `HOST:PORT/VIRTUAL_HOST/QUEUE`. A host has no slash, so what comes after the first one names the
  /// queue; the address counts no more.
  func matches(_ stored: String) -> Bool {
    if stored == text { return true }
    if let parts = (try? JSONValue.parse(stored))?.arrayValue {
      return parts.prefix(2) == [.string(virtualHost), .string(queue)]
    }
    // An address of IP version 6 begins with a bracket too, but not with a string in it.
    guard !stored.hasPrefix("[\""), let slash = stored.utf8.firstIndex(of: UInt8(ascii: "/")) else { return false }
    return stored.utf8[stored.utf8.index(after: slash)...].elementsEqual("\(virtualHost)/\(queue)".utf8)
  }
}
