import Support
import Testing

@testable import Agent

/// The session logic against a model of broker, agent and runtime: random episodes with an absurd rate of faults (one for
/// every three to five messages, so that they overlap constantly), and every interleaving of small cases with up to two.
/// The machines are the ones that ship, and decide everything; ``ModelAgent`` moves what they ask for.
///
/// What must hold: nothing is ever lost, and what can be told apart is not duplicated. `SOURCE_AMQP_MODEL_EPISODES` sets
/// how many episodes are tried.
struct RedeliveryModelTests {
  /// Queue type and mode.
  struct Deployment: CustomTestStringConvertible, Sendable {
    var kind: ModelBroker.Kind
    var mode: AcknowledgementMode
    var testDescription: String { "\(kind), \(mode)" }

    static let all = [ModelBroker.Kind.classic, .quorum].flatMap { kind in
      [AcknowledgementMode.journaled, .committed].map { Deployment(kind: kind, mode: $0) }
    }

    func setup(_ payloads: [Int], settles: Bool = false) -> ModelSetup {
      ModelSetup(kind: kind, mode: mode, payloads: payloads, settles: settles)
    }
  }

  /// Sum over many episodes.
  private struct Total {
    var score = ModelWorld.Score()
    var faults = 0

    init(
      _ count: Int, _ payloads: ModelPayloads, faults: [ModelWorld.Fault] = ModelWorld.Fault.usual,
      _ setup: ([Int]) -> ModelSetup
    ) {
      var random = Seeded(1)
      let episodes = ModelEpisodes(faults: faults)
      for _ in 0..<count {
        let (world, struck) = episodes.run(setup(payloads.make(episodes.messages, &random)), &random)
        score = score + world.score
        self.faults += struck
      }
    }
  }

  /// Runs `body` for each item, on all processors: it waits for nothing.
  private func concurrently<Item: Sendable>(_ items: [Item], _ body: @escaping @Sendable (Item) -> Void) async {
    await withTaskGroup { group in for item in items { group.addTask { body(item) } } }
  }

  // MARK: Random episodes

  @Test func `random episodes lose nothing, and duplicate nothing that can be told apart`() async {
    let count = ModelEpisodes.total / (Deployment.all.count * ModelPayloads.allCases.count)
    let cases = Deployment.all.flatMap { deployment in ModelPayloads.allCases.map { (deployment, $0) } }
    await concurrently(cases) { (deployment, payloads) in
      let total = Total(count, payloads) { deployment.setup($0) }
      let isExact = total.score.duplicated == 0 && total.score.disordered == 0
      #expect(total.score.lost == 0, "\(deployment.testDescription), \(payloads)")
      #expect(isExact || !payloads.areTellable, "\(deployment.testDescription), \(payloads)")
      #expect(total.faults > count * 4, "faults hardly ever strike")
    }
  }

