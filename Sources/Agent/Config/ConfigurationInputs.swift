import Glibc
import Platform

/// What a configuration file may take from outside: environment variables and other files.
struct ConfigurationInputs: Sendable {
  /// The variable's value, or nil if it is not set.
  var environment: @Sendable (_ name: String) -> String?
  /// The file's text; the error is a clause such as `No such file or directory`, without any content.
  var contents: @Sendable (_ path: String) -> Result<String, UnreadableFile>

  /// Whether a path is that of a regular file: anything else (a pipe, a device) gives what it has once.
  var isFile: @Sendable (_ path: String) -> Bool = { path in
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  struct UnreadableFile: Error, Equatable {
    var reason: String
  }

  /// Those of this process.
  static let process = ConfigurationInputs(
    environment: { environmentVariable($0) },
    contents: { path in readText(path) })

  /// Reads a whole file of valid UTF-8, at most `SourceText.maximumBytes`; `-` is stdin. Pipes are fine (`<(…)`).
  private static func readText(_ path: String) -> Result<String, UnreadableFile> {
    let bytes: [UInt8]
    do throws(UnreadFile) {
      bytes = try readFile(path, limit: SourceText.maximumBytes, readsStandardInput: true)
    } catch {
      switch error {
      case .system(let code): return .failure(UnreadableFile(reason: systemText(code)))
      case .isLarger: return .failure(UnreadableFile(reason: "larger than \(SourceText.maximumBytes) bytes"))
      }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      return .failure(UnreadableFile(reason: "not valid UTF-8"))
    }
    return .success(text)
  }
}
