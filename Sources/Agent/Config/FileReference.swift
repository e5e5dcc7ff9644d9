/// Paths that a configuration names, which are relative to its own file.
enum FileReference {
  /// The directory of a path with its closing slash; empty for a bare name.
  static func directory(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
  }

  /// A path as seen from `directory`.
  static func resolve(_ path: String, in directory: String) -> String {
    path.hasPrefix("/") ? path : directory + path
  }
}
