import Testing

@testable import Agent

/// A wrong configuration and all that is said about it. `Q` in the text stands for a valid queue.
struct WrongConfiguration: Sendable, CustomTestStringConvertible {
  let text: String
  let problems: [String]

  init(_ text: String, _ problems: String...) {
    self.text = text.replacing("Q", with: #""queue":{"name":"q"}"#)
    self.problems = problems
  }

  var testDescription: String { String(text.prefix(80)) }
}

struct ConfigProblemTests {
  static let shapes = [
    WrongConfiguration("[]", "must be an object, not an array"),
    WrongConfiguration(#""hunter2""#, "must be an object, not a string"),
    WrongConfiguration("null", "must be an object, not null (leave the key out instead)"),
    WrongConfiguration("{}", "queue.name: is required"),
    WrongConfiguration(#"{"queue":{}}"#, "queue.name: is required"),
    WrongConfiguration(
      #"{"queue":"q"}"#, #"queue: must be an object, not a string; write the name as queue.name"#),
    WrongConfiguration(#"{"queue":null}"#, "queue.name: is required"),
    WrongConfiguration(#"{"queue":{"name":null}}"#, "queue.name: is required"),
    WrongConfiguration(#"{Q,"tls":true}"#, "tls: must be an object, not a boolean; write tls.enabled: true"),
    WrongConfiguration(#"{Q,"tls":"-----BEGIN KEY"}"#, "tls: must be an object, not a string"),
    WrongConfiguration(#"{Q,"consumer":[]}"#, "consumer: must be an object, not an array"),
    WrongConfiguration(
      #"{Q,"journal":"/j"}"#, #"journal: must be an object, not a string; write the file as journal.path"#),
    WrongConfiguration(
      #"{Q,"bindings":{}}"#,
      "bindings: must be an array of objects, not an object; write it as a list: each binding begins with a dash"),
    WrongConfiguration(
      #"{Q,"bindings":["a",{"exchange":"e"},4]}"#, #"bindings[0]: must be an object, not a string"#,
      "bindings[2]: must be an object, not the number 4"),
    WrongConfiguration(#"{Q,"bindings":[{}]}"#, "bindings[0].exchange: is required"),
  ]

  static let unknownKeys = [
    WrongConfiguration(#"{Q,"pasword":"x"}"#, #"pasword: unknown key "pasword"; did you mean "password"?"#),
    WrongConfiguration(#"{Q,"Host":"x"}"#, #"Host: unknown key "Host"; did you mean "host"?"#),
    WrongConfiguration(
      #"{Q,"virtualHost":"x"}"#, #"virtualHost: unknown key "virtualHost"; did you mean "virtual_host"?"#),
    WrongConfiguration(#"{Q,"zebra":1}"#, #"zebra: unknown key "zebra""#),
    WrongConfiguration(#"{Q,"ohst":1}"#, #"ohst: unknown key "ohst"; did you mean "host"?"#),
    WrongConfiguration(
      #"{Q,"prefetch_count":1}"#,
      #"prefetch_count: unknown key "prefetch_count"; did you mean "consumer.prefetch_count"?"#),
    WrongConfiguration(
      #"{Q,"exchange":"e"}"#, #"exchange: unknown key "exchange"; did you mean "bindings[].exchange"?"#),
    WrongConfiguration(#"{Q,"max_bytes":1}"#, #"max_bytes: unknown key "max_bytes""#),
    WrongConfiguration(
      #"{"queue":{"name":"q","durabel":true}}"#,
      #"queue.durabel: unknown key "durabel"; did you mean "durable"?"#),
    WrongConfiguration(
      #"{Q,"bindings":[{"exchange":"e","routing-key":"k"}]}"#,
      #"bindings[0].routing-key: unknown key "routing-key"; did you mean "routing_key"?"#),
    WrongConfiguration(#"{Q,"tls":{"sops":{}}}"#, #"tls.sops: unknown key "sops""#),
    WrongConfiguration(#"{Q,"a\n\u001b[31m":1}"#, #"a\n\u{1b}[31m: unknown key "a\n\u{1b}[31m""#),
    WrongConfiguration(#"{Q,"":1}"#, #"unknown key """#),
  ]

  /// Of RabbitMQ, its clients and other tools: key, and what is said of it.
  static let foreign = [
    ("vhost", "virtual_host"), ("user", "username"), ("pass", "password"), ("ssl", "tls.enabled"),
    ("prefetch", "consumer.prefetch_count"), ("auto_ack", "consumer.no_ack"), ("autoAck", "consumer.no_ack"),
    ("ack", "journal.acknowledge"), ("queue_name", "queue.name"), ("ca", "tls.ca_cert"), ("cert", "tls.client_cert"),
    ("routing_key", "bindings[].routing_key"), ("brokers", "hosts"), ("qos", "consumer.prefetch_count"),
    ("queue.ttl", "message_ttl"), ("tls.key", "tls.client_key"), ("tls.ca_file", "tls.ca_cert"),
    ("consumer.auto_ack", "consumer.no_ack"), ("bindings[0].key", "bindings[].routing_key"),
  ]

  @Test(arguments: foreign) func `a word of others has the setting that is meant`(key: String, setting: String) throws {
    let parts = key.split(separator: ".")
    let inner = #""\#(parts.last ?? "")":"x""#
    let text =
      switch parts.count == 1 ? "" : parts[0] {
      case "queue": #"{"queue":{"name":"q",\#(inner)}}"#
      case "tls": #"{"queue":{"name":"q"},"tls":{\#(inner)}}"#
      case "consumer": #"{"queue":{"name":"q"},"consumer":{\#(inner)}}"#
      case "bindings[0]": #"{"queue":{"name":"q"},"bindings":[{"exchange":"e",\#(inner)}]}"#
      default: #"{"queue":{"name":"q"},\#(inner)}"#
      }
    let problems = try ConfigSupport.problems(text)
    #expect(problems.count == 1 && problems[0].hasSuffix("; did you mean \"\(setting)\"?"), "\(problems)")
  }

  @Test func `an address is to be given in parts, and a declared exchange not at all`() throws {
    for key in ["url", "uri", "urls", "address"] {
      let problems = try ConfigSupport.problems(#"{"queue":{"name":"q"},"\#(key)":"amqp://u:p@h"}"#)
      #expect(problems.count == 1 && problems[0].contains("give its parts by themselves: host, port, virtual_host"))
      #expect(!problems[0].contains("u:p"))
    }
    let problems = try ConfigSupport.problems(#"{"queue":{"name":"q","x-max-length":5},"exchange_type":"topic"}"#)
    #expect(problems.contains { $0.hasSuffix("put it into queue.arguments") })
    #expect(problems.contains { $0.contains("declares none") })
  }

  @Test(arguments: [
    (#"{Q,"journal":{"max_bytes":"1GB"}}"#, 1 << 30), (#"{Q,"journal":{"max_bytes":"64 MiB"}}"#, 64 << 20),
    (#"{Q,"journal":{"max_bytes":"20m"}}"#, 20 << 20),
  ])
  func `a size may have its unit`(text: String, bytes: Int) throws {
    let text = text.replacing("Q", with: #""queue":{"name":"q"}"#)
    #expect(try ConfigSupport.parse(text).journal.maxBytes == bytes)
  }

  @Test func `a time may have its unit`() throws {
    let text =
      #"{"queue":{"name":"q"},"reconnect_delay":"500ms","connection_timeout":"1m","heartbeat":"5s","message_ttl":"1.5h"}"#
    let configuration = try ConfigSupport.parse(text)
    #expect(configuration.reconnectDelay == .milliseconds(500) && configuration.connectionTimeout == .seconds(60))
    #expect(configuration.heartbeatSeconds == 5 && configuration.messageTTL == 5_400_000)
    let problems = try ConfigSupport.problems(
      #"{"queue":{"name":"q"},"reconnect_delay":"2d","heartbeat":"500ms","port":"5s","journal":{"max_bytes":"1KB"}}"#)
    #expect(
      problems.contains(#"reconnect_delay: "2d" is out of range: give a number of seconds from 0 to 86400"#))
    #expect(problems.contains { $0.hasPrefix(#"heartbeat: "500ms" is no whole number"#) })
    #expect(problems.contains { $0.hasPrefix("port: must be a whole number") })
    #expect(
      problems.contains {
        $0.hasPrefix(#"journal.max_bytes: "1KB" is out of range: give a whole number of bytes from 16.0 MiB to"#)
      })
    #expect(problems.count == 4)
  }

  static let types = [
    WrongConfiguration(#"{Q,"host":5}"#, "host: must be a string, not the number 5; put it in quotes"),
    WrongConfiguration(#"{Q,"username":true}"#, "username: must be a string, not true; put it in quotes"),
    WrongConfiguration(#"{Q,"password":1234}"#, "password: must be a string, not a number; put it in quotes"),
    WrongConfiguration(#"{Q,"password":["x"]}"#, "password: must be a string, not an array"),
    WrongConfiguration(
      #"{Q,"port":"5672"}"#,
      #"port: must be a whole number from 1 to 65535, not the string "5672"; leave out the quotes"#),
    WrongConfiguration(
      #"{Q,"port":"amqp"}"#, #"port: must be a whole number from 1 to 65535, not a string"#),
    WrongConfiguration(#"{Q,"port":true}"#, "port: must be a whole number from 1 to 65535, not true"),
    WrongConfiguration(
      #"{Q,"connection_timeout":"30"}"#,
      #"connection_timeout: must be a number from 0.1 to 3600, or `5s`, `1m`, not the string "30"; leave out the quotes"#
    ),
    WrongConfiguration(
      #"{Q,"connection_timeout":{}}"#,
      "connection_timeout: must be a number from 0.1 to 3600, or `5s`, `1m`, not an object"),
    WrongConfiguration(
      #"{Q,"tls":{"enabled":"yes"}}"#, #"tls.enabled: must be true or false, not the string "yes"; write true"#),
    WrongConfiguration(
      #"{Q,"consumer":{"no_ack":"Off"}}"#,
      #"consumer.no_ack: must be true or false, not the string "Off"; write false"#),
    WrongConfiguration(
      #"{Q,"consumer":{"exclusive":1}}"#, "consumer.exclusive: must be true or false, not the number 1"),
    WrongConfiguration(
      #"{Q,"auth_type":1}"#,
      #"auth_type: must be one of "plain", "amqplain", "external", not the number 1"#),
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":[]}}"#, "queue.arguments: must be an object, not an array"),
    WrongConfiguration(#"{"queue":{"name":7}}"#, "queue.name: must be a string, not the number 7; put it in quotes"),
  ]

  static let ranges = [
    WrongConfiguration(#"{Q,"port":0}"#, "port: 0 is out of range: give a whole number from 1 to 65535"),
    WrongConfiguration(#"{Q,"port":65536}"#, "port: 65536 is out of range: give a whole number from 1 to 65535"),
    WrongConfiguration(#"{Q,"port":-1}"#, "port: -1 is out of range: give a whole number from 1 to 65535"),
    WrongConfiguration(
      #"{Q,"port":99999999999999999999}"#,
      "port: 99999999999999999999 is out of range: give a whole number from 1 to 65535"),
    WrongConfiguration(
      #"{Q,"port":5672.5}"#,
      "port: 5672.5 is not a whole number: give one from 1 to 65535"),
    WrongConfiguration(
      #"{Q,"heartbeat":6e-1}"#,
      "heartbeat: 6e-1 is not a whole number: give one from 0 to 65535"),
    WrongConfiguration(
      #"{Q,"heartbeat":65536}"#, "heartbeat: 65536 is out of range: give a whole number from 0 to 65535"),
    WrongConfiguration(
      #"{Q,"consumer":{"prefetch_count":65536}}"#,
      "consumer.prefetch_count: 65536 is out of range: give a whole number from 0 to 65535"),
    WrongConfiguration(
      #"{Q,"consumer":{"priority":256}}"#,
      "consumer.priority: 256 is out of range: give a whole number from 0 to 255"),
    WrongConfiguration(
      #"{Q,"max_priority":256}"#, "max_priority: 256 is out of range: give a whole number from 0 to 255"),
    WrongConfiguration(
      #"{Q,"message_ttl":-1}"#, "message_ttl: -1 is out of range: give a whole number from 0 to 4294967295"),
    WrongConfiguration(
      #"{Q,"max_reconnect_attempts":-2}"#,
      "max_reconnect_attempts: -2 is out of range: give a whole number from -1 to 2147483647"),
    WrongConfiguration(
      #"{Q,"connection_timeout":0}"#, "connection_timeout: 0 is out of range: give a number from 0.1 to 3600"),
    WrongConfiguration(
      #"{Q,"connection_timeout":1e999}"#,
      "connection_timeout: 1e999 is out of range: give a number from 0.1 to 3600"),
    WrongConfiguration(
      #"{Q,"reconnect_delay":-0.5}"#, "reconnect_delay: -0.5 is out of range: give a number from 0 to 86400"),
    WrongConfiguration(
      #"{Q,"journal":{"max_bytes":1000}}"#,
      "journal.max_bytes: 1000 is out of range: give a whole number from 16777216 to 1125899906842624"),
    WrongConfiguration(
      #"{Q,"document":{"max_bytes":2097151}}"#,
      "document.max_bytes: 2097151 is out of range: give a whole number from 2097152 to 66060288"),
    WrongConfiguration(
      #"{Q,"document":{"max_bytes":66060289}}"#,
      "document.max_bytes: 66060289 is out of range: give a whole number from 2097152 to 66060288"),
  ]

  static let choices = [
    WrongConfiguration(
      #"{Q,"auth_type":"plian"}"#,
      #"auth_type: "plian" is not one of "plain", "amqplain", "external"; did you mean "plain"?"#),
    WrongConfiguration(
      #"{Q,"auth_type":"PLAIN"}"#,
      #"auth_type: "PLAIN" is not one of "plain", "amqplain", "external"; did you mean "plain"?"#),
    WrongConfiguration(
      #"{"queue":{"name":"q","declare":"never"}}"#,
      #"queue.declare: the value is not one of "active", "passive", "none""#),
    WrongConfiguration(
      #"{Q,"document":{"oversize":"drop"}}"#,
      #"document.oversize: the value is not one of "fail", "reject", "truncate""#),
    WrongConfiguration(
      #"{Q,"consumer":{"deduplicate":true}}"#,
      #"consumer.deduplicate: must be one of "auto", "assert", "off", not true"#),
  ]

  /// Texts that are no host, and what the problem says after the setting's name.
  private static let noHosts: [(text: String, advice: String)] = [
    (
      "amqp://u:s3cret@mq:5672/%2F",
      "put the parts of an amqp:// address into host, port, username, password and virtual_host, and for amqps:// set "
        + "tls.enabled"
    ),
    (
      "amqps://mq",
      "put the parts of an amqp:// address into host, port, username, password and virtual_host, and for "
        + "amqps:// set tls.enabled"
    ),
    ("u:s3cret@mq", "put the user into username, and the password into password"),
    ("mq/prod", "put a virtual host into virtual_host"), ("mq:5672", "put the port into port"),
    ("mq:", "put the port into port"), ("mq:amqp", "put the port into port"), (":5672", "put the port into port"),
    ("[::1]:5672", "put the port into port"), ("mq:5672:1", "put the port into port"),
    (" mq", "leave out blanks and commas, and put further nodes into hosts"),
    ("mq\\n", "leave out blanks and commas, and put further nodes into hosts"),
    ("mq1,mq2", "leave out blanks and commas, and put further nodes into hosts"),
    ("[::1", "write an IPv6 address with both brackets or none, and put the port into port"),
    ("[mq]", "write an IPv6 address with both brackets or none, and put the port into port"),
  ]

  static let hosts =
    noHosts.map {
      WrongConfiguration(
        #"{Q,"host":""# + $0.text + #""}"#, "host: must be a host name or address alone: " + $0.advice)
    }
    + [
      WrongConfiguration(
        #"{Q,"tls":{"server_name":"a b"}}"#,
        "tls.server_name: must be a host name or address alone, without blanks and commas"),
      WrongConfiguration(
        #"{Q,"tls":{"server_name":"mq:5671"}}"#, "tls.server_name: must be a host name or address alone, without a port"
      ),
      WrongConfiguration(#"{Q,"hosts":"mq2"}"#, #"hosts: must be an array of strings, not a string"#),
      WrongConfiguration(
        #"{Q,"hosts":["mq2",3]}"#, "hosts[1]: must be a string, not the number 3; put it in quotes"),
      WrongConfiguration(#"{Q,"hosts":[""]}"#, "hosts[0]: must not be empty"),
      WrongConfiguration(
        #"{Q,"hosts":["mq2:65536"]}"#,
        "hosts[0]: must be a node, such as mq2, mq2:5672 or [2001:db8::2]:5672, with a port from 1 to 65535"),
      WrongConfiguration(
        #"{Q,"hosts":["mq2, mq3"]}"#,
        "hosts[0]: must be a node, such as mq2, mq2:5672 or [2001:db8::2]:5672, without blanks and commas: each node is "
          + "an item of its own"),
      WrongConfiguration(
        #"{Q,"hosts":["amqp://u:s3cret@mq2"]}"#,
        "hosts[0]: must be a node, such as mq2, mq2:5672 or [2001:db8::2]:5672, without a scheme: username, password, "
          + "virtual_host and tls are the same for all nodes"),
    ]

  static let texts = [
    WrongConfiguration(#"{"queue":{"name":""}}"#, "queue.name: must not be empty"),
    WrongConfiguration(#"{"queue":{"name":"a\u0000b"}}"#, "queue.name: contains a NUL character"),
    WrongConfiguration(#"{Q,"password":"a\u0000b"}"#, "password: contains a NUL character"),
    WrongConfiguration(#"{"queue":{"name":"a\n"}}"#, "queue.name: \(ConfigurationWording.lineBreak)"),
    WrongConfiguration(#"{Q,"virtual_host":"\ra"}"#, "virtual_host: \(ConfigurationWording.lineBreak)"),
    WrongConfiguration(
      #"{Q,"bindings":[{"exchange":"e\n","routing_key":"a\r\nb"}]}"#,
      "bindings[0].exchange: \(ConfigurationWording.lineBreak)",
      "bindings[0].routing_key: \(ConfigurationWording.lineBreak)"),
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":{"x-a":"\#(String(repeating: "a", count: 70_000))"}}}"#,
      "queue.arguments: takes 70014 bytes, which is more than 65536: it has to fit a frame"),
    WrongConfiguration(
      #"{"queue":{"name":"q","type":"stream","single_active_consumer":true},"message_ttl":1,"max_priority":2}"#,
      "max_priority: a stream does not take it",
      "message_ttl: a stream does not take it; queue.arguments.x-max-age bounds a stream",
      "queue.single_active_consumer: a stream does not take it"),
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":{"x-queue-type":"quorum","x-max-priority":3}}}"#,
      "queue.arguments.x-max-priority: a quorum queue does not take it"),
    WrongConfiguration(
      #"{Q,"consumer":{"stream_offset":"0s"}}"#,
      "consumer.stream_offset: must be first, last, next, an offset of 0 or more, a date-time such as 2026-01-31T12:00:00Z, "
        + #"or an interval such as 1h, not the string "0s""#),
    WrongConfiguration(
      #"{Q,"consumer":{"arguments":{"x-stream-offset":"99999999999999999999h"}}}"#,
      "consumer.arguments.x-stream-offset: must be a string that the broker reads or an offset of 0 or more; "
        + "consumer.stream_offset says it more plainly"),
    WrongConfiguration(#"{Q,"host":""}"#, "host: must not be empty"),
    WrongConfiguration(
      #"{"queue":{"name":""# + String(repeating: "é", count: 128) + #""}}"#,
      "queue.name: has 256 bytes, which is more than 255"),
    WrongConfiguration(
      #"{Q,"virtual_host":""# + String(repeating: "v", count: 256) + #""}"#,
      "virtual_host: has 256 bytes, which is more than 255"),
    WrongConfiguration(
      #"{Q,"bindings":[{"exchange":"e","routing_key":""# + String(repeating: "r", count: 256) + #""}]}"#,
      "bindings[0].routing_key: has 256 bytes, which is more than 255"),
    WrongConfiguration(#"{Q,"bindings":[{"exchange":""}]}"#, "bindings[0].exchange: must not be empty"),
    WrongConfiguration(
      #"{Q,"tls":{"ca_cert":"MII\nBAA"}}"#,
      "tls.ca_cert: has line breaks, so it is no file path, but no line with -----BEGIN either"),
    WrongConfiguration(#"{Q,"journal":{"path":""}}"#, "journal.path: must not be empty"),
  ]

  static let arguments = [
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":{"x":{"y":[1,1e999]}}}}"#,
      "queue.arguments.x.y[1]: the number 1e999 fits neither a signed 64-bit integer nor a double; use a string"),
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":{"x":9223372036854775808}}}"#,
      "queue.arguments.x: the number 9223372036854775808 fits neither a signed 64-bit integer nor a double; "
        + "use a string"),
    WrongConfiguration(#"{"queue":{"name":"q","arguments":{"":1}}}"#, "queue.arguments: has an empty key"),
    WrongConfiguration(
      #"{Q,"bindings":[{"exchange":"e","arguments":{"a\u0000":1}}]}"#,
      "bindings[0].arguments: has a key that contains a NUL character"),
  ]

  static let rules = [
    WrongConfiguration(
      #"{Q,"auth_type":"external"}"#,
      #"auth_type: "external" needs tls.enabled: true and tls.client_cert and tls.client_key"#),
    WrongConfiguration(
      #"{Q,"auth_type":"external","tls":{"enabled":true,"client_cert":"/c"}}"#,
      #"auth_type: "external" needs tls.client_key"#),
    WrongConfiguration(
      #"{Q,"tls":{"client_cert":"/c"}}"#, "tls.client_key: is required if tls.client_cert is given"),
    WrongConfiguration(
      #"{Q,"tls":{"client_key":"/k"}}"#, "tls.client_cert: is required if tls.client_key is given"),
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":{"x-message-ttl":5}},"message_ttl":6}"#,
      "message_ttl: differs from queue.arguments.x-message-ttl, which is the same argument: give one of them"),
    WrongConfiguration(
      #"{"queue":{"name":"q","arguments":{"x-max-priority":"5"}},"max_priority":5}"#,
      "max_priority: differs from queue.arguments.x-max-priority, which is the same argument: give one of them"),
    WrongConfiguration(
      #"{Q,"consumer":{"priority":1,"arguments":{"x-priority":2}}}"#,
      "consumer.priority: differs from consumer.arguments.x-priority, which is the same argument: give one of them"),
    WrongConfiguration(
      #"{Q,"journal":{"acknowledge":"journaled"}}"#,
      #"journal.acknowledge: "journaled" needs journal.path: a temporary journal is gone after a crash, "#
        + "and with it messages that the broker has forgotten"),
    // One mistake is told once: no rule speaks about a setting with a problem of its own.
    WrongConfiguration(
      #"{Q,"tls":{"client_cert":"/c","client_key":5}}"#,
      "tls.client_key: must be a string, not a number; put it in quotes"),
    WrongConfiguration(#"{Q,"auth_type":"external","tls":7}"#, "tls: must be an object, not a number"),
    WrongConfiguration(
      #"{Q,"journal":{"acknowledge":"journaled","path":5}}"#,
      "journal.path: must be a string, not the number 5; put it in quotes"),
    // Everything at once, in the table's order.
    WrongConfiguration(
      #"{"port":0,"tls":{"client_cert":"/c","verify":1},"nmae":2,"consumer":{"prefetch_count":-1}}"#,
      "port: 0 is out of range: give a whole number from 1 to 65535",
      "queue.name: is required",
      "consumer.prefetch_count: -1 is out of range: give a whole number from 0 to 65535",
      #"tls.verify: unknown key "verify"; did you mean "tls.verify_cert"?"#,
      #"nmae: unknown key "nmae""#, "tls.client_key: is required if tls.client_cert is given"),
  ]

  static let all = shapes + unknownKeys + types + ranges + choices + hosts + texts + arguments + rules

  @Test(arguments: all)
  func `each wrong configuration has exactly its problems`(wrong: WrongConfiguration) throws {
    #expect(try ConfigSupport.problems(wrong.text) == wrong.problems)
  }

  @Test func `arguments may be nested sixteen levels deep and no deeper`() throws {
    func nested(_ depth: Int) -> String {
      let open = String(repeating: #"{"a":"#, count: depth)
      return #"{"queue":{"name":"q","arguments":"# + open + "1" + String(repeating: "}", count: depth) + "}}"
    }
    #expect(try ConfigSupport.problems(nested(16)) == [])
    let path = "queue.arguments" + String(repeating: ".a", count: 17)
    #expect(try ConfigSupport.problems(nested(17)) == ["\(path): is nested more than 16 levels deep"])
  }

  @Test func `the error's description holds all problems in one line`() throws {
    do throws(ConfigurationError) {
      _ = try EndpointConfiguration.parse(.object(JSONObject(members: [.init(key: "port", value: .number("0"))])))
      Issue.record("accepted")
    } catch {
      #expect(
        error.description
          == "invalid configuration: port: 0 is out of range: give a whole number from 1 to 65535; "
          + "queue.name: is required")
    }
  }

  @Test func `a long value is shortened`() throws {
    let long = String(repeating: "9", count: 500)
    let problem = try #require(try ConfigSupport.problems(#"{"queue":{"name":"q"},"port":""# + long + #""}"#).first)
    #expect(problem.count < 200)
    #expect(problem.contains("9…\""), "\(problem)")
  }
}
