// swift-tools-version: 6.2
import PackageDescription

/// The settings of every Swift target: explicit existentials and imports, strict memory safety, no warning left.
let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .strictMemorySafety(),
  // Values that hold spans say what those depend on (`@_lifetime`): rows above all.
  .enableExperimentalFeature("Lifetimes"),
  .treatAllWarnings(as: .error),
]

/// The commit that is built: of the checkout, or, if there is none, as in an image, that of the environment.
let commit = Context.environment["SOURCE_AMQP_COMMIT"] ?? Context.gitInformation?.currentCommit ?? ""

let package = Package(
  name: "source-amqp",
  products: [
    .executable(name: "source-amqp", targets: ["Agent"])
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    .systemLibrary(
      name: "CRabbitMQ", pkgConfig: "librabbitmq", providers: [.apt(["librabbitmq-dev"])]),
    .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    // No library: vectors of bytes in C, for what Swift cannot express.
    .systemLibrary(name: "CVector"),
    .target(name: "Platform", swiftSettings: settings),
    .target(name: "AMQP", dependencies: ["Platform", "CRabbitMQ", "COpenSSL"], swiftSettings: settings),
    .target(name: "CVersion", cSettings: [.define("SOURCE_AMQP_COMMIT", to: "\"\(commit)\"")]),
    .target(name: "CStorage", dependencies: ["CSQLite"]),
    .target(name: "Journal", dependencies: ["Platform", "CSQLite", "CStorage"], swiftSettings: settings),
    .executableTarget(
      name: "Agent",
      dependencies: [
        "Platform", "AMQP", "Journal", "CVector", "CVersion", "CZlib",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Yams", package: "Yams"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      exclude: ["Redelivery/README.md"], swiftSettings: settings,
      // Full RELRO: what the loader has filled in cannot be written to any more.
      linkerSettings: [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]),
    .target(name: "Support", dependencies: ["Platform"], path: "Tests/Support", swiftSettings: settings),
    .executableTarget(
      name: "Bench", dependencies: ["AMQP", "Journal"], path: "Tests/Bench", swiftSettings: settings),
    .executableTarget(
      name: "JournalWriter", dependencies: ["Journal"], path: "Tests/JournalWriter", swiftSettings: settings),
    .testTarget(name: "AMQPTests", dependencies: ["AMQP", "Platform", "Support"], swiftSettings: settings),
    .testTarget(name: "JournalTests", dependencies: ["Journal", "Support"], swiftSettings: settings),
    .testTarget(
      name: "AgentTests",
      dependencies: [
        "Agent", "AMQP", "Journal", "Platform", "Support", .product(name: "NIOEmbedded", package: "swift-nio"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "FuzzTests", dependencies: ["Agent", "AMQP", "Journal", "Platform", "Support"], exclude: ["corpus"],
      swiftSettings: settings),
    .testTarget(
      name: "BrokerTests", dependencies: ["Agent", "AMQP", "Journal", "Platform", "Support"],
      swiftSettings: settings),
  ]
)
