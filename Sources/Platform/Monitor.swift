package import Glibc

/// What there is to do: something now, or nothing before a moment, unless something else happens.
package enum Next<Result> {
  case now(Result)
  case later(Instant)
}

extension Next: Equatable where Result: Equatable {}
extension Next: Sendable where Result: Sendable {}

/// Threads that wait for a change of what a ``Monitor`` holds, each by its own condition. A monitor of one kind of waiters has the first.
package struct Listeners: OptionSet, Sendable {
  package let rawValue: UInt8

  @inlinable package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The first thread that waits.
  package static let first = Listeners(rawValue: 1)
  /// The second thread that waits.
  package static let second = Listeners(rawValue: 2)
  /// The third thread that waits.
  package static let third = Listeners(rawValue: 4)
  /// All three.
  package static let all: Listeners = [.first, .second, .third]
}

/// State that several threads share: one lock, and conditions to wait for a change of it.
///
/// `@unchecked Sendable`: `state` is touched only while `mutex` is held.
@safe package final class Monitor<State>: @unchecked Sendable {
  @usableFromInline var state: State
  @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>
  @usableFromInline let conditions: UnsafeMutablePointer<pthread_cond_t>

  @inlinable package init(_ state: sending State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe conditions = .allocate(capacity: Self.count)
    unsafe pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    // Waits are measured on a clock that no one can set.
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    for index in 0..<Self.count { unsafe pthread_cond_init(conditions + index, &attributes) }
    unsafe pthread_condattr_destroy(&attributes)
  }

  @inlinable deinit {
    for index in 0..<Self.count { unsafe pthread_cond_destroy(conditions + index) }
    unsafe pthread_mutex_destroy(mutex)
    unsafe conditions.deallocate()
    unsafe mutex.deallocate()
  }

  @inlinable static var count: Int { 3 }

  /// Looks at the state or changes it, and lets waiting threads look again: all, or those of `listeners`.
  @inlinable @discardableResult
  package func update<Result>(
    waking listeners: Listeners = .all, _ body: (inout State) throws -> Result
  ) rethrows -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer {
      wake(listeners)
      unsafe pthread_mutex_unlock(mutex)
    }
    return try body(&state)
  }

  /// Changes the state, and lets those look again for whom `body` says that it matters.
  @inlinable package func report(_ body: (inout State) -> Listeners) {
    unsafe pthread_mutex_lock(mutex)
    wake(body(&state))
    unsafe pthread_mutex_unlock(mutex)
  }

  @inlinable func wake(_ listeners: Listeners) {
    for index in 0..<Self.count where listeners.rawValue & 1 << index != 0 {
      unsafe pthread_cond_broadcast(conditions + index)
    }
  }

  /// Looks at the state without waking anybody.
  @inlinable package func read<Result>(_ body: (State) throws -> Result) rethrows -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return try body(state)
  }

  /// Waits until `body` has something. It runs under the lock, first at once, then after every ``update(_:)``, and when the time comes that
  /// it gave last.
  ///
  /// - Parameter listener: One; it looks again after what is told to it.
  @inlinable package func wait<Result>(
    as listener: Listeners = .first, for body: (inout State) -> Next<Result>
  ) -> Result {
    var deadline = Instant.distantFuture
    while true {
      // After a minute it is looked again: the machine may have slept, which counts for deadlines and not for waits.
      let left: Duration? = deadline == .distantFuture ? nil : min(deadline - .now, .seconds(60))
      let first = deadline
      let found: Next<Result>? = wait(as: listener, atMost: left) { state in
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

  /// Waits until `body` returns something, or for so long at the most; then nil. `body` runs under the lock, first at once
  /// and then after every ``update(_:)``.
  @inlinable package func wait<Result>(
    as listener: Listeners = .first, atMost time: Duration? = nil, until body: (inout State) throws -> Result?
  ) rethrows -> Result? {
    let index = listener.rawValue.trailingZeroBitCount
    precondition(listener.rawValue == 1 << index && index < Self.count, "one listener waits")
    var deadline = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &deadline)
    if let (seconds, attoseconds) = time.map({ max($0, .zero).components }) {
      let nanoseconds = deadline.tv_nsec + Int(attoseconds / 1_000_000_000)
      // Longer than any process lives.
      deadline.tv_sec += Int(min(seconds, 1 << 32)) + nanoseconds / 1_000_000_000
      deadline.tv_nsec = nanoseconds % 1_000_000_000
    }
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    while true {
      if let result = try body(&state) { return result }
      let status =
        time != nil
        ? unsafe pthread_cond_timedwait(conditions + index, mutex, &deadline)
        : unsafe pthread_cond_wait(conditions + index, mutex)
      if status == ETIMEDOUT { return try body(&state) }
      precondition(status == 0, "a condition cannot be waited for")
    }
  }
}

/// State that several threads share and no one waits for. A lock of POSIX threads, which every tool that looks for races knows; what Swift's
/// `Mutex` does is atomics that they do not see.
@safe package final class Locked<State: ~Copyable>: @unchecked Sendable {
  @usableFromInline var state: State
  @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>

  @inlinable package init(_ state: consuming sending State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
  }

  @inlinable deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }

  /// Looks at the state, or changes it.
  @inlinable package func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return try body(&state)
  }
}
