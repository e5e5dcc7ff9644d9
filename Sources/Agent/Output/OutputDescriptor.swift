import Glibc
import Platform

/// A descriptor that whole blocks of lines are written to.
struct OutputDescriptor: Sendable {
  let descriptor: Int32
  /// For messages, for example `stdout`.
  let name: String
  /// Half a write can be taken back, so a write that met a full disk may be tried again.
  var isFile = false

  /// Called for each piece that was written.
  var onProgress: (@Sendable () -> Void)?

  /// Bytes of one write at the most: a write into a pipe returns when all of it was taken, and no one sees how far it is.
  private static let pieceBytes = 64 << 10

  static func standardOutput(onProgress: (@Sendable () -> Void)? = nil) -> OutputDescriptor {
    OutputDescriptor(descriptor: STDOUT_FILENO, name: "stdout", onProgress: onProgress)
  }

  /// Writes all of `bytes`, for as long as the reader takes.
  func write(_ bytes: [UInt8]) throws(CaptureFailure) {
    try write(bytes, in: bytes.indices, piece: isFile ? .max : Self.pieceBytes)
  }

  /// The same of a part of `bytes`, at most `piece` of them at once.
  func write(_ bytes: [UInt8], in range: Range<Int>, piece: Int) throws(CaptureFailure) {
    if let code = attempt(bytes, in: range, piece: piece).errno { throw failure(code, mayPass: isFile) }
  }

  /// Writes as much of it as goes.
  ///
  /// - Parameter goesOn: Asked before each piece but the first, with how many bytes were written.
  /// - Returns: How many bytes were written, and why not all of them; nil if `goesOn` said no.
  func attempt(
    _ bytes: [UInt8], in range: Range<Int>, piece: Int, goesOn: (Int) -> Bool = { _ in true }
  ) -> (written: Int, errno: Int32?) {
    var done = range.lowerBound
    while done < range.upperBound {
      if done > range.lowerBound, !goesOn(done - range.lowerBound) { return (done - range.lowerBound, nil) }
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress! + done, min(range.upperBound - done, piece))
      }
      if count >= 0 {
        done += count
        onProgress?()
      } else if errno == EAGAIN {
        var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&polled, 1, -1)
      } else if errno != EINTR {
        return (done - range.lowerBound, errno)
      }
    }
    return (range.count, nil)
  }

  /// - Parameter mayPass: The same write may be tried again.
  func failure(_ code: Int32, mayPass: Bool) -> CaptureFailure {
    CaptureFailure.output(
      "writing to \(name): \(errnoText(code))" + (code == EPIPE ? "; its reader has gone away" : ""), mayPass ? code : 0
    )
  }
}
