import Foundation
import Glibc
import Journal
import Testing

@testable import Agent

/// What `source-amqp check` answers without a broker.
struct CheckTests {
  private static func guarantee(
    _ text: String, on queue: QueueNature? = nil, isCarried: Bool? = false
  ) throws -> Guarantee {
    let configuration = try ConfigSupport.parse(text)
    return Guarantee(
      configuration, DeduplicationPolicy(configuration, isCarried: isCarried), on: queue, isKept: isCarried != nil)
  }

  private static let passive = QueueNature(type: "classic", hasLevels: nil, brokerVersion: "3.10.8")
  private static let classic = QueueNature(type: "classic", hasLevels: false, brokerVersion: "3.10.8")
  private static let quorum = QueueNature(type: "quorum", hasLevels: false, brokerVersion: "4.0.5")

  @Test(
    arguments: [
      (#"{"queue":{"name":"q","type":"classic"},"consumer":{"exclusive":true}}"#, nil, .once),
      (#"{"queue":{"name":"q"},"consumer":{"exclusive":true}}"#, nil, .depends),
      (#"{"queue":{"name":"q"},"consumer":{"exclusive":true}}"#, classic, .once),
      (#"{"queue":{"name":"q"},"consumer":{"exclusive":true}}"#, quorum, .atLeastOnce),
      (#"{"queue":{"name":"q","declare":"passive"},"consumer":{"exclusive":true}}"#, passive, .depends),
      (#"{"queue":{"name":"q","declare":"passive"},"consumer":{"deduplicate":"assert"}}"#, nil, .depends),
      (#"{"queue":{"name":"q"},"consumer":{"deduplicate":"assert"}}"#, nil, .once),
      (#"{"queue":{"name":"q","type":"quorum","single_active_consumer":true}}"#, nil, .once),
      (#"{"queue":{"name":"q","type":"quorum"},"consumer":{"exclusive":true}}"#, nil, .atLeastOnce),
      (#"{"queue":{"name":"q"}}"#, nil, .atLeastOnce),
      (#"{"queue":{"name":"q"},"max_priority":5,"consumer":{"exclusive":true}}"#, nil, .atLeastOnce),
      (#"{"queue":{"name":"q"},"consumer":{"exclusive":true,"prefetch_count":3}}"#, nil, .atLeastOnce),
      (#"{"queue":{"name":"q"},"consumer":{"deduplicate_by":"message_id"}}"#, nil, .onceInAnyOrder),
      (#"{"queue":{"name":"q","type":"stream"}}"#, nil, .once),
      (#"{"queue":{"name":"q"},"consumer":{"no_ack":true,"exclusive":true}}"#, nil, .atMostOnce),
      (#"{"queue":{"name":"q","exclusive":true}}"#, nil, .atMostOnce),
      (#"{"queue":{"name":"q","auto_delete":true},"consumer":{"exclusive":true}}"#, nil, .atMostOnce),
    ] as [(String, QueueNature?, Guarantee.Level)])
  func `what is promised is no more than holds`(text: String, queue: QueueNature?, level: Guarantee.Level) throws {
    let guarantee = try Self.guarantee(text, on: queue)
    #expect(guarantee.level == level, "\(guarantee.description)")
    #expect(guarantee.description.hasPrefix("captured \(level.rawValue): "))
  }

  @Test func `a stream of which nothing is kept is read again`() throws {
    #expect(try Self.guarantee(#"{"queue":{"name":"q","type":"stream"}}"#, isCarried: nil).level == .atLeastOnce)
  }

  // MARK: The configuration in force

  @Test func `nothing that is secret or came from outside is printed`() throws {
    let inputs = ConfigSupport.inputs(environment: ["A": "MARK-A", "B": "MARK-B"], files: ["f": "MARK-F\n"])
    let text = """
      host: ${env:A}
      password: MARK-P
      virtual_host: v-${env:B}
      tls: { client_cert: "-----BEGIN CERTIFICATE-----\\nMARK-C\\n", client_key: "-----BEGIN PRIVATE KEY-----\\nMARK-K\\n" }
      queue: { name: "${file:f}", arguments: { x-a: "${env:A}", x-b: [1, "${env:B}"] } }
      bindings: [{ exchange: "${env:A}", routing_key: "a$${b}" }]
      """
    let file = try ConfigurationFile.load(text: text, name: "c.yaml", inputs: inputs)
    let printed = SettingsTable.effective(file)
    #expect(!printed.contains("MARK"), "\(printed)")
    #expect(printed.contains("password: \"********\"\n") && printed.contains("routing_key: \"a$${b}\"\n"))
    #expect(printed.contains("\n  prefetch_count: 100\n") && printed.contains("\n  #priority:\n"))
  }

  @Test func `what is printed says the same when it is read again`() throws {
    let text = """
      virtual_host: "NULL"
      queue: { name: "True", arguments: { x-max-length: 5, "x y": "#a" } }
      bindings: [{ exchange: e }, { exchange: "on", routing_key: "*.new", arguments: { x-match: any } }]
      consumer: { exclusive: true, stream_offset: 12 }
      """
    let file = try ConfigurationFile.load(text: text, name: "c.yaml")
    let printed = SettingsTable.effective(file).replacing("password: \"********\"\n", with: "")
    #expect(try ConfigurationFile.load(text: printed, name: "c.yaml").configuration == file.configuration, "\(printed)")
  }

  // MARK: Whether `run` would start

  private static func lines(_ output: String, _ text: String = #"{"queue":{"name":"q"}}"#) throws -> [CheckLine] {
    StartCheck(settings: try settings(text), output: output).run()
  }

  private static func settings(_ text: String) throws -> CaptureConfiguration {
    try CaptureConfiguration.parse(try JSONValue.parse(Array(text.utf8)), resources: .own)
  }

  private static func wrong(_ lines: [CheckLine]) -> [String] { lines.filter { $0.verdict == .wrong }.map(\.text) }

  @Test func `directories, journals and files that run would refuse are found`() throws {
    let directory = FileManager.default.temporaryDirectory.path + "/source-amqp-check-\(UUID().uuidString)"
    #expect(Self.wrong(try Self.lines(directory)).isEmpty)
    #expect(Self.wrong(try Self.lines(directory + "/a/b")).count == 1)
    #expect(Self.wrong(try Self.lines("/etc/passwd")).first?.contains("is a file; give --output a directory") == true)
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    #expect(
      Self.wrong(try Self.lines(directory, #"{"queue":{"name":"q"},"journal":{"path":"/nope/x.db"}}"#)).count == 1)

    try "{}\n".write(toFile: directory + "/q-000002.jsonl", atomically: true, encoding: .utf8)
    #expect(Self.wrong(try Self.lines(directory)).first?.contains("no journal that has written it") == true)
    let journal = try Journal.open(JournalSettings(path: directory + "/journal.db"))
    let busy = Self.wrong(try Self.lines(directory))
    #expect(busy.contains { $0.contains("is in use by pid \(getpid()) ") }, "\(busy)")
    try journal.beginSession(id: "a", queue: "other", virtualHost: "/", startedAt: 1)
    try journal.close()
    func changed(_ record: OutputRecord) throws -> [CheckLine] {
      let journal = try Journal.open(JournalSettings(path: directory + "/journal.db"))
      try journal.write { tx in try tx.setOutput("q", record) }
      try journal.close()
      return try Self.lines(directory)
    }
    let foreign = try Self.lines(directory)
    #expect(foreign.contains { $0.verdict == .note && $0.text.contains("was written for queue \"other\"") })
    #expect(Self.wrong(foreign).contains { $0.contains("that this journal did not write") })
    // The same as `run` says, whatever it is.
    let newer = Self.wrong(try changed(OutputRecord(file: 1, length: 0, startedAt: 0)))
    #expect(newer.contains { $0.contains("the journal went back in time") }, "\(newer)")
    let missing = Self.wrong(try changed(OutputRecord(file: 3, length: 413, startedAt: 0)))
    #expect(missing.contains { $0.contains("q-000003.jsonl is missing, and the journal has committed 413 bytes") })
    let cut = Self.wrong(try changed(OutputRecord(file: 2, length: 5, startedAt: 0)))
    #expect(cut.contains { $0.contains("has 3 bytes, but the journal has committed 5") }, "\(cut)")
    #expect(Self.wrong(try changed(OutputRecord(file: 2, length: 3, startedAt: 0))).isEmpty)
    try FileManager.default.createDirectory(atPath: directory + "/is", withIntermediateDirectories: false)
    #expect(
      Self.wrong(try Self.lines(directory, #"{"queue":{"name":"q"},"journal":{"path":"\#(directory)/is"}}"#)).first?
        .contains("is a directory; journal.path is the name of a file") == true)
    try Data().write(to: URL(filePath: directory + "/journal.db.rescued-20261129T000000Z"))
    #expect(Self.wrong(try Self.lines(directory)).first?.contains("what it held was saved to") == true)
    try FileManager.default.removeItem(atPath: directory + "/journal.db.rescued-20261129T000000Z")
    try Data(repeating: 7, count: 5000).write(to: URL(filePath: directory + "/journal.db"))
    #expect(Self.wrong(try Self.lines(directory)).count == 1)
  }

  @Test func `an address that is taken, or of another machine, is found`() throws {
    let check = StartCheck(settings: try Self.settings(#"{"queue":{"name":"q"}}"#), output: "-")
    func verdict(_ text: String) throws -> CheckLine { check.port(try #require(ListenAddress(argument: text))) }
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    place.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = unsafe withUnsafeMutablePointer(to: &place) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(descriptor, $0, length) == 0 && listen(descriptor, 1) == 0
          && getsockname(descriptor, $0, &length) == 0
      }
    }
    #expect(bound)
    let taken = try verdict("127.0.0.1:\(UInt16(bigEndian: place.sin_port))")
    #expect(taken.verdict == .wrong && taken.text.contains("another process listens there"))
    #expect(try verdict("127.0.0.1:0").verdict == .ok)
    #expect(try verdict("192.0.2.1:9090").verdict == .wrong)
  }
}
