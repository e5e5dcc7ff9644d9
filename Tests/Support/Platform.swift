import Foundation

/// Runs `body` on a thread of its own: what blocks must not sit on the test library's few threads.
func startThread(_ body: @escaping @Sendable () -> Void) {
  Thread.detachNewThread(body)
}

/// This process's environment.
func processEnvironment() -> [String: String] {
  ProcessInfo.processInfo.environment
}

/// Standard base64.
func base64(_ bytes: [UInt8]) -> String {
  Data(bytes).base64EncodedString()
}

/// The octets of standard base64; nil if it is none.
public func decoded(base64 text: String) -> [UInt8]? {
  Data(base64Encoded: text).map { Array($0) }
}

/// The repository's root: this file stands two directories below it.
public let repository: String = {
  var path = #filePath.split(separator: "/", omittingEmptySubsequences: false)
  path.removeLast(3)
  return path.joined(separator: "/")
}()

/// The text of a file, which may be one of /proc.
func contents(ofFile path: String) throws -> String {
  try String(contentsOfFile: path, encoding: .utf8)
}

/// Where a symbolic link leads.
func destination(ofLink path: String) throws -> String {
  try FileManager.default.destinationOfSymbolicLink(atPath: path)
}
