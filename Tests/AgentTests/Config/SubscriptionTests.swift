import Testing

@testable import Agent

/// Several queues in one configuration: what a resource says, and what it takes from the endpoint.
struct SubscriptionTests {
  private static func parse(_ endpoint: String, _ resources: String...) throws -> CaptureConfiguration {
    try CaptureConfiguration.parse(
      JSONValue.parse(endpoint), resources: .given(try given(resources)))
  }

  private static func given(_ resources: [String]) throws -> [CaptureConfiguration.Resource] {
    try resources.enumerated().map {
      .init(path: "bindings[\($0.offset)].resource", value: try JSONValue.parse($0.element))
    }
  }

  private static func problems(_ endpoint: String, _ resources: String...) throws -> [String] {
    do throws(ConfigurationError) {
      let value: JSONValue
      let list: [CaptureConfiguration.Resource]
      do { (value, list) = (try JSONValue.parse(endpoint), try given(resources)) } catch { fatalError("\(error)") }
      _ = try CaptureConfiguration.parse(value, resources: .given(list))
      return []
    } catch {
      return error.lines
    }
  }

  /// An endpoint with a queue of its own, everything of it other than by default.
  private static let endpoint = #"""
    {"host": "h", "message_ttl": 1000, "max_priority": 4, "bindings": [{"exchange": "events", "routing_key": "a"}],
     "queue": {"name": "orders", "durable": false, "declare": "passive", "arguments": {"x-max-length": 7}},
     "consumer": {"prefetch_count": 500, "exclusive": true, "priority": 3, "arguments": {"x-a": 1}}}
    """#

  @Test func `a resource that says nothing but a stream is the endpoint's own queue`() throws {
    let settings = try Self.parse(Self.endpoint, #"{"stream": "anything"}"#)
    let whole = try EndpointConfiguration.parse(JSONValue.parse(Self.endpoint))
    #expect(settings.subscriptions == [Subscription(stream: "anything", configuration: whole)])
    #expect(settings.endpoint == whole)
  }

  @Test func `another queue has its own declaration and bindings, and consumes as the endpoint does`() throws {
    let settings = try Self.parse(
      Self.endpoint, #"{"stream": "orders"}"#, #"{"stream": "s", "queue": {"name": "refunds", "type": "quorum"}}"#)
    let other = settings.subscriptions[1].configuration
    #expect(other.queue.name == "refunds")
    #expect(other.queue.durable)
    #expect(other.queue.declaration == .active)
    #expect(other.queue.arguments == ["x-queue-type": "quorum"])
    #expect(other.messageTTL == nil)
    #expect(other.maxPriority == nil)
    #expect(other.bindings.isEmpty)
    #expect(other.consumer == settings.endpoint.consumer)
    #expect(other.host == "h")
  }

  @Test func `what a resource says holds before what the endpoint says`() throws {
    let settings = try Self.parse(
      Self.endpoint,
      #"{"stream": "s", "queue": {"declare": "none"}, "bindings": [], "consumer": {"priority": 9, "exclusive": false}}"#
    )
    let own = settings.subscriptions[0].configuration
    // It is still the endpoint's own queue, so the rest of it holds.
    #expect(own.queue.name == "orders")
    #expect(own.queue.declaration == .none)
    #expect(!own.queue.durable)
    #expect(own.queue.arguments == ["x-max-length": 7, "x-message-ttl": 1000, "x-max-priority": 4])
    #expect(own.bindings.isEmpty)
    #expect(own.consumer.prefetchCount == 500)
    #expect(!own.consumer.exclusive)
    #expect(own.consumer.arguments == ["x-a": 1, "x-priority": 9])
  }

  @Test func `the endpoint's queue by name is its own, with what belongs to it`() throws {
    let settings = try Self.parse(Self.endpoint, #"{"stream": "s", "queue": {"name": "orders"}}"#)
    #expect(settings.subscriptions[0].configuration.bindings.map(\.exchange) == ["events"])
    #expect(settings.subscriptions[0].configuration.messageTTL == 1000)
  }

  @Test func `without a queue of the endpoint's, the stream names the queue`() throws {
    let settings = try Self.parse(
      #"{"host": "h", "consumer": {"prefetch_count": 9}}"#, #"{"stream": "a"}"#,
      #"{"stream": "b", "queue": {"name": "c"}}"#)
    #expect(settings.subscriptions.map(\.configuration.queue.name) == ["a", "c"])
    #expect(settings.subscriptions.map(\.configuration.consumer.prefetchCount) == [9, 9])
    #expect(settings.endpoint.queue.name == "")
  }

  @Test func `null is what is not there`() throws {
    let settings = try Self.parse(
      Self.endpoint,
      #"{"stream": "s", "queue": {"name": null}, "bindings": null, "consumer": {"prefetch_count": null}, "_meta": {"path": ["s"]}}"#
    )
    #expect(try settings.subscriptions == Self.parse(Self.endpoint, #"{"stream": "s"}"#).subscriptions)
  }

  @Test func `no binding is no subscription`() throws {
    #expect(try Self.parse("{}").subscriptions.isEmpty)
    #expect(try Self.parse(Self.endpoint).subscriptions.isEmpty)
  }

  @Test func `a stream may be read twice`() throws {
    let settings = try Self.parse(
      "{}", #"{"stream": "a", "queue": {"name": "log", "type": "stream"}}"#,
      #"{"stream": "b", "queue": {"name": "log"}, "consumer": {"stream_offset": "last"}}"#)
    #expect(settings.subscriptions.map(\.configuration.queue.name) == ["log", "log"])
  }

  struct Wrong: Sendable, CustomTestStringConvertible {
    let resources: [String]
    let problems: [String]
    var endpoint = #"{"queue": {"name": "q"}}"#

    var testDescription: String { resources.joined(separator: " ") }
  }

  static let wrong = [
    Wrong(resources: ["[]"], problems: ["bindings[0].resource: must be an object, not an array"]),
    Wrong(
      resources: ["null"], problems: ["bindings[0].resource: must be an object, not null (leave the key out instead)"]),
    Wrong(resources: ["{}"], problems: ["bindings[0].resource.stream: is required"]),
    Wrong(resources: [#"{"stream": ""}"#], problems: [#"bindings[0].resource.stream: must not be empty"#]),
    Wrong(
      resources: [#"{"stream": 5}"#],
      problems: ["bindings[0].resource.stream: must be a string, not the number 5; put it in quotes"]),
    Wrong(
      resources: [#"{"stream": "a", "consumer": {"prefetch": 5}}"#, #"{"stream": "b", "queue": {"type": "x"}}"#],
      problems: [
        #"bindings[0].resource.consumer.prefetch: unknown key "prefetch"; did you mean "consumer.prefetch_count"?"#,
        #"bindings[1].resource.queue.type: the value is not one of "classic", "quorum", "stream""#,
      ]),
    Wrong(
      resources: [#"{"stream": "a", "host": "h"}"#],
      problems: [
        #"bindings[0].resource.host: unknown key "host"; it is a setting of the endpoint, for all queues"#
      ]),
    Wrong(
      resources: [#"{"stream": "a", "quue": {}}"#],
      problems: [#"bindings[0].resource.quue: unknown key "quue"; did you mean "queue"?"#]),
    Wrong(
      resources: [#"{"stream": "a"}"#, #"{"stream": "a", "queue": {"name": "other"}}"#],
      problems: [
        "bindings[1].resource.stream: is that of bindings[0].resource too: each queue needs a stream of its own"
      ]),
    Wrong(
      resources: [#"{"stream": "a"}"#, #"{"stream": "b"}"#],
      problems: [
        "bindings[1].resource.queue.name: is the queue of bindings[0].resource too, and each would get a part of its messages: capture it "
          + "once. Only a stream can be read twice; if it is one, set queue.type: stream"
      ]),
    Wrong(
      resources: [#"{"stream": "a", "queue": {"type": "quorum", "arguments": {"x-max-priority": 3}}}"#],
      problems: [
        "bindings[0].resource.queue.arguments.x-max-priority: a quorum queue does not take it"
      ]),
    Wrong(
      resources: [#"{"stream": "a", "consumer": {"priority": 4}}"#],
      problems: [
        "bindings[0].resource.consumer.priority: differs from consumer.arguments.x-priority, which is the same argument: give one of them"
      ], endpoint: #"{"queue": {"name": "q"}, "consumer": {"arguments": {"x-priority": 3}}}"#),
    Wrong(
      resources: [#"{"stream": "a"}"#, #"{"stream": "b", "queue": {"name": "c"}, "consumer": {"no_ack": true}}"#],
      problems: [
        "bindings[1].resource.consumer.no_ack: cannot be true beside other queues: the broker would send without a limit, and they would "
          + "wait behind it. Capture that queue by itself"
      ]),
    // Said of both once, since it is written once.
    Wrong(
      resources: [#"{"stream": "a"}"#, #"{"stream": "b", "queue": {"name": "c"}}"#],
      problems: [
        "consumer.prefetch_count: cannot be 0 beside other queues: the broker would send without a limit, and they would wait behind it. "
          + "Capture that queue by itself"
      ], endpoint: #"{"queue": {"name": "q"}, "consumer": {"prefetch_count": 0}}"#),
    Wrong(
      resources: [#"{"stream": "a"}"#],
      problems: [
        "queue.type: is of the queue that queue.name names, and none is named: say it with the resource of each queue",
        "message_ttl: is of the queue that queue.name names, and none is named: say it with the resource of each queue, as "
          + "queue.arguments.x-message-ttl",
        "bindings: is of the queue that queue.name names, and none is named: say it with the resource of each queue",
      ], endpoint: #"{"queue": {"type": "quorum"}, "message_ttl": 5, "bindings": [{"exchange": "e"}]}"#),
    // Everything at once.
    Wrong(
      resources: [
        #"{"stream": "x", "queue": {"name": "y", "typ": "quorum"}}"#,
        #"{"stream": "z", "queue": {"type": "quorum", "arguments": {"x-max-priority": 3}}}"#,
        #"{"stream": "z", "queue": {"name": "w"}, "consumer": {"no_ack": true}}"#,
      ],
      problems: [
        "tls.client_key: is required if tls.client_cert is given",
        #"bindings[0].resource.queue.typ: unknown key "typ"; did you mean "type"?"#,
        "bindings[1].resource.queue.arguments.x-max-priority: a quorum queue does not take it",
        "bindings[2].resource.stream: is that of bindings[1].resource too: each queue needs a stream of its own",
        "bindings[2].resource.consumer.no_ack: cannot be true beside other queues: the broker would send without a limit, and they would "
          + "wait behind it. Capture that queue by itself",
      ], endpoint: #"{"queue": {"name": "q"}, "tls": {"client_cert": "/c"}}"#),
    // Half of it is the endpoint's.
    Wrong(
      resources: [
        #"{"stream": "a"}"#, #"{"stream": "b", "queue": {"name": "c"}, "consumer": {"arguments": {"x-priority": 3}}}"#,
      ],
      problems: [
        "bindings[1].resource.consumer.priority: differs from consumer.arguments.x-priority, which is the same argument: give one of them"
      ], endpoint: #"{"queue": {"name": "q"}, "consumer": {"priority": 5}}"#),
    // A stream offset for all shows no stream.
    Wrong(
      resources: [
        #"{"stream": "a", "queue": {"name": "c", "type": "classic"}}"#, #"{"stream": "b", "queue": {"name": "c"}}"#,
      ],
      problems: [
        "bindings[1].resource.queue.name: is the queue of bindings[0].resource too, and each would get a part of its messages: capture it "
          + "once. Only a stream can be read twice; if it is one, set queue.type: stream"
      ], endpoint: #"{"consumer": {"stream_offset": "first"}}"#),
    Wrong(
      resources: [
        #"{"stream": "a", "queue": {"name": "c"}}"#, #"{"stream": "b", "queue": {"name": "c"}}"#,
      ],
      problems: [
        "bindings[1].resource.queue.name: is the queue of bindings[0].resource too, and each would get a part of its messages: capture it "
          + "once. Only a stream can be read twice; if it is one, set queue.type: stream"
      ], endpoint: #"{"consumer": {"stream_offset": "first"}}"#),
    Wrong(
      resources: [#"{"stream": "a", "message_ttl": 5, "vhost": "v", "Stream": "b"}"#],
      problems: [
        #"bindings[0].resource.message_ttl: unknown key "message_ttl"; did you mean "queue.arguments.x-message-ttl"?"#,
        #"bindings[0].resource.vhost: unknown key "vhost"; it is a setting of the endpoint, for all queues"#,
        #"bindings[0].resource.Stream: unknown key "Stream"; did you mean "stream"?"#,
      ]),
    Wrong(
      resources: [#"{"stream": "a\nb"}"#],
      problems: [
        "bindings[0].resource.stream: names the queue as well, since queue.name does not: contains a line break, which the broker leaves out "
          + "of names: write it in one line (YAML's | and > add one at the end)"
      ], endpoint: "{}"),
  ]

  @Test(arguments: wrong)
  func `every problem of every resource is told, with its place`(_ wrong: Wrong) throws {
    do throws(ConfigurationError) {
      let value: JSONValue
      let list: [CaptureConfiguration.Resource]
      do { (value, list) = (try JSONValue.parse(wrong.endpoint), try Self.given(wrong.resources)) } catch {
        Issue.record(error)
        return
      }
      _ = try CaptureConfiguration.parse(value, resources: .given(list))
      Issue.record("it is taken")
    } catch {
      #expect(error.lines == wrong.problems)
    }
  }

  /// What the endpoint says holds of no one then.
  @Test(arguments: [
    (
      #"{"queue": {"name": "s", "type": "stream"}, "consumer": {"no_ack": true}}"#,
      #"{"stream": "s", "consumer": {"no_ack": false}}"#
    ),
    (
      #"{"queue": {"name": "s", "type": "quorum"}, "max_priority": 5}"#,
      #"{"stream": "s", "queue": {"type": "classic"}}"#
    ),
    (
      #"{"queue": {"name": "s"}, "consumer": {"priority": 5, "arguments": {"x-priority": 3}}}"#,
      #"{"stream": "s", "consumer": {"arguments": {"x-priority": 5}}}"#
    ),
    (#"{"queue": {"arguments": {}}}"#, #"{"stream": "s"}"#),
  ])
  func `what a resource says otherwise is no problem of the endpoint's`(endpoint: String, resource: String) throws {
    #expect(try Self.parse(endpoint, resource).subscriptions.count == 1)
  }

  @Test func `names that look alike are names of two queues`() throws {
    let settings = try Self.parse(
      "{\"queue\": {\"name\": \"caf\u{e9}\", \"durable\": false}}", #"{"stream": "a"}"#,
      "{\"stream\": \"b\", \"queue\": {\"name\": \"cafe\u{301}\"}}")
    #expect(settings.subscriptions.map(\.configuration.queue.durable) == [false, true])
  }

  @Test func `what the endpoint says of a queue that nothing captures is warned about`() throws {
    let idle = try Self.parse(Self.endpoint, #"{"stream": "a", "queue": {"name": "b"}}"#)
    #expect(idle.warnings.contains { $0.hasPrefix(#"no resource captures "orders""#) })
    #expect(try !Self.parse(Self.endpoint, #"{"stream": "a"}"#).warnings.contains { $0.hasPrefix("no resource") })
    let plain = try Self.parse(#"{"queue": {"name": "q"}}"#, #"{"stream": "a", "queue": {"name": "b"}}"#)
    #expect(!plain.warnings.contains { $0.hasPrefix("no resource") })
  }

  @Test func `a form that writes the endpoint's defaults down names no queue by that`() throws {
    let defaults = #"{"queue": {"durable": true, "exclusive": false, "auto_delete": false, "declare": "active"}}"#
    #expect(try Self.parse(defaults, #"{"stream": "a"}"#).subscriptions[0].configuration.queue.name == "a")
  }

  // MARK: - Standalone

  private static func load(_ text: String) throws -> ConfigurationFile {
    try ConfigurationFile.load(
      text: text, name: "c.yaml", inputs: ConfigSupport.inputs(environment: ["Q": "c", "N": "7"]))
  }

  @Test func `a standalone configuration lists its resources`() throws {
    let file = try Self.load(
      """
      host: h
      consumer: { prefetch_count: 50 }
      resources:
        - stream: a
        - stream: b
          queue: { name: "${env:Q}" }
          consumer: { prefetch_count: "${env:N}" }
      """)
    #expect(file.settings.subscriptions.map(\.stream) == ["a", "b"])
    #expect(file.settings.subscriptions.map(\.configuration.queue.name) == ["a", "c"])
    #expect(file.settings.subscriptions.map(\.configuration.consumer.prefetchCount) == [50, 7])
    #expect(file.hidden == ["resources[1].queue.name", "resources[1].consumer.prefetch_count"])
  }

  @Test(arguments: [
    (
      "resources: []",
      "c.yaml:1:1: resources: must be a list with an entry for each queue, such as - stream: orders; leave it out to capture queue.name alone"
    ),
    (
      "resources: orders",
      "c.yaml:1:1: resources: must be a list with an entry for each queue, such as - stream: orders; leave it out to capture queue.name alone"
    ),
    ("resources:\n  - stream: a\n  - queue: {}", "c.yaml:3:5: resources[1].stream: is required"),
    ("resources:\n  - orders", "c.yaml:2:5: resources[0]: must be an object, not a string"),
    (
      "resources:\n  - stream: a\n    queue: { name: q, tpye: quorum }",
      #"c.yaml:3:23: resources[0].queue.tpye: unknown key "tpye"; did you mean "type"?"#
    ),
  ])
  func `a problem of a resource has its line`(text: String, problem: String) {
    #expect(ConfigSupport.problems(file: text) == [problem])
  }

  @Test func `resources within Flow are the bindings'`() throws {
    #expect(
      try Self.problems(#"{"resources": [{"stream": "a"}]}"#, #"{"stream": "b"}"#) == [
        #"resources: unknown key "resources"; each queue is a resource: that of a binding in Flow, an entry of resources for `source-amqp run`"#
      ])
  }

  @Test func `a catalog's bindings are its resources`() throws {
    let text = """
      captures:
        a/b:
          endpoint: {connector: {image: i, config: {host: h}}}
          bindings:
            - resource: {stream: a}
              target: x
            - resource: {stream: b}
              disable: true
              target: x
            - resource: r.yaml
              target: y
      """
    func load(_ resource: String) throws -> ConfigurationFile {
      try ConfigurationFile.load(
        text: text, name: "c.yaml", inputs: ConfigSupport.inputs(files: ["r.yaml": resource]))
    }
    let file = try load("stream: c\nqueue: {name: d}\n")
    #expect(file.settings.subscriptions.map(\.configuration.queue.name) == ["a", "d"])
    do {
      _ = try load("stream: c\nqueue:\n  nme: d\n")
      Issue.record("it is taken")
    } catch {
      #expect(
        (error as? ConfigurationError)?.lines == [
          #"r.yaml:3:3: captures.a/b.bindings[2].resource.queue.nme: unknown key "nme"; did you mean "name"?"#
        ])
    }
  }

  @Test func `without resources, null is what is not there`() throws {
    #expect(try Self.load("queue: {name: q}\nresources: null\n").settings.subscriptions.map(\.stream) == ["q"])
    #expect(ConfigSupport.problems(file: "resources:\n") == ["c.yaml: queue.name: is required"])
  }

  @Test func `references in a catalog's resource are its file's, and its stream stands as it is`() throws {
    let text = """
      captures:
        a/b:
          endpoint: {connector: {image: i, config: sub/c.yaml}}
          bindings:
            - resource: {stream: "p$${x}", queue: {name: "${file:name}"}, consumer: {prefetch_count: "${env:N}"}}
            - resource: other/r.yaml
      """
    let file = try ConfigurationFile.load(
      text: text, name: "c.yaml",
      inputs: ConfigSupport.inputs(
        environment: ["N": "9"],
        files: [
          "sub/c.yaml": "host: h", "name": "one", "other/r.yaml": "stream: r\nqueue: {name: \"${file:name}\"}",
          "other/name": "two",
        ]))
    #expect(file.settings.subscriptions.map(\.stream) == ["p$${x}", "r"])
    #expect(file.settings.subscriptions.map(\.configuration.queue.name) == ["one", "two"])
    #expect(file.settings.subscriptions.map(\.configuration.consumer.prefetchCount) == [9, 100])
    let printed = SettingsTable.effective(file)
    #expect(
      printed.hasSuffix(
        """
        resources:
          - stream: "p$$${x}"
            queue:
              name: "********"
            #bindings: []
            consumer:
              prefetch_count: "********"
          - stream: r
            queue:
              name: "********"

