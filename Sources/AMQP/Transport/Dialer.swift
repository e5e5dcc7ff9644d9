internal import Glibc
internal import Platform

/// Opens a TCP connection to the first of some addresses that answers, within a time limit.
///
/// Two things make the plain way, one address after the other, too slow:
///
/// - A name may stand for several addresses, and a broker may have several nodes; the first may be dead (an IPv6 address
///   without a route, a node that is gone). Waiting for it would take a large part of the limit at every attempt.
/// - The kernel repeats a lost SYN after 1, 3, 7, 15 and 31 seconds. A connect that began while the network was down
///   would notice its return up to half its own age late.
///
/// So attempts overlap, as `DialPlan` says, and the first that opens wins. An address has two attempts under way at the
/// most: the first one, which has all the time for a slow way, and the newest.
struct Dialer {
  /// A node to which a connection is open.
  struct Dialled {
    var index: Int
    var socket: Socket
  }

  /// Nothing opened.
  struct Failure: Error {
    /// For each node, by its index, what became of its addresses.
    var texts: [Int: String]
  }

  let candidates: [NodeAddress]

  private struct Attempt {
    var address: Int
    var socket: Socket
  }

  /// - Parameter deadline: On `Instant.now`.
  /// - Parameter isAbandoned: As ``ConnectionSettings/isAbandoned``; what it ends is a failure.
  /// - Returns: A failure as soon as all addresses have failed, or at the deadline.
  func dial(deadline: Instant, isAbandoned: () -> Bool = { false }) -> Result<Dialled, Failure> {
    var plan = DialPlan(addresses: candidates.count, at: Instant.now)
    var attempts: [Attempt] = []
    var failures = [String?](repeating: nil, count: candidates.count)
    while true {
      let now = Instant.now
      if now >= deadline || isAbandoned() { return .failure(failure(failures)) }
      switch plan.next(at: now) {
      case .giveUp: return .failure(failure(failures))
      case .dial(let address):
        switch Socket.begin(candidates[address].address) {
        case .failure(let failure):
          failures[address] = failure.text
          plan.failed(address, at: now)
        case .success(let socket):
          let own = attempts.indices.filter { attempts[$0].address == address }
          if own.count == 2 { attempts.remove(at: own[1]) }
          attempts.append(Attempt(address: address, socket: socket))
        }
      case .wait(let until):
        for attempt in poll(attempts, until: min(until, deadline, now + Socket.look)) {
          guard let failure = attempt.socket.connectFailure() else {
            return .success(Dialled(index: candidates[attempt.address].index, socket: attempt.socket.connected()))
          }
          failures[attempt.address] = failure.text
          plan.failed(attempt.address, at: Instant.now)
          attempts.removeAll { $0.address == attempt.address }
        }
      }
    }
  }

  /// The attempts that have come to an end, good or bad.
  private func poll(_ attempts: [Attempt], until: Instant) -> [Attempt] {
    var descriptors = attempts.map { pollfd(fd: $0.socket.descriptor, events: Int16(POLLOUT), revents: 0) }
    guard unsafe Glibc.poll(&descriptors, nfds_t(descriptors.count), (until - .now).pollMilliseconds) > 0 else {
      return []
    }
    return zip(attempts, descriptors).filter { $0.1.revents != 0 }.map(\.0)
  }

  private func failure(_ failures: [String?]) -> Failure {
    var texts: [Int: String] = [:]
    for (candidate, failure) in zip(candidates, failures) {
      let text = "\(candidate.address.text) port \(candidate.port): \(failure ?? "no answer in time")"
      texts[candidate.index] = texts[candidate.index].map { "\($0); \(text)" } ?? text
    }
    return Failure(texts: texts)
  }
}

/// Decides which address is dialled when.
///
/// Addresses are dialled in the resolver's order, the next one a little later or at once after a failure
/// (https://www.rfc-editor.org/rfc/rfc8305#section-5). Those that neither opened nor failed are dialled anew, round by
/// round. An address that failed is not: what refuses now will be asked again by the next attempt of the capture.
struct DialPlan {
  enum Action: Equatable {
    /// Begin to connect to this address, and ask again.
    case dial(Int)
    /// Nothing to begin before this time, or before a failure.
    case wait(until: Instant)
    /// Every address has failed.
    case giveUp
  }

  /// RFC 8305's "Connection Attempt Delay".
  static let addressDelay = Duration.milliseconds(250)
  /// Between the last address of a round and the first of the next one. A SYN of each attempt is repeated after one
  /// second, so one goes out every second.
  static let roundDelay = Duration.seconds(2)

  private var live: [Int]
  private var round: [Int]
  private var nextDial: Instant
  private var nextRound: Instant

  init(addresses count: Int, at now: Instant) {
    live = Array(0..<count)
    round = live
    nextDial = now
    nextRound = now
  }

  mutating func next(at now: Instant) -> Action {
    if live.isEmpty { return .giveUp }
    if round.isEmpty {
      if now < nextRound { return .wait(until: nextRound) }
      round = live
    }
    if now < nextDial { return .wait(until: nextDial) }
    nextDial = now + Self.addressDelay
    nextRound = now + Self.roundDelay
    return .dial(round.removeFirst())
  }

  /// An attempt to reach `address` was refused, or could not be made.
  mutating func failed(_ address: Int, at now: Instant) {
    live.removeAll { $0 == address }
    round.removeAll { $0 == address }
    nextDial = now
  }
}
