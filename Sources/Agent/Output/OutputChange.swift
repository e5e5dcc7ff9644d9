import Glibc
import Platform

/// What someone else did to the file that is being written.
enum OutputChange: Equatable, Sendable {
  case deleted
  /// It has another name, or none in this directory.
  case moved
  /// Another file has its name.
  case replaced
  case shortened(to: Int64)
  case lengthened(to: Int64)

  /// A file as the kernel sees it.
  struct Facts: Equatable, Sendable {
    var device: UInt64
    var inode: UInt64
    var links: UInt64
    var size: Int64

    init(device: UInt64, inode: UInt64, links: UInt64, size: Int64) {
      (self.device, self.inode, self.links, self.size) = (device, inode, links, size)
    }

    private init(_ status: stat) {
      self.init(
        device: UInt64(status.st_dev), inode: UInt64(status.st_ino), links: UInt64(status.st_nlink),
        size: Int64(status.st_size))
    }

    /// The open file; nil if it cannot be asked.
    static func of(_ descriptor: Int32) -> Facts? {
      var status = stat()
      return unsafe fstat(descriptor, &status) == 0 ? Facts(status) : nil
    }

    /// What has the name `path`; nil if nothing has.
    ///
    /// - Throws: If that cannot be seen, as without the right to look into its directory.
    static func of(_ path: String) throws(CaptureFailure) -> Facts? {
      var status = stat()
      if unsafe lstat(path, &status) == 0 { return Facts(status) }
      guard errno == ENOENT || errno == ENOTDIR else {
        throw CaptureFailure.output("looking at \(path): \(errnoText(errno))", errno)
      }
      return nil
    }
  }

  /// - Parameters:
  ///   - open: The file that is written.
  ///   - named: What has its name now.
  ///   - expected: The size that it has if no one else writes it.
  /// - Returns: Nil if all is as it should be.
  static func find(open: Facts, named: Facts?, expected: Int64) -> OutputChange? {
    guard let named else { return open.links == 0 ? .deleted : .moved }
    if named.device != open.device || named.inode != open.inode { return .replaced }
    if open.size < expected { return .shortened(to: open.size) }
    return open.size > expected ? .lengthened(to: open.size) : nil
  }

  /// What happened to a file of `length` bytes, for a warning.
  func description(_ length: Int64) -> String {
    switch self {
    case .deleted: "was deleted while it was written; \(length) bytes of documents were in it"
    case .moved: "was moved away while it was written"
    case .replaced: "was replaced by another file while it was written"
    case .shortened(let size): "was cut from \(length) to \(size) bytes while it was written"
    case .lengthened(let size): "grew from \(length) to \(size) bytes by what someone else wrote into it"
    }
  }
}
