internal import Glibc

/// A thread of the operating system, for work that blocks.
package enum OSThread {
  private final class Work {
    let name: String
    let body: @Sendable () -> Void
    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }

  /// Runs `body` on a new, detached thread. If the system has none, as with a limit of processes that is reached, the process
  /// ends: without its threads it can do nothing that it exists for, and nothing was acknowledged yet.
  package static func start(_ name: String, stackBytes: Int = 1 << 20, _ body: @escaping @Sendable () -> Void) {
    let status = tryToStart(name, stackBytes: stackBytes, body)
    guard status == 0 else {
      SystemLimit.end(
        "no thread \(name): \(systemText(status)) (the limit of processes, ulimit -u, of memory, ulimit -v, or of the container)"
      )
    }
  }

  /// Like ``start(_:stackBytes:_:)``, for a thread that can be done without.
  ///
  /// - Parameters:
  ///   - name: Shown by `ps -L` and debuggers; at most 15 bytes are.
  ///   - stackBytes: A multiple of the page size. Memory is used only as deep as the stack really gets.
  /// - Returns: 0, or the errno for which there is no thread.
  package static func tryToStart(_ name: String, stackBytes: Int = 1 << 20, _ body: @escaping @Sendable () -> Void)
    -> Int32
  {
    let work = unsafe Unmanaged.passRetained(Work(name: name, body: body))
    var attributes = pthread_attr_t()
    unsafe pthread_attr_init(&attributes)
    unsafe pthread_attr_setstacksize(&attributes, stackBytes)
    unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { unsafe pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    let status = unsafe pthread_create(
      &thread, &attributes,
      { context in
        // The context is the `Work` retained above, taken over here and nowhere else.
        let work = unsafe Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
        OSThread.showName(work.name)
        work.body()
        return nil
      }, work.toOpaque())
    if status != 0 { unsafe work.release() }
    return status
  }

  /// Glibc's module lacks `pthread_setname_np`.
  private static func showName(_ name: String) {
    let file = unsafe open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    _ = unsafe write(file, name, min(name.utf8.count, 15))
    close(file)
  }
}
