internal import CSQLite

/// What kind of disk a journal would be on, as far as it decides whether that outlives the process.
public enum DiskKind: Equatable, Sendable {
  /// A file system in memory, by its name: gone with a reboot or its mount.
  case memory(String)
  /// Layers, as of a container's own disk: usually gone with the container.
  case overlay
  case other

  /// The kind of the file system at `path`; nil if it cannot be asked, for example since nothing is there yet.
  public init?(at path: String) {
    let magic = Int64(unsafe csqlite_file_system(path))
    guard magic >= 0 else { return nil }
    self.init(magic: magic)
  }

  /// - Parameter magic: `f_type` of statfs(2), as linux/magic.h names them.
  init(magic: Int64) {
    switch UInt32(truncatingIfNeeded: magic) {
    case 0x0102_1994: self = .memory("tmpfs")
    case 0x8584_58f6: self = .memory("ramfs")
    case 0x794c_7630: self = .overlay
    default: self = .other
    }
  }
}
