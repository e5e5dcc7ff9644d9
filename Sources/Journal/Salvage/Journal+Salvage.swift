extension Journal {
  /// Makes a sound journal of what can be read of a damaged one, and sets the damaged files aside.
  ///
  /// Identifier and positions stay what they were, so a consumer that remembers a position of this journal goes on after it;
  /// what is missing becomes a gap, and no position is used twice. The damaged file and its WAL get the name
  /// `PATH.corrupt-TIME` and are never deleted.
  ///
  /// If a message that may have been acknowledged cannot be read, or the counters cannot, the files stay where they are
  /// unless `acceptLoss`: this is for a person to decide, who may have a copy. The report says which messages.
  ///
  /// Killed at any moment, it can be run again: until it is through, a mark keeps everybody from opening the journal.
  ///
  /// - Throws: `.corrupt` if not even the tables can be found; `.full`; everything that ``open(_:)`` throws for a file
  ///   that is no journal of this version. Then nothing was changed.
  public static func salvage(_ settings: JournalSettings, acceptLoss: Bool) throws(JournalError) -> SalvageReport {
    let (directory, file) = try File.resolve(settings.path)
    try File.refuseUnsupported(directory)
    let lock = try FileLock(path: "\(file).lock")
    defer { lock.release() }
    var mark = try DamageMark(readingFor: file)
    let old = mark?.setAside ?? file
    guard try File.find(old) == .regular else {
      throw JournalError(kind: .corrupt("there is no database to salvage"), operation: "salvage", object: old)
    }
    try checkHeader(old, .current)
    let hadWAL = try File.find("\(old)-wal") != .nothing

    // SQLite would read a damaged WAL up to the damage only.
    let (new, mended) = ("\(file).new", "\(file).mended")
    try File.removeDatabase(mended)
    let log = try WriteAheadLog(of: old)
    let isMended = log?.damage != nil
    defer { for name in [new, mended] { try? File.removeDatabase(name) } }
    if isMended { try log?.mend(old, into: mended) }
    var salvager = try Salvager(
      reading: isMended ? mended : old, reportingAs: file, mark: lock.mark, isMended: isMended)
    defer {
      // What SQLite made for reading.
      salvager.close()
      if !hadWAL { for suffix in ["-wal", "-shm"] { try? File.remove("\(old)\(suffix)") } }
    }
    try build(new, settings, .current) { (target) throws(JournalError) in try salvager.copy(to: target) }
    var report = salvager.report
    guard acceptLoss || report.losesNothing else { return report }

    salvager.close()
    var aside = "\(file).corrupt-\(utcTime())"
    if let complete = mark?.setAside { aside = complete } else { aside = try unusedName(aside) }
    if mark?.setAside == nil {
      mark = mark ?? DamageMark(reason: "a salvage did not come to its end")
      try mark?.write(for: file, in: directory)
      // Both names before the first is taken away: a database without its WAL is another database.
      if hadWAL { try File.link("\(file)-wal", as: "\(aside)-wal") }
      try File.link(file, as: aside)
      try File.sync(directory)
      mark?.setAside = aside
      try mark?.write(for: file, in: directory)
    }
    for suffix in ["-wal", "-shm"] { try File.remove("\(file)\(suffix)") }
    try File.sync(directory)
    try File.rename(new, to: file)
    try File.sync(directory)
    try DamageMark.remove(for: file, in: directory)
    report.setAside = aside
    return report
  }

  /// `name`, or `name-2` and so on if something has it.
  private static func unusedName(_ name: String) throws(JournalError) -> String {
    var (found, number) = (name, 1)
    while true {
      if try File.find(found) == .nothing, try File.find("\(found)-wal") == .nothing { return found }
      number += 1
      found = "\(name)-\(number)"
    }
  }
}
