public import Glibc
import Platform
import Synchronization

/// A child process with pipes for stdin, stdout and stderr.
///
/// Two threads read the child's output and hand it on line by line, one reaps it, so that its end is noticed at once. A child that is
/// still there when this object goes is killed.
public final class ChildProcess: Sendable {
  /// How a process ended.
  public enum Exit: Sendable, Equatable {
    /// It returned this status.
    case exited(Int32)
    /// This signal ended it.
    case signalled(Int32)
  }

  /// A piece of the child's output.
  public enum Output: Sendable {
    /// A complete line without its 0x0A; nothing else separates lines.
    case line([UInt8])
    /// The end of the stream, and what stood there without an end of line (empty in good order).
    case end(torn: [UInt8])
  }

  /// No one else reaps this process, so the number is the child's until `waitForExit` returned.
  public let pid: pid_t
  private let input: Monitor<Int32>
  private let exit: Monitor<Exit?>

  /// Starts `executable`, an absolute path.
  ///
  /// - Parameter environment: Set on top of this process's own environment.
  /// - Parameter onOutput: Called on the thread that reads stdout, in order; while it runs, nothing more is read.
  /// - Parameter onError: The same for stderr.
  public init(
    _ executable: String, _ arguments: [String] = [], environment: [String: String] = [:],
    onOutput: @escaping @Sendable (Output) -> Void, onError: @escaping @Sendable (Output) -> Void
  ) throws {
    Self.ignoreBrokenPipes
    let (pid, input, output, error) = try Self.spawning.withLock { _ in
      let (childInput, input) = try Self.pipe()
      let (output, childOutput) = try Self.pipe()
      let (error, childError) = try Self.pipe()
      defer { for descriptor in [childInput, childOutput, childError] { _ = close(descriptor) } }
      let pid = try Self.spawn(executable, arguments, environment, [childInput, childOutput, childError])
      return (pid, input, output, error)
    }
    self.pid = pid
    self.input = Monitor(input)
    let exit = Monitor<Exit?>(nil)
    self.exit = exit
    startThread { Self.readLines(output, onOutput) }
    startThread { Self.readLines(error, onError) }
    startThread {
      let status = Self.reap(pid)
      exit.update { $0 = status }
    }
  }

  deinit {
    if exit.update({ $0 }) == nil { _ = Glibc.kill(pid, SIGKILL) }
    closeInput()
  }

  /// Writes all of `bytes` to the child's stdin; blocks while the pipe is full.
  ///
  /// - Throws: If the child closed its stdin, or this side did.
  public func write(_ bytes: [UInt8]) throws {
    // Not under the monitor's lock: a write that blocks must not keep closeInput() or another thread waiting.
    let descriptor = input.update { $0 }
    var offset = 0
    while offset < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { all in
        unsafe Glibc.write(descriptor, all.baseAddress! + offset, all.count - offset)
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw SupportError("write to process \(pid): errno \(errno)") }
      offset += count
    }
  }

  /// Writes one line.
  public func write(line: String) throws {
    try write(Array(line.utf8) + [0x0A])
  }

  /// Ends the child's stdin. More than once is fine.
  public func closeInput() {
    let descriptor = input.update { current in
      defer { current = -1 }
      return current
    }
    if descriptor >= 0 { _ = close(descriptor) }
  }

  /// Sends a signal; nothing happens where the child has ended.
  public func signal(_ number: Int32) {
    exit.update { if $0 == nil { _ = Glibc.kill(pid, number) } }
  }

  /// Waits for the child's end.
  public func waitForExit(atMost limit: Duration = generousLimit) throws -> Exit {
    guard let status = exit.wait(atMost: limit, until: { $0 }) else {
      throw SupportError("process \(pid) did not end within \(limit)")
    }
    return status
  }

  /// How the child ended; nil while it runs.
  public var exitStatus: Exit? { exit.update { $0 } }

  /// Kills the child (SIGKILL) and waits until it is gone.
  public func kill() throws {
    signal(SIGKILL)
    _ = try waitForExit()
  }
}

extension ChildProcess {
  /// A write to a child that ended must be an error, not the end of the test process.
  private static let ignoreBrokenPipes: Void = { _ = Glibc.signal(SIGPIPE, SIG_IGN) }()

  /// Held from making pipes to the end of the spawn: `pipe2`, which would close them on exec at once, is not imported,
  /// and a child that inherited another's pipe would keep it open.
  private static let spawning = Mutex(())

  /// A pipe whose ends no child inherits unless it is given them.
  private static func pipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    guard unsafe Glibc.pipe(&ends) == 0 else { throw SupportError("pipe: errno \(errno)") }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
  }

  private static func spawn(
    _ executable: String, _ arguments: [String], _ added: [String: String], _ descriptors: [Int32]
  ) throws -> pid_t {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    for (target, descriptor) in descriptors.enumerated() {
      unsafe posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(target))
    }
    // The child gets SIGPIPE back, as any shell would start it.
    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    var defaults = sigset_t()
    unsafe sigemptyset(&defaults)
    unsafe sigaddset(&defaults, SIGPIPE)
    unsafe posix_spawnattr_setsigdefault(&attributes, &defaults)
    unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))

    var variables = processEnvironment()
    for (name, value) in added { variables[name] = value }
    var argv = unsafe ([executable] + arguments).map { unsafe strdup($0) } + [nil]
    defer { for index in unsafe argv.indices { unsafe free(argv[index]) } }
    var environment = unsafe variables.map { unsafe strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for index in unsafe environment.indices { unsafe free(environment[index]) } }
    var pid: pid_t = 0
    let status = unsafe posix_spawn(&pid, executable, &actions, &attributes, &argv, &environment)
    guard status == 0 else { throw SupportError("cannot start \(executable): errno \(status)") }
    return pid
  }

  private static func reap(_ pid: pid_t) -> Exit {
    var status: Int32 = 0
    while unsafe waitpid(pid, &status, 0) < 0 {
      if errno != EINTR { return .exited(-1) }
    }
    let signal = status & 0x7F
    return signal == 0 ? .exited((status >> 8) & 0xFF) : .signalled(signal)
  }

  /// Reads until the end of the stream, then closes it.
  private static func readLines(_ descriptor: Int32, _ deliver: (Output) -> Void) {
    var pending: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress!, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { break }
      var rest = buffer[..<count]
      while let end = rest.firstIndex(of: 0x0A) {
        pending += rest[..<end]
        deliver(.line(pending))
        pending.removeAll(keepingCapacity: true)
        rest = rest[(end + 1)...]
      }
      pending += rest
    }
    _ = close(descriptor)
    deliver(.end(torn: pending))
  }
}
