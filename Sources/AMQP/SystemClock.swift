internal import Glibc

/// The two clocks of the machine.
public enum SystemClock {
  /// Seconds since some fixed moment; never set back, and goes on while the machine sleeps (`CLOCK_BOOTTIME`), so that a
  /// process that was stopped for long knows how long.
  public static func now() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_BOOTTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  /// Microseconds since 1970-01-01T00:00:00Z as the machine was set when this was first asked, counted on by ``now()``: for spans
  /// that outlive the process, and are not to become longer or shorter because somebody sets the clock.
  public static func steadyMicroseconds() -> Int64 { steadyBase + Int64(now() * 1e6) }

  private static let steadyBase = wallMicroseconds() - Int64(now() * 1e6)

  /// Microseconds since 1970-01-01T00:00:00Z, as the machine is set.
  public static func wallMicroseconds() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
  }
}

/// The operating system's words for an errno.
func systemText(_ code: Int32) -> String {
  guard let text = unsafe strerror(code) else { return "error \(code)" }
  return unsafe String(cString: text)
}
