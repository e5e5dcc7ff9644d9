import Glibc

/// Writes lines to a descriptor whose reader may stop reading, so that whenever the process ends, no line stands there in half.
///
/// A write of at most `PIPE_BUF` bytes is taken by a pipe as a whole or not at all, and an empty pipe takes as many bytes as it has room
/// for. So lines go out in pieces that are taken at once, and what has to wait waits before a line. This cannot be said of a
/// line that is larger than the system lets a pipe be, of a socket, or of a pipe that others write to.
/// https://man7.org/linux/man-pages/man7/pipe.7.html
struct LineOutput: Sendable {
  private let output: OutputDescriptor
  /// Bytes that an empty pipe takes; nil if it is no pipe.
  private var capacity: Int?

  /// `F_SETPIPE_SZ` and `F_GETPIPE_SZ`. https://man7.org/linux/man-pages/man2/F_GETPIPE_SZ.2const.html
  private static let (setSize, getSize) = (Int32(1031), Int32(1032))
  /// Milliseconds between looks whether a pipe was emptied, which no one tells.
  private static let looks = (first: Int32(1), last: Int32(32))

  init(_ output: OutputDescriptor) {
    self.output = output
    let size = fcntl(output.descriptor, Self.getSize)
    capacity = size > 0 ? Int(size) : nil
  }

  /// Writes all of `lines`, each of which ends with a line feed, for as long as the reader takes.
  mutating func write(_ lines: [UInt8]) throws(CaptureFailure) {
    guard var capacity else { return try writeToEnd(lines) }
    var done = 0
    while done < lines.count {
      // There may be room for more, but in slots, of which no one knows how many are in use.
      let room = unread == 0 ? capacity : Int(PIPE_BUF)
      if let end = lines[done..<min(done + room, lines.count)].lastIndex(of: 0x0A) {
        pause(for: Int16(POLLOUT), milliseconds: -1)
        try output.write(lines, in: done..<end + 1, piece: .max)
        done = end + 1
      } else {
        let end = (lines[done...].firstIndex(of: 0x0A) ?? lines.count - 1) + 1
        capacity = grow(from: capacity, to: end - done)
        awaitEmpty()
        // If it is too large for any pipe, its pieces show that there is a reader.
        try output.write(lines, in: done..<end, piece: end - done <= capacity ? .max : capacity)
        done = end
      }
    }
    self.capacity = capacity
  }

  /// Writes to what is no pipe. What a failed write has left at the end of a file is cut off, so that the same can be written again,
  /// unless someone else writes to the file as well.
  private func writeToEnd(_ lines: [UInt8]) throws(CaptureFailure) {
    var before = stat()
    guard unsafe fstat(output.descriptor, &before) == 0, before.st_mode & S_IFMT == S_IFREG else {
      return try output.write(lines)
    }
    let (written, errno) = output.attempt(lines, in: lines.indices, piece: .max)
    guard let errno else { return }
    var after = stat()
    let isOurs = unsafe fstat(output.descriptor, &after) == 0 && after.st_size == before.st_size + written
    // What stays cannot be written again.
    throw output.failure(errno, mayPass: written == 0 || isOurs && isCut(to: before.st_size))
  }

  /// Cuts the file, and goes on at its end.
  private func isCut(to size: off_t) -> Bool {
    guard ftruncate(output.descriptor, size) == 0 else { return false }
    return fcntl(output.descriptor, F_GETFL) & O_APPEND != 0 || lseek(output.descriptor, size, SEEK_SET) == size
  }

  /// Bytes that the reader has not taken yet.
  private var unread: Int32 {
    var count: Int32 = 0
    return unsafe ioctl(output.descriptor, UInt(FIONREAD), &count) == 0 ? count : 0
  }

  /// Makes the pipe as large as that, if the system lets it.
  ///
  /// - Returns: How large it is.
  private func grow(from capacity: Int, to bytes: Int) -> Int {
    guard bytes > capacity else { return capacity }
    let size = fcntl(output.descriptor, Self.setSize, Int32(clamping: bytes))
    return size > 0 ? Int(size) : capacity
  }

  /// Waits until the reader has taken everything, or has gone away.
  private func awaitEmpty() {
    var milliseconds = Self.looks.first
    var left = unread
    while left > 0, pause(for: 0, milliseconds: milliseconds) == 0 {
      milliseconds = min(milliseconds * 2, Self.looks.last)
      let now = unread
      // A reader that takes some has not stalled.
      if now < left { output.onProgress?() }
      left = now
    }
  }

  /// - Returns: What of `events` came, an error included, within the time.
  @discardableResult
  private func pause(for events: Int16, milliseconds: Int32) -> Int32 {
    var polled = pollfd(fd: output.descriptor, events: events, revents: 0)
    return unsafe poll(&polled, 1, milliseconds)
  }
}
