import Journal

/// How a subscription goes on after its channel or its process has ended: by what it knows of what was captured before.
enum Resumption: Sendable {
  /// Nothing is known. What comes again is captured again, marked `redelivered`.
  case none
  /// A stream is read on from the newest captured offset.
  case stream(StreamResumption)
  /// Of a queue with one consumer, by the place in its line, which the anchor shows.
  case position(RedeliveryKeeper)
  /// By the ids that publishers gave the messages.
  case messageID(RedeliveryKeeper)
  /// The broker has yet to tell whether the queue is a stream.
  indirect case untold(ifStream: StreamResumption, otherwise: Resumption)

  /// Reads what the journal, or else the committed checkpoint, knows.
  ///
  /// - Parameters:
  ///   - subscription: Nil if nothing is captured.
  ///   - isTemporary: The journal is new, and does not outlive the process.
  ///   - checkpoints: Someone keeps checkpoints with their state over our end.
  ///   - isCarried: And they carry what the journal knows.
  init(
    _ policy: DeduplicationPolicy, _ configuration: EndpointConfiguration, journal: Journal,
    _ subscription: SubscriptionRecord?, isTemporary: Bool, checkpoints: Bool, isCarried: Bool, state: RedeliveryState?,
    streamState: StreamResumption.State?, stateKey: String?
  ) throws {
    guard let subscription else {
      self = .none
      return
    }
    let stream = try StreamResumption(
      configuration, journal: journal, subscription, isCarried: checkpoints, state: streamState, stateKey: stateKey)
    let keeper = try RedeliveryKeeper(
      policy, configuration, journal: journal, subscription, isTemporary: isTemporary, isCarried: isCarried,
      state: state)
    let queue = keeper.map { policy.byMessageID ? Resumption.messageID($0) : .position($0) } ?? .none
    switch stream {
    case nil: self = queue
    case let stream? where StreamResumption.isStream(configuration): self = .stream(stream)
    case let stream?: self = .untold(ifStream: stream, otherwise: queue)
    }
  }

  /// The same once the broker has told the queue's type. A stream that it does not tell of is consumed as a queue.
  func on(_ kind: QueueNature.Kind) -> Resumption {
    switch self {
    case .none, .stream, .position, .messageID: self
    case .untold(let stream, let otherwise): kind == .stream ? .stream(stream) : otherwise
    }
  }

  /// Whose numbers it counts by; nil if nothing is known.
  var subscription: SubscriptionRecord? { stream?.subscription ?? keeper?.subscription }

  /// What a stream is read on by; nil if the queue certainly is none.
  var stream: StreamResumption? {
    switch self {
    case .none, .position, .messageID: nil
    case .stream(let stream), .untold(let stream, _): stream
    }
  }

  /// What recognises the redeliveries of a queue; nil if nothing does.
  var keeper: RedeliveryKeeper? {
    switch self {
    case .none, .stream: nil
    case .position(let keeper), .messageID(let keeper): keeper
    case .untold(_, let otherwise): otherwise.keeper
    }
  }
}
