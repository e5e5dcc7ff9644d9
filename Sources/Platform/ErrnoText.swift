internal import Glibc

/// The operating system's words for an errno.
package func systemText(_ code: Int32) -> String {
  guard let text = unsafe strerror(code) else { return "error \(code)" }
  // Copied before another call could change it.
  return unsafe String(cString: text)
}

/// The operating system's words for an errno, with its number.
package func errnoText(_ code: Int32) -> String { "\(systemText(code)) (errno \(code))" }
