internal import Glibc

/// Times of day, in microseconds since 1970-01-01T00:00:00Z. Waits go by ``Instant``.
public enum SystemClock {
  /// As the machine was set when this was first asked, counted on by ``Instant``: for spans that outlive the process, and are not to become
  /// longer or shorter because someone sets the clock.
  public static func steadyMicroseconds() -> Int64 {
    base.microseconds + Int64((Instant.now - base.at) / .microseconds(1))
  }

  private static let base = (microseconds: wallMicroseconds(), at: Instant.now)

  /// As the machine is set now.
  public static func wallMicroseconds() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
  }
}
