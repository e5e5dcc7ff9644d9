import Journal
import Logging

extension Journal {
  /// Opens a journal; a damaged one is salvaged first if that loses nothing.
  ///
  /// What happened is logged and shown as the connector's status. If a message that may have been acknowledged cannot
  /// be read the capture does not go on by itself: someone may have a copy of the file.
  ///
  /// - Throws: `.corrupt` with the messages that are missing and what to do; everything that ``open(_:)`` throws.
  static func openSalvaging(_ settings: JournalSettings, log: Logger) throws(JournalError) -> Journal {
    do throws(JournalError) { return try open(settings) } catch {
      guard case .corrupt = error.kind, !settings.temporary else { throw error }
      log.warning("\(error)")
      let report = try salvage(settings, acceptLoss: false)
      guard report.setAside != nil else {
        log.info("\(report.description)", metadata: ["eventType": "connectorStatus"])
        throw JournalError(kind: .corrupt(report.refusal), operation: "open", object: report.path)
      }
      log.warning("\(report.description)", metadata: ["eventType": "connectorStatus"])
      return try open(settings)
    }
  }
}
