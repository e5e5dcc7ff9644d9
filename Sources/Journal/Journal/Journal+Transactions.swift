/// One transaction is all or nothing, and on stable storage once it returns.
extension Journal {
  /// Runs `body` in one transaction and returns once it is on stable storage.
  ///
  /// What `body` throws is thrown on, and nothing was changed. A failure of the journal inside of `body` ends the
  /// transaction even if `body` catches it. Not reentrant.
  public func write<R>(_ body: (borrowing WriteTransaction) throws -> R) throws -> R {
    try begin()
    let result: R
    do { result = try body(WriteTransaction(journal: self)) } catch {
      try abort()
      throw error
    }
    try finish()
    return result
  }

  /// ``write(_:)`` for this module, typed.
  func transaction<R>(
    _ body: (borrowing WriteTransaction) throws(JournalError) -> R
  ) throws(JournalError) -> R {
    try begin()
    let result: R
    // In a variable: lent straight from the call, it crashes the optimizer of Swift 6.3.1 (GenericSpecializer).
    let tx = WriteTransaction(journal: self)
    do throws(JournalError) { result = try body(tx) } catch {
      try abort()
      throw error
    }
    try finish()
    return result
  }

  /// Throws what made the journal unusable.
  func checkUsable() throws(JournalError) {
    if let failure { throw failure }
    if isWriting { throw invalid("inside of a transaction", "use the journal") }
  }

  private func begin() throws(JournalError) {
    try checkUsable()
    do throws(JournalError) { try statements.begin.run() } catch { throw spent(error) }
    isWriting = true
    transactionFailure = nil
    working = durable
    workingSubscriptions = durableSubscriptions
    do throws(JournalError) {
      let isOurs = try statements.epoch.step() && statements.epoch.integer(0) == epoch
      statements.epoch.reset()
      guard isOurs else { throw JournalError(kind: .fenced, operation: "begin", object: path) }
    } catch {
      transactionFailure = error
      try abort()
      throw error
    }
  }

  private func finish() throws(JournalError) {
    let after: (used: Int64, free: Int64)
    do throws(JournalError) {
      if let transactionFailure { throw transactionFailure }
      if working != durable { try storeCounters() }
      try storeNumbers()
      // Before the commit: a failure after it could not be told from one of the transaction.
      after = try space()
      try statements.commit.run()
    } catch {
      transactionFailure = error
      try abort()
      throw error
    }
    durable = working
    durableSubscriptions = workingSubscriptions
    (usedBytes, freeBytes) = after
    isWriting = false
    // The commit is done, and may be in a file that no one will find.
    try checkFiles()
    if files != nil {
      dataVersion = try readDataVersion()
      do throws(JournalError) { try rememberPositions() } catch { throw spent(error) }
    }
  }

  /// Lets the lock file know what is durable (``HighWaterMark``), and sees by that whether the commit can be relied on.
  func rememberPositions() throws(JournalError) {
    guard let doubt = lock.remember(HighWaterMark(identifier: identifier, durable)) else { return }
    throw JournalError(kind: .io(doubt), operation: "commit", object: path)
  }

  private func storeCounters() throws(JournalError) {
    let update = statements.counters
    try update.bind(1, working.last)
    try update.bind(2, working.emitted)
    try update.bind(3, working.committed)
    try update.bind(4, working.bytes)
    try update.run()
  }

  /// How many messages each subscription has, of those of which it has changed.
  private func storeNumbers() throws(JournalError) {
    let known = durableSubscriptions.captured
    for (index, captured) in workingSubscriptions.captured.enumerated()
    where !known.indices.contains(index) || captured != known[index] {
      try statements.setCaptured.bind(1, workingSubscriptions.all[index].key)
      try statements.setCaptured.bind(2, captured)
      try statements.setCaptured.run()
    }
  }

  /// Rolls back; if that fails, or the transaction's failure was fatal, the journal is spent.
  private func abort() throws(JournalError) {
    isWriting = false
    working = durable
    workingSubscriptions = durableSubscriptions
    if let transactionFailure { _ = spent(transactionFailure) }
    // Some errors, SQLITE_FULL among them, may have rolled back already (https://www.sqlite.org/lang_transaction.html).
    if database.isAutocommit { return }
    do throws(JournalError) { try statements.rollback.run() } catch {
      fail(error)
      throw error
    }
  }
}
