import Foundation
import Support

@testable import Agent

/// What messages of an episode look like.
enum ModelPayloads: CaseIterable {
  case distinct
  /// Distinct but for every fifth, which are equal: shorter repetitions than the anchor.
  case marked
  /// Every four of them are followed by the same four.
  case twice
  /// One of three, at random.
  case few
  case same

  /// True if no sequence as long as the anchor occurs twice, so that nothing may be duplicated.
  var areTellable: Bool {
    switch self {
    case .distinct, .marked: true
    case .twice, .few, .same: false
    }
  }

  func make(_ count: Int, _ random: inout Seeded) -> [Int] {
    (0..<count).map { index in
      switch self {
      case .distinct: index
      case .marked: index % 5 == 0 ? 0 : index
      case .twice: index / 4 % 2 == 0 ? index : index - 4
      case .few: Int.random(in: 0..<3, using: &random)
      case .same: 0
      }
    }
  }
}

/// Random episodes.
struct ModelEpisodes {
  var messages = 24
  var faults: [ModelWorld.Fault] = ModelWorld.Fault.usual
  /// At most so many faults an episode.
  var faultLimit = 8

  /// How many episodes all deployments and payloads get together.
  static let total = ProcessInfo.processInfo.environment["SOURCE_AMQP_MODEL_EPISODES"].flatMap(Int.init) ?? 20_480

  /// Runs one episode to its end: everything published, nothing left to do.
  ///
  /// - Returns: The world then, and how many faults have struck.
  func run(_ setup: ModelSetup, _ random: inout Seeded) -> (world: ModelWorld, faults: Int) {
    var world = ModelWorld(setup)
    var struck = 0
    while true {
      if struck < faultLimit, Int.random(in: 0..<14, using: &random) == 0,
        let fault = faults.randomElement(using: &random),
        let step = world.outcomes(of: fault).randomElement(using: &random)
      {
        world.apply(step)
        struck += 1
      }
      let steps = world.steps
      guard var step = steps.randomElement(using: &random) else { return (world, struck) }
      // Large batches are as likely as small ones are: everything that has arrived, every other time.
      if case .handOver = step, Bool.random(using: &random) { step = .handOver(world.broker.toAgent.count) }
      world.apply(step)
    }
  }
}

/// Every interleaving of a small case.
struct ModelSearch {
  struct Result {
    var states = 0
    var worst = ModelWorld.Score()
  }

  let setup: ModelSetup
  /// How many messages wait from the beginning; nil for all.
  var published: Int?
  let faults: [ModelWorld.Fault]
  let faultLimit: Int

  /// Visits every state that can be reached, once.
  ///
  /// - Parameters:
  ///   - limit: Gives up after so many states.
  ///   - isFound: Ends it as soon as this is true of the worst so far.
  func run(limit: Int = .max, until isFound: (ModelWorld.Score) -> Bool = { _ in false }) -> Result {
    var result = Result()
    var seen: Set<[UInt8]> = []
    var open = [(world: ModelWorld(setup, published: published ?? setup.payloads.count), struck: 0)]
    while let (world, struck) = open.popLast() {
      var steps = world.steps
      if steps.isEmpty {
        result.worst.raise(to: world.score)
        if isFound(result.worst) || seen.count > limit { break }
      }
      if struck < faultLimit { for fault in faults { steps += world.outcomes(of: fault) } }
      for step in steps {
        var next = world
        next.apply(step)
        var isFault = false
        if case .fault = step { isFault = true }
        let count = struck + (isFault ? 1 : 0)
        if seen.insert(next.key + [UInt8(count)]).inserted { open.append((next, count)) }
      }
    }
    result.states = seen.count
    return result
  }
}
