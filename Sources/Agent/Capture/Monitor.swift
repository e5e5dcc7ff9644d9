import AMQP
internal import Glibc

/// What there is to do: something now, or nothing before a time, in seconds of ``SystemClock``, unless something else happens.
enum Next<Result> {
  case now(Result)
  case later(Double)
}

extension Next: Equatable where Result: Equatable {}
extension Next: Sendable where Result: Sendable {}

/// State that several threads share: one lock, and one condition to wait for a change of it.
///
/// `@unchecked Sendable`: `state` is touched only while `mutex` is held.
@safe final class Monitor<State>: @unchecked Sendable {
  private var state: State
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>

  init(_ state: sending State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    // Waits are measured on a clock that nobody can set.
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    unsafe pthread_cond_init(condition, &attributes)
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_cond_destroy(condition)
    unsafe pthread_mutex_destroy(mutex)
    unsafe condition.deallocate()
    unsafe mutex.deallocate()
  }

  /// Looks at the state or changes it, and lets every waiting thread look again.
  @discardableResult
  func update<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer {
      unsafe pthread_cond_broadcast(condition)
      unsafe pthread_mutex_unlock(mutex)
    }
    return try body(&state)
  }

  /// Looks at the state without waking anybody.
  func read<Result>(_ body: (State) throws -> Result) rethrows -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return try body(state)
  }

  /// Waits until `body` has something. It runs under the lock, first at once, then after every ``update(_:)``, and when the time comes that
  /// it gave last.
  func wait<Result>(for body: (inout State) -> Next<Result>) -> Result {
    var deadline = Double.infinity
    while true {
      let left = deadline.isFinite ? max(deadline - SystemClock.now(), 0) : .infinity
      let first = deadline
      let found: Next<Result>? = wait(atMost: left) { state in
        let next = body(&state)
        switch next {
        case .now: return next
        // Waits again if it is to be asked at another time.
        case .later(let time): return time == first ? nil : next
        }
      }
      switch found {
      case .now(let result): return result
      case .later(let time): deadline = time
      case nil: break
      }
    }
  }

  /// Waits until `body` returns something, or for at most `seconds`; then nil. `body` runs under the lock, first at once
  /// and then after every ``update(_:)``.
  func wait<Result>(atMost seconds: Double = .infinity, until body: (inout State) -> Result?) -> Result? {
    var deadline = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &deadline)
    if seconds.isFinite {
      let nanoseconds = deadline.tv_nsec + Int(seconds.truncatingRemainder(dividingBy: 1) * 1e9)
      deadline.tv_sec += Int(seconds) + nanoseconds / 1_000_000_000
      deadline.tv_nsec = nanoseconds % 1_000_000_000
    }
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(&state) { return result }
      let status =
        seconds.isFinite
        ? unsafe pthread_cond_timedwait(condition, mutex, &deadline)
        : unsafe pthread_cond_wait(condition, mutex)
      if status == ETIMEDOUT { return body(&state) }
    }
  }
}
