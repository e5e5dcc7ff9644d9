import Testing

@testable import Agent

/// Memory for what arrives, of few subscriptions and of many.
struct ArrivalBudgetTests {
  @Test func `one alone has what it always had, and two hundred have little more together`() {
    let one = ArrivalBudget(1)
    #expect(one.batchBytes == Gathering.largestBytes && one.readBytes == 256 << 10)
    #expect(ArrivalBudget(0) == one)
    let many = ArrivalBudget(200)
    // Two batches each, and a buffer of two reads.
    #expect(200 * (2 * many.batchBytes + 2 * many.readBytes) <= 48 << 20)
    // However many there are, a batch is worth its commit.
    let most = ArrivalBudget(100_000)
    #expect(most.batchBytes == 64 << 10 && most.readBytes == 16 << 10)
  }
}
