public import Platform

/// In tests a number is so many seconds.
// swift-format-ignore: AvoidRetroactiveConformances
extension Duration: @retroactive ExpressibleByFloatLiteral, @retroactive ExpressibleByIntegerLiteral {
  public init(floatLiteral seconds: Double) { self = .seconds(seconds) }
  public init(integerLiteral seconds: Int) { self = .seconds(seconds) }
}

/// In tests a number is so many seconds after the machine was started.
extension Instant: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
  public init(floatLiteral seconds: Double) { self.init(sinceBoot: .seconds(seconds)) }
  public init(integerLiteral seconds: Int) { self.init(sinceBoot: .seconds(seconds)) }

  /// So many seconds after the machine was started.
  public init(_ seconds: Int) { self.init(sinceBoot: .seconds(seconds)) }

  public static func += (moment: inout Instant, duration: Duration) { moment = moment + duration }
}
