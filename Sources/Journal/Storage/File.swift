internal import CSQLite
internal import Glibc

/// The few system calls around the database file. Paths are taken as they are; errors name operation and path.
enum File {
  static let journalSuffixes = ["", "-wal", "-shm"]

  /// What is at a path, a symbolic link not followed.
  enum Found: Equatable { case nothing, regular, other }

  static func find(_ path: String) throws(JournalError) -> Found {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else {
      if errno == ENOENT { return .nothing }
      throw .system(errno, "look for the file", path)
    }
    return status.st_mode & S_IFMT == S_IFREG ? .regular : .other
  }

  /// Lends a descriptor to `body`: the one way to open a file here, since closing one that SQLite has open too would drop
  /// its locks (``OpenDatabases``).
  ///
  /// - Returns: Nil if SQLite has it open in this process.
  private static func lend<R>(
    _ path: String, _ flags: Int32, _ operation: String, _ body: (Int32) throws(JournalError) -> R
  ) throws(JournalError) -> R? {
    try OpenDatabases.whileClosed(path) { () throws(JournalError) in try opened(path, flags, operation, body) }
  }

  /// For what ``lend(_:_:_:_:)`` calls, and files beside it that are known to be no open databases.
  private static func opened<R>(
    _ path: String, _ flags: Int32, _ operation: String, _ body: (Int32) throws(JournalError) -> R
  ) throws(JournalError) -> R {
    let descriptor = unsafe open(path, flags | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .system(errno, operation, path) }
    defer { Glibc.close(descriptor) }
    return try body(descriptor)
  }

  /// The same for a file that is no open database.
  private static func with(
    _ path: String, _ flags: Int32, _ operation: String, _ body: (Int32) throws(JournalError) -> Void
  ) throws(JournalError) {
    let done: Void? = try lend(path, flags, operation, body)
    guard done != nil else {
      throw JournalError(kind: .invalid("SQLite has it open in this process"), operation: operation, object: path)
    }
  }

  /// Makes an empty file of mode 0600; an existing one, or a symbolic link, is an error.
  static func create(_ path: String) throws(JournalError) {
    try with(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, "create") { _ in }
  }

  /// Makes a file of mode 0600 with `content`, synced; an existing one, or a symbolic link, is an error.
  static func create(_ path: String, content: [UInt8]) throws(JournalError) {
    try create(path)
    try with(path, O_WRONLY | O_NOFOLLOW, "open") { (descriptor) throws(JournalError) in
      try write(descriptor, path, 0, content)
      guard fsync(descriptor) == 0 else { throw .system(errno, "sync", path) }
    }
  }

  /// Gives a file another name, and takes that name from whatever had it.
  static func rename(_ old: String, to new: String) throws(JournalError) {
    guard unsafe Glibc.rename(old, new) == 0 else { throw .system(errno, "rename to \(new)", old) }
  }

  /// Syncs a file or a directory: a new name is durable only after its directory was synced.
  static func sync(_ path: String) throws(JournalError) {
    try with(path, O_RDONLY, "open for sync") { (descriptor) throws(JournalError) in
      guard fsync(descriptor) == 0 else { throw .system(errno, "sync", path) }
    }
  }

  /// The first bytes of a file, at most `count`; nil if SQLite has it open in this process.
  static func head(_ path: String, count: Int) throws(JournalError) -> [UInt8]? {
    try reading(path) { (read) throws(JournalError) in try read(0, count) }
  }

  /// Reads at an offset, fewer bytes than asked for only at the file's end.
  typealias Read = (_ offset: Int, _ count: Int) throws(JournalError) -> [UInt8]

  /// Lends a function that reads the file; nil if SQLite has it open in this process.
  static func reading<R>(_ path: String, _ body: (Read) throws(JournalError) -> R) throws(JournalError) -> R? {
    try lend(path, O_RDONLY | O_NOFOLLOW, "open") { (descriptor) throws(JournalError) in
      try body { (offset, count) throws(JournalError) in try read(descriptor, path, offset, count) }
    }
  }

