import Foundation
import Journal
import Logging

/// Runs `body` with a new journal that holds one session, in a private directory that goes with it.
func withJournal(_ body: (Journal) throws -> Void) throws {
  let directory = FileManager.default.temporaryDirectory.appending(path: "source-amqp-\(UUID().uuidString)").path()
  try FileManager.default.createDirectory(
    atPath: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  defer { try? FileManager.default.removeItem(atPath: directory) }
  let journal = try Journal.open(JournalSettings(path: directory + "/journal.db"))
  try journal.beginSession(id: "s-1", queue: "orders", virtualHost: "/", startedAt: 0)
  try body(journal)
}

/// A logger that says nothing but what must not happen.
var quietLog: Logger {
  var log = Logger(label: "test")
  log.logLevel = .critical
  return log
}