        """) || printed.contains("prefetch_count: \"********\""), Comment(rawValue: printed))
  }

  @Test func `an encrypted resource is refused`() {
    let text =
      #"captures: {a: {endpoint: {local: {config: {}}}, bindings: [{resource: {stream: s, queue: {name: "ENC[x]"}, sops: {v: 1}}}]}}"#
    #expect(
      ConfigSupport.problems(file: text) == ["c.yaml: is encrypted with sops: decrypt it first, or give it to Flow"])
  }

  @Test func `resources are no key of a catalog's configuration, with and without bindings`() {
    for bindings in ["", ", bindings: []", ", bindings: [{resource: {stream: s}}]"] {
      let text = "captures: {a: {endpoint: {local: {config: {queue: {name: q}, resources: [{stream: t}]}}}\(bindings)}}"
      #expect(ConfigSupport.problems(file: text).first?.contains(#"resources: unknown key "resources""#) == true)
    }
  }

  @Test func `what is in force is printed with its resources`() throws {
    let text = SettingsTable.effective(
      try Self.load(
        "resources:\n  - stream: a\n    queue: { type: quorum }\n    consumer: { prefetch_count: \"${env:N}\" }\n"))
    #expect(
      text.hasSuffix(
        """
        resources:
          - stream: a
            queue:
              type: quorum
            consumer:
              prefetch_count: "********"

