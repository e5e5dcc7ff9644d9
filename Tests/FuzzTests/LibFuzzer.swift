import Glibc

/// What the running target is; libFuzzer's callback has no context. Written once, before libFuzzer starts.
nonisolated(unsafe) private var running: ([UInt8]) -> Void = { _ in }

private typealias Callback = @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
private typealias Driver =
  @convention(c) (
    UnsafeMutablePointer<Int32>, UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>, Callback
  ) -> Int32

/// Hands over to libFuzzer, where the program was linked with it (https://llvm.org/docs/LibFuzzer.html, "Using libFuzzer
/// as a library"), and ends the process; otherwise says so.
func runLibFuzzer(_ target: @escaping ([UInt8]) -> Void, _ arguments: [String]) -> Never {
  guard let symbol = unsafe dlsym(nil, "LLVMFuzzerRunDriver") else {
    print("built without libFuzzer: use scripts/fuzz")
    exit(1)
  }
  unsafe running = target
  let driver = unsafe unsafeBitCast(symbol, to: Driver.self)
  var pointers = unsafe (["Fuzz"] + arguments).map { unsafe strdup($0) } + [nil]
  var count = Int32(arguments.count + 1)
  let status = unsafe pointers.withUnsafeMutableBufferPointer { buffer in
    var base = buffer.baseAddress
    return unsafe driver(&count, &base) { bytes, size in
      unsafe running(Array(UnsafeBufferPointer(start: bytes, count: size)))
      return 0
    }
  }
  exit(status)
}

/// All of a file; nil where it cannot be read.
func readFile(_ path: String) -> [UInt8]? {
  let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65_536)
  while true {
    let count = unsafe read(descriptor, &buffer, buffer.count)
    if count < 0 { return nil }
    if count == 0 { return bytes }
    bytes += buffer[..<count]
  }
}

/// Replaces a file's content.
func writeFile(_ path: String, _ bytes: [UInt8]) {
  let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  precondition(descriptor >= 0, "cannot write \(path)")
  precondition(unsafe write(descriptor, bytes, bytes.count) == bytes.count)
  close(descriptor)
}
