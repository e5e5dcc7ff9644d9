import Glibc
import Platform

/// What a sink does with the file system.
extension FileSink {
  static func isFile(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  static func byte(_ path: String, _ offset: Int64) throws(CaptureFailure) -> UInt8 {
    let file = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard file >= 0 else { throw failure("opening \(path)", errno) }
    defer { close(file) }
    var byte: UInt8 = 0
    guard unsafe pread(file, &byte, 1, Int(offset)) == 1 else { throw failure("reading \(path)", errno) }
    return byte
  }

  static func remove(_ path: String) throws(CaptureFailure) {
    if unsafe unlink(path) != 0, errno != ENOENT {
      throw failure("removing \(path), which the journal does not know yet,", errno)
    }
  }

  /// - Parameter isNew: There must be no such file.
  static func open(_ path: String, isNew: Bool) throws(CaptureFailure) -> OutputDescriptor {
    // Appending: after a cut by someone else no hole comes before what is written.
    let flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (isNew ? O_EXCL : 0)
    let file = unsafe Glibc.open(path, flags, 0o640)
    guard file >= 0 else { throw failure("opening \(path)", errno) }
    return OutputDescriptor(descriptor: file, name: path, isFile: true)
  }

  /// Makes the names of new files durable. https://man7.org/linux/man-pages/man2/fsync.2.html
  static func sync(directory: String) throws(CaptureFailure) {
    let descriptor = unsafe Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("opening directory \(directory)", errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw failure("syncing directory \(directory)", errno) }
  }

  static func failure(_ operation: String, _ code: Int32) -> CaptureFailure {
    CaptureFailure.output("\(operation): \(errnoText(code))", code)
  }
}
