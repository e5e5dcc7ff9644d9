internal import Glibc

/// A moment of the one clock by which this program waits: it is never set back, and goes on while the machine sleeps (`CLOCK_BOOTTIME`), so
/// that a process that was stopped for long knows how long. Moments of two starts of a machine have nothing to do with each other.
/// https://man7.org/linux/man-pages/man2/clock_gettime.2.html
///
/// Sums stay within ``distantPast`` and ``distantFuture``.
public struct Instant: InstantProtocol, Hashable, Sendable {
  /// Nanoseconds since the machine was started.
  private let nanoseconds: Int64

  private init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  /// As long after the machine was started.
  public init(sinceBoot duration: Duration) { nanoseconds = duration.nanoseconds }

  /// Before everything.
  public static let distantPast = Instant(nanoseconds: .min)
  /// Never.
  public static let distantFuture = Instant(nanoseconds: .max)

  /// This moment.
  public static var now: Instant {
    var time = timespec()
    unsafe clock_gettime(CLOCK_BOOTTIME, &time)
    return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  /// So much later, or earlier if it is negative; within ``distantPast`` and ``distantFuture``.
  public func advanced(by duration: Duration) -> Instant {
    let (sum, isTooLarge) = nanoseconds.addingReportingOverflow(duration.nanoseconds)
    guard isTooLarge else { return Instant(nanoseconds: sum) }
    return duration < .zero ? .distantPast : .distantFuture
  }

  /// From this moment to `other`: negative if that is earlier; within what 64 bits of nanoseconds hold.
  public func duration(to other: Instant) -> Duration {
    let (difference, isTooLarge) = other.nanoseconds.subtractingReportingOverflow(nanoseconds)
    if isTooLarge { return .nanoseconds(other > self ? Int64.max : .min) }
    return .nanoseconds(difference)
  }

  public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

  public static func + (moment: Instant, duration: Duration) -> Instant { moment.advanced(by: duration) }

  public static func - (moment: Instant, duration: Duration) -> Instant { moment.advanced(by: .zero - duration) }

  /// From `right` to `left`.
  public static func - (left: Instant, right: Instant) -> Duration { right.duration(to: left) }
}

extension Duration {
  /// Seconds, with the fraction.
  public var inSeconds: Double {
    Double(nanoseconds) / 1e9
  }

  /// Milliseconds for `poll`, rounded up, 0 to 60,000; the caller polls again after that.
  public var pollMilliseconds: Int32 {
    if self <= .zero { return 0 }
    return Int32(min(nanoseconds / 1_000_000 + 1, 60_000))
  }

  /// Nanoseconds; the largest or smallest number for what has more.
  fileprivate var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (whole, isTooLarge) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    guard !isTooLarge else { return seconds < 0 ? .min : .max }
    let (sum, overflows) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
    return overflows ? (seconds < 0 ? .min : .max) : sum
  }
}
