extension Journal {
  // MARK: Seams

  /// Writes the content of a journal, which is closed and has one subscription, as an older version of the program would have, so that
  /// tests can migrate it.
  package static func copy(_ path: String, asVersion version: Int, to new: String) throws(JournalError) {
    let schema = Schema(steps: Array(Schema.current.steps[..<version]))
    try build(new, JournalSettings(path: new), schema) { (database) throws(JournalError) in
      try database.execute("ATTACH DATABASE '\(path)' AS newer", "copy")
      for table in Schema.tables {
        var columns: [String] = []
        try database.with("SELECT name FROM pragma_table_info('\(table)', 'main') WHERE name <> 'digest'", "copy") {
          (row) throws(JournalError) in while try row.step() { columns.append(row.string(0)) }
        }
        if columns.isEmpty { continue }
        let found = columns.map { table == "redelivery" && $0 == "one" ? "1" : $0 }.joined(separator: ", ")
        let names = columns.joined(separator: ", ")
        try database.execute("INSERT INTO main.\(table) (\(names)) SELECT \(found) FROM newer.\(table)", "copy")
        if version >= 5 { try database.execute(Schema.setDigest(table, version: version), "copy") }
      }
      try database.execute("DETACH DATABASE newer", "copy")
    }
  }
}
