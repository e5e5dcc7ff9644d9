import Glibc

extension CaptureFailure {
  /// What went wrong with the place where documents go; `code` is its errno, where that may be one that passes.
  static func output(_ description: String, _ code: Int32) -> CaptureFailure {
    let isShortage = [ENOSPC, EDQUOT, EFBIG, EROFS, EMFILE, ENFILE].contains(code)
    return CaptureFailure(
      cause: "output", description: description, needsUser: true, kind: isShortage ? .shortage : .other)
  }
}
