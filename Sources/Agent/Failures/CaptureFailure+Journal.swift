import Journal

extension CaptureFailure {
  /// The end of a capture by its journal. Damage is remembered beside the file, so that the next start deals with it
  /// instead of failing at the same place.
  static func journal(_ error: any Error) -> CaptureFailure {
    var text = "\(error)"
    if let error = error as? JournalError, case .corrupt = error.kind {
      // Without the mark the next start finds the damage as this one did.
      if (try? Journal.markDamaged(by: error)) != nil {
        text += "; the next start salvages what can be read, or says what cannot"
      }
    }
    let isFull = (error as? JournalError)?.isFull ?? false
    return CaptureFailure(cause: "journal", description: text, needsUser: true, kind: isFull ? .shortage : .other)
  }
}
