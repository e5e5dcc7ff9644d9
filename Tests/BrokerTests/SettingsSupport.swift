import Glibc
import Support
import Testing

extension FlowRuntime {
  /// Starts and waits until the broker confirmed the consumer of connection number `generation` of this process.
  func startConsuming() throws {
    try start()
    try waitUntilConsuming()
  }

  func waitUntilConsuming(generation: Int = 1) throws {
    try waitForLog("consuming, connection \(generation)") {
      $0.json?[path: "fields", "consumer_tag"]?.string?.hasSuffix("-\(generation)") == true
    }
  }

  /// The lines of a level.
  func messages(level: String) -> [String] {
    log.filter { $0.level == level }.compactMap(\.message)
  }

  /// Opens, and gives the exit status and the last line of stderr, where Flow looks for the cause.
  func startAndFail() throws -> (exit: ChildProcess.Exit, cause: String?) {
    try start()
    let exit = try waitForExit()
    return (exit, log.last?.message)
  }

  /// The bodies of the committed documents.
  var bodies: [String] { committed.map { $0.json["body"]?.string ?? $0.json["body"]?.text ?? "" } }
}

extension UnaryResult {
  /// The last line of stderr, where Flow looks for the cause.
  var cause: String? { (try? JSON(parsing: log.last ?? ""))?["message"]?.string }
}

/// Sends one request about a capture with `config`.
func ask(_ request: String, _ config: JSON, resources: [JSON] = [["stream": "orders"]]) throws -> UnaryResult {
  switch request {
  case "validate":
    return try unary([
      [
        "validate": [
          "name": "acmeCo/source-amqp", "connectorType": "LOCAL", "config": config,
          "bindings": .array(resources.map { ["resourceConfig": $0] }),
        ]
      ]
    ])
  case "apply":
    return try unary([
      [
        "apply": [
          "capture": [
            "name": "acmeCo/source-amqp", "connectorType": "LOCAL", "config": config,
            "bindings": .array(resources.map { FlowRuntime.binding(stream: $0["stream"]?.string ?? "", resource: $0) }),
          ], "version": "1", "lastVersion": "",
        ]
      ]
    ])
  default: throw SupportError("no request \(request)")
  }
}

/// A port of the loopback that is ours while this object lives, and where no one ever answers: connections are refused,
/// or, where it is `silent`, accepted by the kernel and left alone.
final class HeldPort {
  let number: Int
  private let descriptor: Int32

  init(silent: Bool) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        unsafe bind(descriptor, generic, size) == 0 && getsockname(descriptor, generic, &size) == 0
      }
    }
    guard status, !silent || listen(descriptor, 16) == 0 else { throw SupportError("no port: errno \(errno)") }
    self.descriptor = descriptor
    number = Int(UInt16(bigEndian: address.sin_port))
  }

  deinit { close(descriptor) }
}
