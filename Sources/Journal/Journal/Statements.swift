/// The writer's statements, prepared once.
struct Statements {
  let begin: Statement
  let commit: Statement
  let rollback: Statement
  let epoch: Statement
  let counters: Statement
  let setCaptured: Statement
  let insert: Statement
  /// Parameters 8 and 9 of `insert`.
  let exchange: RepeatedText
  let routingKey: RepeatedText
  let delete: Statement
  let setOutput: Statement
  let getOutput: Statement
  let setRedelivery: Statement
  let appendDigests: Statement
  let pruneDigests: Statement
  let pageCount: Statement
  let freePages: Statement
  let dataVersion: Statement

  /// - Throws: `.corrupt` if a table or column is missing.
  init(_ database: Database) throws(JournalError) {
    begin = try database.prepare("BEGIN IMMEDIATE", "begin")
    commit = try database.prepare("COMMIT", "commit")
    rollback = try database.prepare("ROLLBACK", "roll back")
    epoch = try database.prepare("SELECT epoch FROM journal", "compare the epoch")
    counters = try database.prepare(
      "UPDATE journal SET last = ?1, emitted = ?2, committed = ?3, bytes = ?4, digest = \(Counters.digest)",
      "store the counters")
    setCaptured = try database.prepare(
      "UPDATE subscription SET captured = ?2, digest = row_digest(key, stream, queue, virtual_host, ?2) WHERE key = ?1",
      "store the numbers")
    insert = try database.prepare(
      """
      INSERT INTO message (
        position, consumer, delivery_tag, received_at, redelivered, size, bytes_before, exchange, routing_key,
        properties, raw_properties, body, digest, number
      ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
      """, "append")
    exchange = RepeatedText(insert, 8)
    routingKey = RepeatedText(insert, 9)
    delete = try database.prepare("DELETE FROM message WHERE position > ?1 AND position <= ?2", "prune")
    setOutput = try database.prepare(
      """
      INSERT OR REPLACE INTO output (name, file, length, started_at, inode, digest)
      VALUES (?1, ?2, ?3, ?4, ?5, row_digest(?1, ?2, ?3, ?4, ?5))
      """,
      "store the output's length")
    getOutput = try database.prepare(
      OutputRecord.query(version: Schema.current.version), "read the output's length")
    setRedelivery = try database.prepare(
      """
      INSERT OR REPLACE INTO redelivery (
        subscription, queue, releasable, prefetch, priority, priority_since, stream_offset, settled, digest
      ) VALUES (?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7, row_digest(?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7))
      """, "store the redelivery state")
    appendDigests = try database.prepare(
      """
      INSERT INTO digest (last, digests, priority, priority_since, begins_line, digest)
      VALUES (?1, ?2, ?3, ?4, ?5, row_digest(?1, ?2, ?3, ?4, ?5))
      """,
      "append digests")
    pruneDigests = try database.prepare("DELETE FROM digest WHERE last BETWEEN ?2 AND ?1", "prune digests")
    pageCount = try database.prepare("PRAGMA page_count", "count the pages")
    freePages = try database.prepare("PRAGMA freelist_count", "count the free pages")
    dataVersion = try database.prepare("PRAGMA data_version", "ask whether someone else has written")
  }
}
