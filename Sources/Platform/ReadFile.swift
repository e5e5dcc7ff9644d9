internal import Glibc

/// Why a file was not read.
package enum UnreadFile: Error, Equatable, Sendable {
  /// What the system says, an errno.
  case system(Int32)
  case isLarger
}

/// Reads a whole file, from the beginning to the end of it; pipes are read until they are closed.
///
/// - Parameters:
///   - path: `-` is stdin, if `readsStandardInput`.
///   - limit: More bytes than that are an error.
///   - flags: For `open`, beside reading.
package func readFile(
  _ path: String, limit: Int, flags: Int32 = 0, readsStandardInput: Bool = false
) throws(UnreadFile) -> [UInt8] {
  let isInput = readsStandardInput && path == "-"
  let descriptor = isInput ? dup(STDIN_FILENO) : unsafe open(path, O_RDONLY | O_CLOEXEC | flags)
  guard descriptor >= 0 else { throw .system(errno) }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 << 10)
  while true {
    let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
    if count < 0 {
      if errno == EINTR { continue }
      throw .system(errno)
    }
    if count == 0 { return bytes }
    bytes += chunk[..<count]
    guard bytes.count <= limit else { throw .isLarger }
  }
}