  private static func read(
    _ descriptor: Int32, _ path: String, _ offset: Int, _ count: Int
  ) throws(JournalError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let got = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe pread(descriptor, buffer.baseAddress.map { unsafe $0 + done }, count - done, offset + done)
      }
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { throw .system(errno, "read", path) }
      if got == 0 { break }
      done += got
    }
    bytes.removeLast(count - done)
    return bytes
  }

  private static func write(
    _ descriptor: Int32, _ path: String, _ offset: Int, _ bytes: [UInt8]
  ) throws(JournalError) {
    var done = 0
    while done < bytes.count {
      let put = unsafe bytes.withUnsafeBytes { buffer in
        unsafe pwrite(descriptor, buffer.baseAddress.map { unsafe $0 + done }, bytes.count - done, offset + done)
      }
      if put < 0 && errno == EINTR { continue }
      guard put > 0 else { throw .system(put < 0 ? errno : ENOSPC, "write", path) }
      done += put
    }
  }

  /// Makes a copy, mode 0600, under a name that no one has.
  static func copy(_ path: String, to new: String) throws(JournalError) {
    try create(new)
    try move(from: path, to: new) { (move) throws(JournalError) in
      var offset = 0
      while case let count = try move(offset, offset, 1 << 20), count > 0 { offset += count }
    }
  }

  /// Gives the file at `path` a size, and lends a function that moves bytes into it from another file.
  static func patch(
    _ path: String, from source: String, size: Int,
    _ body: (_ move: Move) throws(JournalError) -> Void
  ) throws(JournalError) {
    try move(from: source, to: path, body)
    guard unsafe truncate(path, size) == 0 else { throw .system(errno, "set the size", path) }
  }

  /// Moves so many bytes from one offset to another one; returns how many, fewer only at the source's end.
  typealias Move = (_ from: Int, _ to: Int, _ count: Int) throws(JournalError) -> Int

  /// - Parameter target: A file of ours that was never opened as a database.
  private static func move(
    from source: String, to target: String, _ body: (Move) throws(JournalError) -> Void
  ) throws(JournalError) {
    let done: Void? = try lend(source, O_RDONLY | O_NOFOLLOW, "open") { (old) throws(JournalError) in
      try opened(target, O_WRONLY | O_NOFOLLOW, "open") { (new) throws(JournalError) in
        try body { (from, to, count) throws(JournalError) in
          let bytes = try read(old, source, from, count)
          try write(new, target, to, bytes)
          return bytes.count
        }
      }
    }
    guard done != nil else {
      throw JournalError(kind: .invalid("SQLite has it open in this process"), operation: "copy", object: source)
    }
  }

  /// Removes a name; that there is none is not an error.
  static func remove(_ path: String) throws(JournalError) {
    guard unsafe unlink(path) == 0 || errno == ENOENT else { throw .system(errno, "remove", path) }
  }

  /// Gives a file a second name, which must not exist.
  static func link(_ old: String, as new: String) throws(JournalError) {
    guard unsafe Glibc.link(old, new) == 0 else { throw .system(errno, "name the new file", new) }
  }

  /// A new directory of mode 0700 under `parent`.
  static func privateDirectory(under parent: String) throws(JournalError) -> String {
    var template = Array("\(parent)/source-amqp-XXXXXX".utf8CString)
    let made = unsafe template.withUnsafeMutableBufferPointer { buffer -> String? in
      guard let base = buffer.baseAddress, let name = unsafe mkdtemp(base) else { return nil }
      return unsafe String(cString: name)
    }
    guard let made else { throw .system(errno, "make a private directory", parent) }
    return made
  }

  /// The name of a temporary journal in its private directory.
  static let temporaryName = "journal.sqlite"

  /// Removes a temporary journal with its directory. Failures leave a file behind in a temporary place, no more.
  static func removeJournal(in directory: String) {
    for suffix in ["", "-wal", "-shm", ".lock", ".new", ".new-wal", ".new-shm", ".damaged"] {
      unsafe unlink("\(directory)/\(temporaryName)\(suffix)")
    }
    unsafe rmdir(directory)
  }

  /// Removes a database of ours that no one has open, with its WAL and its shared memory.
  static func removeDatabase(_ path: String) throws(JournalError) {
    for suffix in journalSuffixes { try remove(path + suffix) }
  }

  /// The names in a directory, in no order.
  static func names(in directory: String) throws(JournalError) -> [String] {
    guard let open = unsafe opendir(directory) else { throw .system(errno, "list the directory", directory) }
    defer { unsafe closedir(open) }
    var names: [String] = []
    while let entry = unsafe readdir(open) {
      names.append(
        unsafe withUnsafeBytes(of: &entry.pointee.d_name) { name in
          unsafe String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
        })
    }
    return names
  }

  /// Resolves the symbolic links of a path's directory, so that the file itself can be opened with none.
  ///
  /// - Returns: The directory, and the file's path in it, both absolute.
  static func resolve(_ path: String) throws(JournalError) -> (directory: String, file: String) {
    let slash = path.lastIndex(of: "/")
    let name = String(slash.map { path[path.index(after: $0)...] } ?? path[...])
    let parent = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard !name.isEmpty, name != ".", name != "..", !path.utf8.contains(0) else {
      throw JournalError(kind: .invalid("not the name of a file"), operation: "open", object: path)
    }
    guard let real = unsafe realpath(parent, nil) else { throw .system(errno, "find the directory", parent) }
    defer { unsafe free(real) }
    let directory = unsafe String(cString: real)
    return (directory, directory == "/" ? "/\(name)" : "\(directory)/\(name)")
  }

  /// Bytes free for this user and size of the file system that holds `path`.
  static func space(_ path: String) throws(JournalError) -> (free: Int64, size: Int64) {
    var status = statvfs()
    guard unsafe statvfs(path, &status) == 0 else { throw .system(errno, "look at the disk", path) }
    let unit = Int64(clamping: status.f_frsize)
    return (Int64(clamping: status.f_bavail) * unit, Int64(clamping: status.f_blocks) * unit)
  }

  /// Refuses a directory on a file system whose locks or shared memory SQLite's WAL cannot rely on
  /// (https://www.sqlite.org/wal.html: all processes on one host; network file systems do not work).
  static func refuseUnsupported(_ directory: String) throws(JournalError) {
    let magic = unsafe csqlite_file_system(directory)
    guard magic >= 0 else { throw .system(errno, "look at the file system", directory) }
    if let name = unsupportedFileSystem(Int64(magic)) {
      throw JournalError(kind: .unsupportedFileSystem(name), operation: "open", object: directory)
    }
  }

  /// The name of an unsupported file system by its `f_type` (statfs(2), linux/magic.h); nil for all others.
  static func unsupportedFileSystem(_ magic: Int64) -> String? {
    switch UInt32(truncatingIfNeeded: magic) {
    case 0x6969: "NFS"
    case 0xff53_4d42: "CIFS"
    case 0x517b, 0xfe53_4d42: "SMB"
    case 0x6573_5546: "FUSE"
    case 0x0102_1997: "9P"
    case 0x00c3_6400: "Ceph"
    case 0x5346_414f, 0x6b41_4653: "AFS"
    // Not in linux/magic.h, but in the sources of each: folders that a virtual machine shares with its host, and file systems of
    // clusters. FAT has neither journal nor permissions.
    case 0x786f_4256: "VirtualBox shared folders (vboxsf)"
    case 0xbacb_acbc: "VMware shared folders (vmhgfs)"
    case 0x1983_0326: "BeeGFS"
    case 0x0bd0_0bd0: "Lustre"
    case 0x4750_4653: "GPFS"
    case 0x4d44, 0x2011_bab0: "FAT"
    default: nil
    }
  }
}
