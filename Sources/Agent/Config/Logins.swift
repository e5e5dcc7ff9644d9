import Platform

/// What a connection is made with that may change while the process runs: a user, a password or token, certificates.
struct Login: Equatable, Sendable {
  var username: String
  var password: Secret
  var tls: TLSConfiguration
}

extension EndpointConfiguration {
  var login: Login { Login(username: username, password: password, tls: tls) }
}

/// Where logins come from: the configuration, in which `${file:PATH}` is read again for each connection, since passwords and tokens
/// are changed by changing such files. What else a configuration says stays as it was at the start.
final class Logins: Sendable {
  /// A file is named in one of the settings that a connection is made with.
  let mayChange: Bool
  private let source: @Sendable () throws(ConfigurationError) -> Login
  private let known: Locked<Login>

  /// One that never changes.
  convenience init(_ login: Login) { self.init(login, mayChange: false) { () throws(ConfigurationError) in login } }

  /// - Parameter source: Reads it; from any thread.
  init(_ login: Login, mayChange: Bool, source: @escaping @Sendable () throws(ConfigurationError) -> Login) {
    self.mayChange = mayChange
    self.source = source
    known = Locked(login)
  }

  /// The login as it is now.
  ///
  /// - Throws: If a file cannot be read, or does not hold what the setting may be.
  func read() throws(ConfigurationError) -> Login {
    guard mayChange else { return newest }
    let login = try source()
    known.withLock { $0 = login }
    return login
  }

  /// The login that was read last.
  var newest: Login { known.withLock { $0 } }
}

/// Decides when a login has changed, of what is read each second. A file that is being written may be half there, so what it says counts
/// if it stays the same from one look to the next.
struct LoginWatch {
  enum Change: Equatable {
    case none
    case changed(Login)
    /// It was there, and cannot be read for three looks. Connections fail by that until it is back.
    case unreadable(ConfigurationError)
  }

  /// What is in use; nil after it could not be read.
  private var known: Login?
  private var candidate: Login?
  private var failures = 0

  init(_ login: Login) { (known, candidate) = (login, login) }

  mutating func looked(_ found: Result<Login, ConfigurationError>) -> Change {
    switch found {
    case .failure(let error):
      known = nil
      failures += 1
      return failures == 3 ? .unreadable(error) : .none
    case .success(let login):
      failures = 0
      defer { candidate = login }
      guard login == candidate, login != known else { return .none }
      known = login
      return .changed(login)
    }
  }
}
