import Glibc
import Journal

/// Why there is no consumer: an error of the connection, or an end that the broker announced.
struct CaptureFailure: Error, Hashable, CustomStringConvertible {
  /// A short name for logs and metrics, for example `connection_lost`.
  var cause: String
  /// What happened and what to do, in a sentence. What has the shape of credentials is hidden in it.
  var description: String
  /// Trying again cannot help before a user changes something.
  var needsUser: Bool
  /// What is done about it.
  var kind = Kind.other

  /// What the capture treats in a way of its own. Names of causes are for people and metrics; nothing hangs on them.
  enum Kind: Hashable, Sendable {
    case other
    /// The capture itself has asked for it.
    case abandoned
    /// A login was refused: each of them costs the broker, or a directory behind it.
    case loginRefused
    /// A user or a node has as many channels as it may.
    case channelLimit
    /// The broker has ended channel or connection by an error of its own (541), which a message may be to blame for.
    case internalError
    /// A message that the broker cannot send.
    case undeliverable
    /// A disk, a quota or a limit of size is used up: the same may work later, and nothing was changed.
    case shortage
  }

  init(cause: String, description: String, needsUser: Bool, kind: Kind = .other) {
    self.cause = cause
    self.description = Disclosure.text(description)
    self.needsUser = needsUser
    self.kind = kind
  }
}

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

  /// What went wrong with the place where documents go; `code` is its errno, if that may be one that passes.
  static func output(_ description: String, _ code: Int32) -> CaptureFailure {
    let isShortage = [ENOSPC, EDQUOT, EFBIG, EROFS, EMFILE, ENFILE].contains(code)
    return CaptureFailure(
      cause: "output", description: description, needsUser: true, kind: isShortage ? .shortage : .other)
  }
}
