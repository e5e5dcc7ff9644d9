import Glibc

/// What libFuzzer calls for each input, in a program that scripts/fuzz links; the variable FUZZ_TARGET says which target it
/// is for. https://llvm.org/docs/LibFuzzer.html
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  chosen(unsafe Array(UnsafeBufferPointer(start: bytes, count: size)))
  return 0
}

private let chosen: @Sendable ([UInt8]) -> Void = {
  let name = unsafe getenv("FUZZ_TARGET").map { unsafe String(cString: $0) } ?? ""
  guard let target = targets[name] else {
    fatalError("FUZZ_TARGET must be one of \(targets.keys.sorted().joined(separator: ", "))")
  }
  return target
}()

/// Replaces a file's content.
func writeFile(_ path: String, _ bytes: [UInt8]) {
  let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  precondition(descriptor >= 0, "cannot write \(path)")
  precondition(unsafe write(descriptor, bytes, bytes.count) == bytes.count)
  close(descriptor)
}
