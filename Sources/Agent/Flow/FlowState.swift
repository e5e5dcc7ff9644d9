import Journal

/// The connector's committed state of one binding, as ``FlowResponse/checkpoint(_:stateKey:journal:isKept:stale:)`` wrote it and the runtime
/// merged it.
///
/// The runtime keeps states by a state key, which is the resource's path and a version: `orders.v1`. A user who asks for a
/// backfill gets the next version, and so a state that is empty.
struct FlowState: Equatable, Sendable {
  let stateKey: String
  /// The state key of before, if this is a backfill that no checkpoint has been committed of yet.
  let former: String?
  private let mine: JSONValue?
  private let before: JSONValue?

  init(_ state: JSONValue, stateKey: String) {
    self.stateKey = stateKey
    let states = state.objectValue?["bindingStateV1"]?.objectValue
    func value(_ key: String) -> JSONValue? {
      states?.members.first { $0.key == key && $0.value != .null }?.value
    }
    mine = value(stateKey)
    if mine != Optional.none {
      former = nil
    } else {
      former = states.flatMap { Self.former(of: stateKey, among: $0) }
    }
    before = former.flatMap(value)
  }

  /// The newest other version of the same binding.
  private static func former(of stateKey: String, among states: JSONObject) -> String? {
    func parts(_ key: String) -> (path: Substring, version: Int)? {
      guard let dot = key.lastIndex(of: "."), key[dot...].hasPrefix(".v") else { return nil }
      return Int(key[dot...].dropFirst(2)).map { (key[..<dot], $0) }
    }
    guard let own = parts(stateKey) else { return nil }
    let others = states.members.filter { member in
      guard let other = parts(member.key), member.value != .null else { return false }
      return other.path == own.path && other.version < own.version
    }
    return others.max { parts($0.key)!.version < parts($1.key)!.version }?.key
  }

  /// The runtime has never committed anything of this binding.
  var isNew: Bool { mine == Optional.none && before == Optional.none }

  /// What the state says about a journal; nil if there is none.
  ///
  /// - Throws: If there is one that this version does not understand.
  func mark() throws(FlowProtocolError) -> ResumeDecision.Mark? {
    guard let mine = mine ?? before else { return nil }
    guard let journal = mine.objectValue?["journal"]?.stringValue,
      let position = mine.objectValue?["position"]?.int64Value, (0..<1 << 61).contains(position)
    else {
      throw FlowProtocolError(
        "the state under bindingStateV1 / \(former ?? stateKey) was not written by this connector: backfill the binding to begin "
          + "without it")
    }
    return ResumeDecision.Mark(journal: journal, position: Position(rawValue: position))
  }

  /// Up to where documents of the journal with this identifier were committed, by any binding: what stood in its line before was emitted,
  /// whosever it was.
  static func position(in state: JSONValue, of journal: String) -> Position {
    let states = state.objectValue?["bindingStateV1"]?.objectValue?.members ?? []
    let found = states.compactMap { member -> Int64? in
      guard member.value["journal"]?.stringValue == journal else { return nil }
      return member.value["position"]?.int64Value
    }
    return Position(rawValue: found.filter { (0..<1 << 61).contains($0) }.max() ?? 0)
  }

  /// A journal that outlived the process was in use, and may hold what the broker no longer has. A backfill gives it up.
  var hasKeptJournal: Bool { mine?["kept"] == .bool(true) }

  /// What recognises redeliveries, for a connector without a journal of its own. A backfill goes on with it: the queue is
  /// the same.
  var redelivery: RedeliveryState? { RedeliveryState(json: (mine ?? before)?["redelivery"]) }

  /// Members of the state that a session without checkpoints that carry them must remove, so that a later one does not go by
  /// what is long past.
  var stale: [String] {
    guard let members = mine?.objectValue?.members else { return [] }
    return ["kept", "redelivery", "stream"].filter { name in members.contains { $0.key == name && $0.value != .null } }
  }

  /// Where to go on in a stream, for a connector without a journal of its own. A backfill reads it again.
  var stream: StreamResumption.State? {
    var state = StreamResumption.State(json: mine?["stream"])
    state?.journal = mine?["journal"]?.stringValue
    return state
  }
}
