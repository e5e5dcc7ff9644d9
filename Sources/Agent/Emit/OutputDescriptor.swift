import Glibc

/// A descriptor that whole blocks of lines are written to.
struct OutputDescriptor: Sendable {
  let descriptor: Int32
  /// For messages, for example `stdout`.
  let name: String
  /// Half a write can be taken back, so a write that met a full disk may be tried again.
  var isFile = false

  static let standardOutput = OutputDescriptor(descriptor: STDOUT_FILENO, name: "stdout")

  /// Writes all of `bytes`, for as long as the reader takes.
  func write(_ bytes: [UInt8]) throws(CaptureFailure) {
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress! + done, buffer.count - done)
      }
      if count >= 0 {
        done += count
      } else if errno == EAGAIN {
        var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&polled, 1, -1)
      } else if errno != EINTR {
        let code = errno
        throw CaptureFailure.output(
          "writing to \(name): \(errnoText(code))" + (code == EPIPE ? "; its reader has gone away" : ""),
          isFile ? code : 0)
      }
    }
  }
}

/// The operating system's words for an errno, with its number.
func errnoText(_ code: Int32) -> String {
  guard let text = unsafe strerror(code) else { return "error \(code)" }
  return unsafe "\(String(cString: text)) (errno \(code))"
}
