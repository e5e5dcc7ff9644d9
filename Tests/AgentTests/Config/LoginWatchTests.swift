import Testing

@testable import Agent

/// When a login that is read each second counts as changed.
struct LoginWatchTests {
  private static func login(_ password: String) throws -> Result<Login, ConfigurationError> {
    var login = try EndpointConfiguration.parse(["host": "h", "queue": ["name": "q"]]).login
    login.password = Secret(password)
    return .success(login)
  }

  private static let gone = Result<Login, ConfigurationError>.failure(ConfigurationError([]))

  @Test func `what is half written does not count, and what counts is told once`() throws {
    let old = try Self.login("old")
    var watch = LoginWatch(try old.get())
    #expect(watch.looked(old) == .none)
    #expect(watch.looked(try Self.login("ne")) == .none)
    let new = try Self.login("new")
    #expect(watch.looked(new) == .none)
    #expect(watch.looked(new) == .changed(try new.get()))
    #expect(watch.looked(new) == .none)
  }

  @Test func `what cannot be read is told once, and is handed over when it is back`() throws {
    let old = try Self.login("old")
    var watch = LoginWatch(try old.get())
    #expect((0..<5).map { _ in watch.looked(Self.gone) == .none } == [true, true, false, true, true])
    // Connections have failed by it meanwhile.
    #expect(watch.looked(old) == .changed(try old.get()))
  }
}
