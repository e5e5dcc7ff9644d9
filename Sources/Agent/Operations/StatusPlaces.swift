/// The places that a listener has for clients, and who has to leave one.
///
/// There is always room for the next one: if all places are taken, the connection goes that has waited longest since it began or
/// got its last answer. So clients that hold connections open and ask nothing keep no one out.
struct StatusPlaces<Client: Hashable> {
  /// How many there may be, at least 1.
  let limit: Int
  /// In the order of ``arrived(_:)`` and ``served(_:)``, each under a number that grows.
  private var turns: [Client: Int] = [:]
  private var next = 0

  init(limit: Int) { self.limit = limit }

  var count: Int { turns.count }

  /// - Returns: The client whose place it takes; nil if there was one free.
  mutating func arrived(_ client: Client) -> Client? {
    var displaced: Client?
    if turns.count >= limit {
      displaced = turns.min { $0.value < $1.value }?.key
      if let displaced { turns[displaced] = nil }
    }
    served(client, isNew: true)
    return displaced
  }

  /// It got an answer; not of one that has gone.
  mutating func served(_ client: Client) { served(client, isNew: false) }

  private mutating func served(_ client: Client, isNew: Bool) {
    guard isNew || turns[client] != nil else { return }
    turns[client] = next
    next += 1
  }

  mutating func left(_ client: Client) { turns[client] = nil }

  /// How many places there are if the process may have `descriptors` open: most are the capture's.
  static func limit(descriptors: Int) -> Int { min(64, max(4, (descriptors - 48) / 2)) }
}
