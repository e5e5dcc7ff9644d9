extension Database {
  /// True if exactly the positions from `first` to `last` are of no message: a salvage has reported that it could not read them, or they
  /// were parked. A journal of the first schema, which a reader may meet, has no gaps.
  func isGap(_ first: Int64, _ last: Int64) throws(JournalError) -> Bool {
    guard try integer("SELECT count(*) FROM sqlite_master WHERE name = 'gap'", "look for gaps") > 0 else {
      return false
    }
    return try integer("SELECT count(*) FROM gap WHERE first = \(first) AND last = \(last)", "read the gaps") > 0
  }
}

extension Journal {
  /// How many positions after `position` and up to `through` belong to messages that a salvage could not read, or that are parked.
  func missing(after position: Int64, through: Int64) throws(JournalError) -> Int64 {
    try database.integer(
      """
      SELECT coalesce(sum(min(last, \(through)) - max(first, \(position + 1)) + 1), 0) FROM gap
      WHERE last > \(position) AND first <= \(through)
      """, "read the gaps")
  }
}