  @Test(arguments: Deployment.all, ModelPayloads.allCases)
  func `settling an idle queue loses nothing, and duplicates nothing whenever it is interrupted`(
    deployment: Deployment, payloads: ModelPayloads
  ) {
    let total = Total(400, payloads) { deployment.setup($0, settles: true) }
    #expect(total.score.lost == 0)
    if payloads == .distinct { #expect(total.score.duplicated == 0) }
  }

  /// A capture that is asked to stop settles, if there is something to settle it with; one that fails leaves everything as a crash does.
  /// (Messages that are alike, published again after a stop and delivered once before a kill, are the one ambiguity that is left.)
  @Test(arguments: Deployment.all)
  func `captures that end, and go on, are exact and release nothing too early`(deployment: Deployment) {
    let total = Total(600, .distinct, faults: ModelWorld.Fault.usual + ModelWorld.Fault.ends) {
      deployment.setup($0, settles: true)
    }
    #expect(total.score == ModelWorld.Score())
    #expect(total.faults > 2400, "faults hardly ever strike")
  }

  /// A classic queue's disk learns of acknowledgements late, and more comes back than the prefetch count lets through at
  /// once. The journal still knows it; a checkpoint carries no more than the prefetch count asks for.
  @Test(arguments: [AcknowledgementMode.journaled, .committed], ModelPayloads.allCases)
  func `a broker that forgets acknowledgements in a crash costs no loss, and no duplicates that a journal knows`(
    mode: AcknowledgementMode, payloads: ModelPayloads
  ) {
    let total = Total(150, payloads) { payloads in
      var setup = ModelSetup(kind: .classic, mode: mode, payloads: payloads)
      setup.regressLimit = 20
      return setup
    }
    #expect(total.score.lost == 0)
    switch mode {
    case .journaled: if payloads.areTellable { #expect(total.score.duplicated == 0) }
    case .committed:
      #expect(total.score.duplicated > 0, "if this no longer happens, the journal's part should be asked for")
    }
  }

  /// What someone else gave back looks like what the queue took back from us. On a quorum queue its place changes by that,
  /// which costs duplicates; and it breaks the precondition of a sole consumer, so nothing is said of what looks alike.
  @Test(arguments: Deployment.all, ModelPayloads.allCases)
  func `messages that somebody looks at and gives back are not lost`(deployment: Deployment, payloads: ModelPayloads) {
    // There it also comes before the anchor, which one that repeats a captured message may seem to continue.
    guard deployment.kind == .classic || payloads == .distinct else { return }
    let total = Total(150, payloads, faults: ModelWorld.Fault.usual + [.lookedAt, .lookedAt]) { deployment.setup($0) }
    #expect(total.score.lost == 0)
    if payloads.areTellable && deployment.kind == .classic { #expect(total.score.duplicated == 0) }
  }

  @Test(arguments: [ModelBroker.Kind.classic, .quorum], [ModelPayloads.distinct, .marked, .same])
  func `an anchor that the queue has dropped loses nothing that can be told apart, or that is all alike`(
    kind: ModelBroker.Kind, payloads: ModelPayloads
  ) {
    let total = Total(150, payloads, faults: ModelWorld.Fault.usual + [.anchorLoss]) { payloads in
      ModelSetup(kind: kind, mode: .journaled, payloads: payloads)
    }
    #expect(total.score.lost == 0)
    if payloads.areTellable { #expect(total.score.disordered == 0) }
  }

  /// Ids need no anchor: a queue that drops what it likes, and a broker that forgets more than the prefetch count.
  @Test(arguments: Deployment.all)
  func `unique ids lose nothing and duplicate nothing, whatever the broker forgets`(deployment: Deployment) {
    // In committed mode a queue that drops what is journaled drops what only it still has.
    let faults: [ModelWorld.Fault] = deployment.mode == .journaled ? [.anchorLoss] : []
    let total = Total(300, .distinct, faults: ModelWorld.Fault.usual + faults) { payloads in
      var setup = deployment.setup(payloads)
      setup.byMessageID = true
      setup.regressLimit = 20
      return setup
    }
    #expect(total.score == ModelWorld.Score())
    #expect(total.faults > 1200, "faults hardly ever strike")
  }

  @Test(arguments: Deployment.all)
  func `every interleaving with two faults is exact with unique ids`(deployment: Deployment) {
    var setup = deployment.setup([0, 1, 2])
    setup.byMessageID = true
    setup.prefetch = 2
    let result = ModelSearch(setup: setup, faults: ModelWorld.Fault.usual, faultLimit: 2).run()
    #expect(result.worst == ModelWorld.Score())
    #expect(result.states > 1_000, "the search ends early")
  }

  // MARK: Every interleaving

  struct SmallCase: CustomTestStringConvertible, Sendable {
    var deployment: Deployment
    var payloads: [Int]
    var anchor: Int
    var prefetch: Int
    /// How many acknowledgements a crash of a classic queue's broker takes back at the most.
    var regressLimit = 0
    /// The queue may be settled, whenever it rests.
    var settles = false
    var faultLimit = 2

    var testDescription: String {
      "\(deployment.testDescription), \(payloads), anchor \(anchor), prefetch \(prefetch), forgets \(regressLimit)"
        + (settles ? ", settles" : "")
    }

    static let all = Deployment.all.flatMap { deployment in
      [
        SmallCase(deployment: deployment, payloads: [0, 1, 2, 3], anchor: 1, prefetch: 3),
        SmallCase(deployment: deployment, payloads: [0, 1, 2, 0], anchor: 2, prefetch: 4),
        // All that comes again is captured again, so there are many more states: one message less.
        SmallCase(deployment: deployment, payloads: [0, 0, 0], anchor: 2, prefetch: 4),
        SmallCase(deployment: deployment, payloads: [0, 0, 0], anchor: 1, prefetch: 3),
      ]
    }

    /// More comes back than the prefetch count lets through.
    static let forgetful = [[0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]].map { payloads in
      SmallCase(
        deployment: Deployment(kind: .classic, mode: .journaled), payloads: payloads, anchor: 1, prefetch: 2,
        regressLimit: 4)
    }

    static let settling = Deployment.all.flatMap { deployment in
      [[0, 1], [0, 0]].map { payloads in
        SmallCase(
          deployment: deployment, payloads: payloads, anchor: 2, prefetch: 8, settles: true, faultLimit: 1)
      }
    }

    /// True if no sequence as long as the anchor occurs twice.
    var isTellable: Bool { Set(payloads).count > 1 }
  }

  @Test func `every interleaving with two faults loses nothing, and duplicates nothing that can be told apart`() async {
    await concurrently(SmallCase.all) { small in
      let result = search(small)
      #expect(result.worst.lost == 0, "\(small.testDescription)")
      #expect(result.worst.duplicated == 0 || !small.isTellable, "\(small.testDescription)")
      #expect(result.states > 1_000, "the search ends early")
    }
  }

  @Test(arguments: SmallCase.forgetful)
  func `every interleaving with a broker that forgets acknowledgements loses nothing`(small: SmallCase) {
    let result = search(small)
    #expect(result.worst.lost == 0)
    if Set(small.payloads).count == small.payloads.count { #expect(result.worst.duplicated == 0) }
    #expect(result.states > 1_000, "the search ends early")
  }

  /// A fault may come between any two of a settling's steps, and a message too.
  @Test(arguments: SmallCase.settling)
  func `every interleaving with settlings and faults is exact`(small: SmallCase) {
    let result = search(small)
    #expect(result.worst.lost == 0)
    if Set(small.payloads).count == small.payloads.count { #expect(result.worst.duplicated == 0) }
    #expect(result.states > 1_000, "the search ends early")
  }

  /// After a settling the anchor is as short as what has come since, and a single message may be in the window twice. That one may
  /// be captured again, and takes no others along whose acknowledgements were lost.
  @Test(arguments: Deployment.all)
  func `an alike message that comes during a settling is all that may be captured twice`(deployment: Deployment) {
    var setup = deployment.setup([0, 1, 0], settles: true)
    (setup.anchor, setup.prefetch, setup.matchingPrefetch, setup.publishesWhileSettling) = (2, 8, 8, true)
    let result = ModelSearch(setup: setup, published: 0, faults: ModelWorld.Fault.usual, faultLimit: 1).run()
    #expect(result.worst.lost == 0)
    #expect(result.worst.duplicatedUnlike == 0)
  }

  private func search(_ small: SmallCase) -> ModelSearch.Result {
    var setup = small.deployment.setup(small.payloads, settles: small.settles)
    setup.anchor = small.anchor
    setup.prefetch = small.prefetch
    setup.matchingPrefetch = small.prefetch
    setup.regressLimit = small.regressLimit
    return ModelSearch(
      setup: setup, published: small.settles ? 0 : nil, faults: ModelWorld.Fault.usual,
      faultLimit: small.faultLimit
    ).run()
  }

  // MARK: Mutants

  /// Runs everything above with a mistake, if there is one, until something is lost, or duplicated without excuse.
  private func isCaught(_ mutant: Mutant?) -> Bool {
    Mutant.$current.withValue(mutant) { fails(isOfSettling: mutant?.isOfSettling ?? false) }
  }

  private func fails(isOfSettling: Bool) -> Bool {
    for deployment in Deployment.all {
      for payloads in [[0, 1], [0, 0]] where isOfSettling {
        var setup = deployment.setup(payloads, settles: true)
        (setup.anchor, setup.prefetch, setup.matchingPrefetch) = (2, 8, 8)
        func isWrong(_ score: ModelWorld.Score) -> Bool {
          score.lost > 0 || setup.areDistinct && score.duplicated > 0
        }
        let search = ModelSearch(setup: setup, published: 0, faults: ModelWorld.Fault.usual, faultLimit: 1)
        if isWrong(search.run(limit: 200_000, until: isWrong).worst) { return true }
      }
      for payloads in ModelPayloads.allCases {
        for settles in [false, true] {
          // Messages that look like settled ones show more mistakes than others, if they come in time.
          let total = Total(settles && payloads == .twice ? 600 : 60, payloads) {
            deployment.setup($0, settles: settles)
          }
          let isExact = settles ? payloads == .distinct : payloads.areTellable
          if total.score.lost > 0 || isExact && total.score.duplicated + total.score.disordered > 0 { return true }
        }
      }
      for payloads in [ModelPayloads.few, .same] where deployment.kind == .classic {
        let faults = ModelWorld.Fault.usual + [.lookedAt, .lookedAt, .lookedAt]
        if Total(150, payloads, faults: faults, { deployment.setup($0) }).score.lost > 0 { return true }
      }
      let ends = Total(60, .distinct, faults: ModelWorld.Fault.usual + ModelWorld.Fault.ends) {
        deployment.setup($0, settles: true)
      }
      if ends.score != ModelWorld.Score() { return true }
      let byMessageID = Total(100, .distinct) { payloads in
        var setup = deployment.setup(payloads)
        setup.byMessageID = true
        return setup
      }
      if byMessageID.score != ModelWorld.Score() { return true }
      guard deployment.mode == .journaled else { continue }
      let faults = ModelWorld.Fault.usual + [.anchorLoss]
      for payloads in [ModelPayloads.marked, .same] {
        let score = Total(100, payloads, faults: faults) { deployment.setup($0) }.score
        if score.lost > 0 || payloads == .marked && score.disordered > 0 { return true }
      }
    }
    return false
  }

  @Test func `every mistake is caught`() async {
    #expect(Mutant.allCases.count >= 30)
    await concurrently(Mutant.allCases) { #expect(isCaught($0), "\($0)") }
  }

  @Test func `no mistake is not caught`() {
    #expect(!isCaught(nil))
  }
}

extension Mutant {
  /// It shows in small cases, of which every interleaving can be tried.
  fileprivate var isOfSettling: Bool {
    switch self {
    case .settlesBeforeItIsDurable, .settlesWithoutAnAnswer, .settlesByTheFirstAnswer, .neverSettles,
      .settlesByAnyAnswer,
      .overlooksOtherConsumers, .forgetsWhatWasSettled, .carriesTheEndTooSoon:
      true
    default: false
    }
  }
}
