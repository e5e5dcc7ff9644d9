import Foundation
import Testing

@testable import Agent

/// What a valid configuration becomes, and that table, schema, parser and README agree.
struct ConfigSettingsTests {
  @Test func `the smallest configuration has every default`() throws {
    let configuration = try ConfigSupport.parse(#"{"queue":{"name":"orders"}}"#)
    #expect(configuration.host == "localhost")
    #expect(configuration.port == 5672)
    #expect(configuration.virtualHost == "/")
    #expect(configuration.username == "guest")
    #expect(configuration.password == Secret("guest"))
    #expect(configuration.authType == .plain)
    #expect(!configuration.tls.enabled)
    #expect(configuration.tls.verifyCertificate)
    #expect(configuration.tls.caCertificate == nil)
    #expect(configuration.tls.clientCertificate == nil)
    #expect(configuration.tls.clientKey == nil)
    #expect(configuration.tls.serverName == nil)
    #expect(configuration.queue.name == "orders")
    #expect(configuration.queue.durable)
    #expect(!configuration.queue.exclusive)
    #expect(!configuration.queue.autoDelete)
    #expect(configuration.queue.arguments.members.isEmpty)
    #expect(configuration.queue.declaration == .active)
    #expect(configuration.bindings.isEmpty)
    #expect(configuration.consumer.prefetchCount == 100)
    #expect(!configuration.consumer.noAck)
    #expect(!configuration.consumer.exclusive)
    #expect(configuration.consumer.priority == nil)
    #expect(configuration.consumer.arguments.members.isEmpty)
    #expect(configuration.consumer.deduplicate == .auto)
    #expect(configuration.consumer.deduplicateBy == .position)
    #expect(configuration.messageTTL == nil)
    #expect(configuration.maxPriority == nil)
    #expect(configuration.heartbeatSeconds == 60)
    #expect(configuration.connectionTimeout == .seconds(30))
    #expect(configuration.reconnectDelay == .seconds(5))
    #expect(configuration.maxReconnectAttempts == nil)
    #expect(configuration.journal.path == nil)
    #expect(configuration.journal.acknowledge == .committed)
    #expect(!configuration.journal.acknowledgeIsExplicit)
    #expect(configuration.journal.maxBytes == 1 << 30)
    #expect(configuration.document.bodyRaw == .always)
    #expect(configuration.document.maxBytes == 16 << 20)
    #expect(configuration.document.oversize == .fail)
    #expect(configuration.warnings.isEmpty)
  }

  @Test func `configurations as forms, templates and control planes write them`() throws {
    let text = #"""
      {"host":null,"port":5672.0,"queue":{"name":"q","arguments":null,"type":null},"bindings":null,"tls":null,
       "consumer":{"prefetch_count":1e2,"priority":null,"stream_offset":7.0},"heartbeat":-0.0,"document":{},
       "advanced":{},"_meta":{"op":"c"},"sops":null}
      """#
    let configuration = try EndpointConfiguration.parse(JSONValue.parse(text))
    let plain = try EndpointConfiguration.parse(
      ["queue": ["name": "q"], "heartbeat": 0, "consumer": ["stream_offset": 7]])
    #expect(configuration == plain)
    let filled = try ConfigSupport.problems(#"{"queue":{"name":"q"},"advanced":{"port":1}}"#)
    #expect(filled == [#"advanced: unknown key "advanced"; leave it out: what is in it stands one level higher"#])
    let inner = try ConfigSupport.problems(#"{"queue":{"name":"q","_meta":{}}}"#)
    #expect(inner == [#"queue._meta: unknown key "_meta""#])
  }

  @Test func `every setting arrives where it belongs`() throws {
    let text =
      #"""
      {"host":"::1","port":5673,"virtual_host":"a/b","username":"u","password":"p","auth_type":"external",
       "tls":{"enabled":true,"verify_cert":false,"ca_cert":"/ca.pem","client_cert":"-----BEGIN CERTIFICATE-----\n",
              "client_key":"-----BEGIN PRIVATE KEY-----\n","server_name":"mq.example"},
       "queue":{"name":"q","durable":false,"exclusive":true,"auto_delete":true,"declare":"passive",
                "arguments":{"x-max-length":12345678901,"x-n":{"f":[1.5,null,true]}}},
       "bindings":[{"exchange":"e","routing_key":"k.#","arguments":{"x-match":"all"}},{"exchange":"f"}],
       "consumer":{"prefetch_count":7,"no_ack":true,"exclusive":true,"priority":3,"deduplicate":"assert",
                   "deduplicate_by":"message_id","arguments":{"x-stream-offset":"first"}},
       "message_ttl":1000,"max_priority":9,"heartbeat":0,"connection_timeout":2.5,"reconnect_delay":1,
       "max_reconnect_attempts":0,
       "journal":{"path":"/var/j","acknowledge":"committed","max_bytes":16777216},
       "document":{"body_raw":"unparsed","max_bytes":2097152,"oversize":"reject"},"sops":{"mac":"ENC[x]"}}
      """#
    let configuration = try EndpointConfiguration.parse(JSONValue.parse(text))
    #expect(configuration.host == "::1")
    #expect(configuration.port == 5673)
    #expect(configuration.virtualHost == "a/b")
    #expect(configuration.username == "u")
    #expect(configuration.password.value == "p")
    #expect(configuration.authType == .external)
    #expect(configuration.tls.enabled)
    #expect(!configuration.tls.verifyCertificate)
    #expect(configuration.tls.caCertificate == .file("/ca.pem"))
    #expect(configuration.tls.clientCertificate == .text(Secret("-----BEGIN CERTIFICATE-----\n")))
    #expect(configuration.tls.clientKey == .text(Secret("-----BEGIN PRIVATE KEY-----\n")))
    #expect(configuration.tls.serverName == "mq.example")
    #expect(!configuration.queue.durable)
    #expect(configuration.queue.exclusive)
    #expect(configuration.queue.autoDelete)
    #expect(configuration.queue.declaration == .passive)
    let arguments = try JSONValue.parse(
      #"{"x-max-length":12345678901,"x-n":{"f":[1.5,null,true]},"x-message-ttl":1000,"x-max-priority":9}"#)
    #expect(JSONValue.object(configuration.queue.arguments) == arguments)
    #expect(configuration.bindings.map(\.exchange) == ["e", "f"])
    #expect(configuration.bindings.map(\.routingKey) == ["k.#", "#"])
    #expect(configuration.bindings[0].arguments["x-match"] == .string("all"))
    #expect(configuration.bindings[1].arguments.members.isEmpty)
    #expect(configuration.consumer.prefetchCount == 7)
    #expect(configuration.consumer.noAck)
    #expect(configuration.consumer.exclusive)
    #expect(configuration.consumer.priority == 3)
    #expect(configuration.consumer.arguments["x-priority"] == .number("3"))
    #expect(configuration.consumer.arguments["x-stream-offset"] == nil)
    #expect(configuration.consumer.streamStart == .first && configuration.consumer.expectsStream)
    #expect(configuration.consumer.deduplicate == .assert)
    #expect(configuration.consumer.deduplicateBy == .messageID)
    #expect(configuration.messageTTL == 1000)
    #expect(configuration.maxPriority == 9)
    #expect(configuration.heartbeatSeconds == 0)
    #expect(configuration.connectionTimeout == .milliseconds(2500))
    #expect(configuration.reconnectDelay == .seconds(1))
    #expect(configuration.maxReconnectAttempts == 0)
    #expect(configuration.journal.path == "/var/j")
    #expect(configuration.journal.acknowledge == .committed)
    #expect(configuration.journal.acknowledgeIsExplicit)
    #expect(configuration.journal.maxBytes == 16 << 20)
    #expect(configuration.document.bodyRaw == .unparsed)
    #expect(configuration.document.maxBytes == 2 << 20)
    #expect(configuration.document.oversize == .reject)
  }

  @Test(
    arguments: [
      (#"{"queue":{"name":"q"},"tls":{"enabled":true}}"#, 5671),
      (#"{"queue":{"name":"q"},"tls":{"enabled":true},"port":5672}"#, 5672),
      (#"{"queue":{"name":"q"},"tls":{"enabled":false}}"#, 5672),
    ])
  func `the port follows TLS unless it is given`(text: String, port: Int) throws {
    #expect(try ConfigSupport.parse(text).port == port)
  }

  @Test func `a journal path makes journaled acknowledgement the default`() throws {
    let configuration = try ConfigSupport.parse(#"{"queue":{"name":"q"},"journal":{"path":"/j"}}"#)
    #expect(configuration.journal.acknowledge == .journaled)
    #expect(!configuration.journal.acknowledgeIsExplicit)
  }

  @Test func `the same argument given twice with one value is fine`() throws {
    let configuration = try ConfigSupport.parse(
      #"{"queue":{"name":"q","arguments":{"x-message-ttl":5}},"message_ttl":5}"#)
    #expect(configuration.queue.arguments == JSONObject(members: [.init(key: "x-message-ttl", value: .number("5"))]))
  }

  @Test(
    arguments: [
      (#""tls":{"enabled":true,"verify_cert":false}"#, ["tls.verify_cert"]),
      (#""consumer":{"prefetch_count":0}"#, ["consumer.prefetch_count"]),
      (#""consumer":{"no_ack":true}"#, ["consumer.no_ack"]),
      (
        #""tls":{"ca_cert":"/a","server_name":"b"}"#,
        ["tls.ca_cert, tls.server_name have no effect, since tls.enabled is false"]
      ),
      (
        #""tls":{"enabled":true,"verify_cert":false},"consumer":{"no_ack":true,"prefetch_count":0}"#,
        ["tls.verify_cert", "consumer.no_ack"]
      ),
      (#""consumer":{"prefetch_count":1}"#, []),
      (#""queue":{"name":"q","type":"quorum"},"consumer":{"undeliverable":"skip"}"#, ["consumer.undeliverable"]),
      (#""queue":{"name":"q","type":"stream"},"consumer":{"undeliverable":"skip"}"#, []),
      (#""queue":{"name":"q","type":"classic"},"consumer":{"undeliverable":"wait"}"#, []),
    ])
  func `what costs a guarantee is warned about`(members: String, starts: [String]) throws {
    let queue = members.contains("queue") ? "" : #""queue":{"name":"q"},"#
    let warnings = try ConfigSupport.parse("{" + queue + members + "}").warnings
    #expect(warnings.count == starts.count)
    for (warning, start) in zip(warnings, starts) { #expect(warning.hasPrefix(start)) }
  }

  // MARK: Agreement

  /// Every property of the schema that is no group, by its row's path.
  private func properties(_ schema: JSONValue, under path: String = "") -> [(path: String, schema: JSONObject)] {
    guard case .object(let object) = schema, case .object(let properties) = object["properties"] else { return [] }
    return properties.members.flatMap { member -> [(path: String, schema: JSONObject)] in
      let path = SettingsTable.join(path, member.key)
      guard case .object(let own) = member.value else { return [] }
      if own["properties"] != nil { return self.properties(member.value, under: path) }
      if let items = own["items"], items["properties"] != nil { return self.properties(items, under: path + "[]") }
      return [(path, own)]
    }
  }

  @Test func `the schema has exactly the table's rows, in order`() {
    #expect(properties(SettingsTable.endpointSchema).map(\.path) == SettingsTable.rows.map(\.path))
  }

  @Test func `the schema parses as the JSON that it prints`() throws {
    let text = SettingsTable.endpointSchema.text
    #expect(try JSONValue.parse(text) == SettingsTable.endpointSchema)
  }

  @Test(arguments: SettingsTable.rows.map(\.path))
  func `a schema's default given explicitly changes nothing`(path: String) throws {
    let schema = try #require(properties(SettingsTable.endpointSchema).first { $0.path == path }?.schema)
    guard let standard = schema["default"] else {
      let setting = try #require(SettingsTable.setting(at: path))
      // A form would write it into the configuration.
      if case .value = setting.presence, !setting.secret { Issue.record("no default in the schema") }
      return
    }
    let given = try EndpointConfiguration.parse(ConfigSupport.configuration(with: standard, at: path))
    // A binding's defaults need a binding.
    let bare = ConfigSupport.configuration(with: .string("events"), at: "bindings[].exchange")
    let without =
      path.hasPrefix("bindings") ? bare : ConfigSupport.configuration(with: .string("orders"), at: "queue.name")
    #expect(try given == EndpointConfiguration.parse(without))
  }

  @Test(arguments: SettingsTable.rows.map(\.path))
  func `a value other than the default is accepted and makes a difference`(path: String) throws {
    let setting = try #require(SettingsTable.setting(at: path))
    var value = ConfigSupport.configuration(with: ConfigSupport.other(setting), at: path)
    var baseline = ConfigSupport.configuration(with: .string("orders"), at: "queue.name")
    if path.hasPrefix("bindings") {
      baseline = ConfigSupport.configuration(with: .string("events"), at: "bindings[].exchange")
    }
    // Settings that need others.
    switch path {
    case "auth_type", "tls.client_cert", "tls.client_key":
      for (key, member) in [("enabled", JSONValue.bool(true)), ("client_cert", "c"), ("client_key", "k")] {
        value = adding(member, key, to: "tls", in: value)
        baseline = adding(member, key, to: "tls", in: baseline)
      }
    case "journal.acknowledge":
      value = adding("/j", "path", to: "journal", in: value)
      baseline = adding("/j", "path", to: "journal", in: baseline)
    default:
      break
    }
    #expect(try EndpointConfiguration.parse(value) != EndpointConfiguration.parse(baseline))
  }

  /// Adds a member to a group unless it is there.
  private func adding(_ value: JSONValue, _ key: String, to group: String, in root: JSONValue) -> JSONValue {
    guard case .object(var object) = root else { return root }
    var inner = JSONObject()
    if case .object(let existing) = object[group] { inner = existing }
    if inner[key] == nil { inner[key] = value }
    object[group] = .object(inner)
    return .object(object)
  }

  @Test(arguments: SettingsTable.rows.map(\.path))
  func `schema and parser agree on type, bounds and choices`(path: String) throws {
    let schema = try #require(properties(SettingsTable.endpointSchema).first { $0.path == path }?.schema)
    func problems(_ value: JSONValue) -> [String] {
      let needed = ["tls.client_key", "tls.client_cert", "auth_type", "journal.acknowledge"]
      return ConfigSupport.problems(ConfigSupport.configuration(with: value, at: path)).filter { line in
        // Rules between settings are no matter of the schema.
        !(needed.contains { line.hasPrefix($0 + ":") } && (line.contains("needs") || line.contains("required")))
      }
    }
    let samples: [String: JSONValue] = [
      "string": "no-choice", "integer": .number("200"), "number": .number("20.5"), "boolean": true, "object": [:],
      "array": ["text"],
    ]
    let type = try #require(schema["type"])
    if case .array(let types) = type {
      // Words and numbers, of which the parser knows more than the schema.
      #expect(types == ["string", "integer"])
      #expect(problems("first") == [] && problems(.number("200")) == [])
      #expect(problems("text") != [] && problems(true) != [] && problems([:]) != [])
      return
    }
    for (name, sample) in samples {
      let isOwn = type == .string(name) || (type == "number" && name == "integer")
      if let options = schema["oneOf"], case .array(let choices) = options {
        for choice in choices {
          guard case .object(let option) = choice, let value = option["const"] else { continue }
          #expect(problems(value) == [])
        }
        #expect(problems(sample) != [])
      } else if schema["minimum"] == nil || !isOwn {
        #expect(problems(sample).isEmpty == isOwn, "\(name)")
      }
    }
    if case .number(let lower) = schema["minimum"], case .number(let upper) = schema["maximum"] {
      #expect(problems(.number(lower)) == [])
      #expect(problems(.number(upper)) == [])
      let below = type == "integer" ? String(Int(lower)! - 1) : String(Double(lower)! - 0.01)
      let above = type == "integer" ? String(Int(upper)! + 1) : String(Double(upper)! + 0.01)
      #expect(problems(.number(below)) != [])
      #expect(problems(.number(above)) != [])
    }
    #expect((schema["minLength"] != nil) == (type == "string" && schema["oneOf"] == nil && problems("") != []))
  }

  @Test func `Flow's conventions hold for both schemas`() {
    // A resource's defaults are the endpoint's, and a form would write them down.
    func check(_ schema: JSONValue, at path: String, hasDefaults: Bool) {
      guard case .object(let object) = schema else { return }
      guard case .string(let title) = object["title"], case .string(let description) = object["description"] else {
        Issue.record("\(path) lacks title or description")
        return
      }
      #expect(title.first?.isUppercase == true, "\(path)")
      #expect(description.hasSuffix(".") && !description.contains("<"), "\(path)")
      #expect(object["additionalProperties"] == nil)
      if object["type"] == "boolean" { #expect((object["default"] != nil) == hasDefaults, "\(path)") }
      if object["secret"] != nil { #expect(object["type"] == "string", "\(path)") }
      if let items = object["items"] { check(items, at: path + "[]", hasDefaults: hasDefaults) }
      guard case .object(let properties) = object["properties"] else { return }
      for (index, member) in properties.members.enumerated() {
        guard case .object(let property) = member.value else { continue }
        #expect(property["order"] == .number(String(index)), "\(path).\(member.key)")
        check(member.value, at: "\(path).\(member.key)", hasDefaults: hasDefaults)
      }
    }
    check(SettingsTable.endpointSchema, at: "", hasDefaults: true)
    check(SettingsTable.resourceSchema, at: "", hasDefaults: false)
  }

  @Test func `the secrets of the schema are password and client key`() {
    let secrets = properties(SettingsTable.endpointSchema).filter { $0.schema["secret"] == true }
    #expect(secrets.map(\.path) == ["password", "tls.client_key"])
    let multiline = properties(SettingsTable.endpointSchema).filter { $0.schema["multiline"] == true }
    #expect(multiline.map(\.path) == ["tls.ca_cert", "tls.client_cert", "tls.client_key"])
  }

  @Test func `choices of the table and cases of the types are the same`() {
    func values(_ path: String) -> [String] {
      guard case .choice(let choices) = SettingsTable.setting(at: path)?.kind else { return [] }
      return choices.map(\.value)
    }
    #expect(values("auth_type") == AuthType.allCases.map(\.rawValue))
    #expect(values("queue.declare") == DeclareMode.allCases.map(\.rawValue))
    #expect(values("consumer.deduplicate") == DeduplicationMode.allCases.map(\.rawValue))
    #expect(values("consumer.deduplicate_by") == DeduplicationKey.allCases.map(\.rawValue))
    #expect(values("journal.acknowledge") == AcknowledgeMode.allCases.map(\.rawValue))
    #expect(values("document.body") == BodyPolicy.allCases.map(\.rawValue))
    #expect(values("document.body_raw") == BodyRawPolicy.allCases.map(\.rawValue))
    #expect(values("document.oversize") == OversizePolicy.allCases.map(\.rawValue))
  }

  @Test func `the page of settings has a line a row, and a heading, a type and an example for each`() throws {
    let page = SettingsTable.markdown
    #expect(page.contains("| [`virtual_host`](#virtual_host) | string | `/` |\n"))
    #expect(page.contains("| [`password`](#password) | string, secret | `guest` |"))
    #expect(page.contains("integer, 2097152 (2 MiB) to 66060288 (63 MiB), or `64MiB` | 16777216 (16 MiB) |"))
    #expect(page.contains("| [`bindings[].exchange`](#bindingsexchange) | string | required |"))
    for row in SettingsTable.rows {
      #expect(page.components(separatedBy: "\n### `\(row.path)`\n\n").count == 2, "\(row.path)")
    }
    #expect(!page.contains("null"))
  }

  @Test(arguments: SettingsTable.rows)
  func `each setting's example is taken, and is none of its defaults`(row: SettingsTable.Row) throws {
    let text = SettingsTable.example(of: row.setting, at: row.path)
    var reader = SettingsReader(hidden: [])
    reader.read(try SourceText.read(text, file: "example.yaml").value)
    #expect(reader.problems.filter { $0.path.hasPrefix(row.path.prefix { $0 != "[" }) } == [], "\(text)")
    if case .value(let standard) = row.setting.presence { #expect(standard != row.setting.example) }
  }

  @Test(arguments: [false, true])
  func `what init prints is a valid configuration, and each line of it may be given`(isCatalog: Bool) throws {
    let text = isCatalog ? SettingsTable.catalogTemplate : SettingsTable.template
    let file = try ConfigurationFile.load(text: text, name: "init.yaml")
    #expect(file.configuration.queue.name == "orders" && file.configuration.consumer.exclusive)
    #expect(text.split(separator: "\n").allSatisfy { $0.utf8.count <= 100 })
    for row in SettingsTable.rows { #expect(text.contains("\(row.setting.key): "), "\(row.path)") }
    if !isCatalog {
      // All at once; what contradicts itself then is a matter of rules, not of lines.
      let given = text.replacing(/(?m)^( *)#(?! )/) { "\($0.output.1)" }
        .replacing(/(?m)^( *)#(  (?:routing_key|arguments): )/) { "\($0.output.1)\($0.output.2)" }
      let node = try SourceText.read(given, file: "init.yaml")
      var reader = SettingsReader(hidden: [])
      reader.read(node.value)
      #expect(reader.problems == [])
    }
  }

  @Test(
    arguments: [
      ("pasword", "password"), ("hots", "host"), ("host", "host"), ("HEARTBEAT", "heartbeat"), ("x", nil),
      ("authType", "auth_type"), ("", nil), ("wholly-different", nil),
    ] as [(String, String?)])
  func `a mistyped key finds the nearest known one`(word: String, nearest: String?) {
    let known = ["host", "password", "heartbeat", "auth_type"]
    #expect(EditDistance.nearest(to: word, among: known) == nearest)
  }
}