        """), Comment(rawValue: text))
  }

  // MARK: - The table

  @Test func `each setting of a resource is one of the endpoint's, and has no default of its own`() throws {
    for row in SettingsTable.resourceRows where row.path != "stream" {
      let setting = try #require(SettingsTable.rows.first { $0.path == row.path }, "\(row.path)").setting
      #expect(setting.kind == row.setting.kind)
      if row.path.hasPrefix("bindings") { continue }
      if case .value = row.setting.presence { Issue.record("\(row.path) has a default, which a form would write") }
    }
    for group in ["queue", "bindings", "consumer"] {
      let own = SettingsTable.rows.filter { $0.path.hasPrefix("\(group).") || $0.path.hasPrefix("\(group)[]") }.map(
        \.path)
      #expect(Set(own).isSubset(of: Set(SettingsTable.resourceRows.map(\.path))))
    }
  }

  @Test(arguments: SettingsTable.resourceRows.filter { $0.path != "stream" && !$0.path.hasPrefix("bindings") })
  func `each setting of a resource takes effect`(_ row: SettingsTable.Row) throws {
    var resource: JSONObject = ["stream": "s"]
    let keys = row.path.split(separator: ".").map(String.init)
    resource[keys[0]] = .object(
      JSONObject(members: [
        .init(key: keys[1], value: ConfigSupport.other(try #require(SettingsTable.setting(at: row.path))))
      ]))
    let plain = try CaptureConfiguration.parse(
      ["queue": ["name": "q"]], resources: .given([.init(path: "r", value: ["stream": "s"])]))
    let given = try CaptureConfiguration.parse(
      ["queue": ["name": "q"]], resources: .given([.init(path: "r", value: .object(resource))]))
    #expect(given.subscriptions != plain.subscriptions)
    #expect(given.endpoint == plain.endpoint)
  }
}
