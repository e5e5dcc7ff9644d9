/// Where messages are kept until they are committed downstream.
struct JournalConfiguration: Sendable, Equatable {
  /// The file, on a disk that outlives the process; nil is a private temporary file.
  let path: String?
  let acknowledge: AcknowledgeMode
  /// Whether the mode was given; otherwise it follows from `path`. For the line at start that names the reason.
  let acknowledgeIsExplicit: Bool
  /// At least 16 MiB.
  let maxBytes: Int

  init(_ values: CheckedValues) {
    path = values.optionalText("journal.path")
    let explicit: AcknowledgeMode? = values.optionalChoice("journal.acknowledge")
    acknowledge = explicit ?? (path == nil ? .committed : .journaled)
    acknowledgeIsExplicit = explicit != nil
    maxBytes = values.integer("journal.max_bytes")
  }
}

/// When the broker gets its acknowledgement.
enum AcknowledgeMode: String, Sendable, Equatable, CaseIterable {
  /// Once the journal has the message on stable storage.
  case journaled
  /// Once the runtime acknowledged the checkpoint that covers the message.
  case committed
}
