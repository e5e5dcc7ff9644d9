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

  /// Runs `body` on a new, detached thread.
  ///
  /// - Parameters:
  ///   - name: Shown by `ps -L` and debuggers; at most 15 bytes are.
  ///   - stackBytes: A multiple of the page size. Memory is used only as deep as the stack really gets.
  package static func start(_ name: String, stackBytes: Int = 1 << 20, _ body: @escaping @Sendable () -> Void) {
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
    // Without its threads the process can do nothing that it exists for, and nothing was acknowledged yet.
    precondition(status == 0, "no thread \(name): \(systemText(status))")
  }

  /// Where `pthread_setname_np` would do the same, if Glibc's module had it.
  private static func showName(_ name: String) {
    let file = unsafe open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    _ = unsafe write(file, name, min(name.utf8.count, 15))
    close(file)
  }
}
