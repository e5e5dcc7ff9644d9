import Journal

/// When the broker gets its acknowledgement, and why: what was chosen, or what is safe if nothing was.
///
/// `journaled` rests on a journal that outlives the process. A container's own disk does not, and neither does memory.
struct AcknowledgementChoice: Equatable, Sendable {
  let mode: AcknowledgementMode
  /// The end of a sentence.
  let reason: String
  /// The journal is kept, but may be gone at the next start: the checkpoints carry what it would know.
  let mayLoseJournal: Bool
  let warnings: [String]
  /// Why a capture must not start like this.
  let problem: String?

  /// - Parameters:
  ///   - settings: What was chosen.
  ///   - path: The journal's file; nil for a private temporary one.
  ///   - isContainer: Flow runs this as a container (`connectorType: IMAGE`).
  ///   - disk: Of the directory that the journal is, or will be, in.
  init(_ settings: JournalConfiguration, path: String?, isContainer: Bool, disk: DiskKind) {
    var warnings: [String] = []
    var problem: String?
    switch (settings.acknowledgeIsExplicit, path) {
    case (true, _):
      mode = AcknowledgementMode(settings.acknowledge)
      reason = "journal.acknowledge says so"
      if let path, mode == .journaled, isContainer {
        warnings.append(
          "journal.acknowledge is journaled in a container: \(path) must be on a volume that outlives it, or what is "
            + "acknowledged and not yet committed is lost with the container")
      }
    case (false, nil):
      mode = .committed
      reason = "there is no journal.path"
    case (false, let path?) where isContainer:
      mode = .committed
      reason = "a container's disk goes away with it"
      warnings.append(
        "journal.path is given, but a container's disk goes away with it, so the broker gets its acknowledgement only "
          + "after a commit. If \(path) is on a volume that outlives the container, set journal.acknowledge: journaled")
    case (false, let path?):
      mode = .journaled
      reason = path == settings.path ? "journal.path is given" : "the journal \(path) is kept"
    }
    mayLoseJournal = isContainer && mode == .committed
    if let path, mode == .journaled {
      switch disk {
      case .memory(let name):
        problem =
          "the journal \(path) is on \(name), which is memory: after a reboot the messages that it holds are lost, although "
          + "they are acknowledged. Put it on a disk, or set journal.acknowledge: committed"
      case .overlay:
        warnings.append(
          "the journal \(path) is on overlayfs, as a container's own disk is, which goes away with the container: put it on "
            + "a volume")
      case .other: break
      }
    }
    self.warnings = warnings
    self.problem = problem
  }

  /// The kind of disk at a journal's path: of its directory, or of the nearest one above that exists.
  static func disk(ofJournal path: String?) -> DiskKind {
    guard let path else { return .other }
    var directory = path.split(separator: "/", omittingEmptySubsequences: true).dropLast()
    let isAbsolute = path.hasPrefix("/")
    while true {
      let text = (isAbsolute ? "/" : "") + directory.joined(separator: "/")
      if let kind = DiskKind(at: text.isEmpty ? "." : text) { return kind }
      guard directory.popLast() != nil else { return .other }
    }
  }
}
