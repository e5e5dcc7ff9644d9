/// What the test targets share: a private broker's details, a publisher, a stand-in for Flow's runtime.
///
/// ```
///   test ──► TestBroker   names, credentials, rabbitmqctl          (environment written by scripts/broker)
///        ──► Publisher    publish, declare, get; always confirmed  (scripts/lib/publisher.py, pika)
///        ──► FlowRuntime  Spec, Open, commit, Acknowledge, kill    (the source-amqp binary, over pipes)
/// ```
///
/// All waiting goes through `Monitor`: a thread sleeps until the very state it asked for is there. Each wait has a limit,
/// far above anything a slow machine needs, which turns a hang into an error that says what was waited for; no test
/// measures time with it.
///
/// Everything here blocks its caller and keeps its own threads, so it works from any test, synchronous or not.

/// Something a test waited for, or asked of a tool, that did not happen.
public struct SupportError: Error, CustomStringConvertible {
  /// One line or more for the test's log.
  public let description: String

  public init(_ description: String) {
    self.description = description
  }
}

/// The limit of a wait that has no reason to be long.
public let generousLimit: Duration = .seconds(120)
