import Synchronization
import Testing

@testable import Agent

/// Configuration files: JSON, YAML, Flow catalog files, references to secrets.
struct ConfigFileTests {
  private func load(
    _ text: String, name: String = "c.yaml", capture: String? = nil,
    inputs: ConfigurationInputs = ConfigSupport.inputs()
  ) throws(ConfigurationError) -> ConfigurationFile {
    try ConfigurationFile.load(text: text, name: name, capture: capture, inputs: inputs)
  }

  // MARK: Texts

  @Test(
    arguments: [
      ("true", .bool(true)), ("False", .bool(false)), ("null", .null), ("~", .null), ("", .null), ("5", .number("5")),
      ("-0.50", .number("-0.50")), ("1e3", .number("1e3")), ("12345678901234567890", .number("12345678901234567890")),
      ("'5'", .string("5")), (#""5""#, .string("5")), ("\n  |\n  a\n  b\n", .string("a\nb\n")),
      ("!!str 5", .string("5")),
      ("!!int 5", .number("5")), ("! 5", .string("5")), ("yes", .string("yes")), ("off", .string("off")),
      ("007", .string("007")), ("0x10", .string("0x10")), ("+5", .string("+5")), ("1_000", .string("1_000")),
      (".5", .string(".5")), ("5.", .string("5.")), (".inf", .string(".inf")), ("1:30", .string("1:30")),
      ("2001-01-01", .string("2001-01-01")), ("'true'", .string("true")), ("\"a\\u0000\"", .string("a\0")),
      ("1e", .string("1e")), ("[1, [a]]", [.number("1"), ["a"]]), ("{a: {b: }}", ["a": ["b": .null]]),
    ] as [(String, JSONValue)])
  func `YAML scalars become what YAML's JSON schema says`(text: String, value: JSONValue) throws {
    #expect(try SourceText.read("a: \(text)", file: "c").value == ["a": value])
  }

  @Test func `JSON is read as JSON under any name`() throws {
    let text = #" {"a": "\ud83d\ude00", "b": 1.50}"#
    for name in ["c.yaml", "c.json", "c"] {
      #expect(try SourceText.read(text, file: name).value == ["a": "😀", "b": .number("1.50")])
    }
    #expect(try SourceText.read("\u{FEFF}{\"a\":1}", file: "c.json").value == ["a": .number("1")])
  }

  @Test func `flow style YAML is no JSON and fine`() throws {
    #expect(try SourceText.read("{a: b, c: [1]}", file: "c").value == ["a": "b", "c": [.number("1")]])
  }

  @Test func `aliases are copies`() throws {
    let text = "base: &b {x-match: all}\nother: *b\n"
    #expect(try SourceText.read(text, file: "c").value["other"] == ["x-match": "all"])
  }

  @Test func `aliases of aliases do not grow without bound`() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1...30 {
      let alias = "*a\(level - 1)"
      text += "a\(level): &a\(level) [" + Array(repeating: alias, count: 10).joined(separator: ", ") + "]\n"
    }
    #expect(ConfigSupport.problems(file: text) == ["c.yaml: has more than 100000 values; mind its aliases"])
  }

  @Test(
    arguments: [
      ("", "c.yaml: is empty"),
      ("# nothing\n", "c.yaml: is empty"),
      ("host: a\nport: 1\nhost: b\n", #"c.yaml:1:1: key given twice: "host""#),
      ("5: 1\n!!int 5: 2\n", #"c.yaml:2:1: key given twice: "5""#),
      ("x: &x {a: 1}\ny:\n  <<: *x\n", "c.yaml:3:3: has a merge key (<<), which is not supported"),
      ("? [a]\n: b\n", "c.yaml:1:3: has a key that is no string"),
      ("a: !custom 5\n", "c.yaml:1:4: has a tag that is not supported"),
      (
        "a: *b\n",
        "c.yaml:1:4: not valid YAML: found undefined alias; a value that begins with * has a meaning of its own in YAML: put it in quotes"
      ),
      (
        "bindings:\n  - exchange: e\n    routing_key: *.new\n",
        "c.yaml:3:19: not valid YAML: while scanning an alias, did not find expected alphabetic or numeric character; a value that "
          + "begins with * has a meaning of its own in YAML: put it in quotes"
      ),
      (
        "bindings:\n  - exchange: e\n    routing_key: #\n",
        "c.yaml:3:5: the value begins with #, which begins a comment in YAML: put it in quotes"
      ),
      (
        "queue:\n\tname: q\n",
        "c.yaml:2:1: not valid YAML: while scanning for the next token, found character that cannot start any token; the line begins "
          + "with a tab: YAML is indented with blanks"
      ),
      (
        "import: [a.yaml, b.yaml]\n",
        #"c.yaml: is a Flow catalog file without a capture of its own: it imports "a.yaml", "b.yaml"; give the one that has the capture"#
      ),
      ("collections: {}\n", "c.yaml: is a Flow catalog file without a capture of its own"),
      ("host: a\n  port: 1\n", "c.yaml:2:7: not valid YAML: mapping values are not allowed in this context"),
      (
        "a: 1\n---\nb: 2\n",
        "c.yaml:2:1: not valid YAML: expected a single document in the stream, "
          + "but found another document"
      ),
      ("just text", "c.yaml: must be an object, not a string"),
    ])
  func `a file that says nothing useful is refused with its place`(text: String, problem: String) {
    #expect(ConfigSupport.problems(file: text) == [problem])
  }

  @Test func `a deeply nested file is refused, not crashed on`() {
    for depth in [101, 900, 20_000] {
      let text = "a: " + String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
      #expect(ConfigSupport.problems(file: text).count == 1)
    }
  }

  @Test func `a syntax error in JSON is placed by line and column`() {
    let problems = ConfigSupport.problems(file: "{\n  \"host\": ,\n}", name: "c.json")
    #expect(problems.count == 1)
    #expect(problems[0].hasPrefix("c.json:2:11: not valid JSON: "))
  }

  // MARK: Endpoint configurations

  @Test func `an endpoint configuration is loaded, and its stream is the queue`() throws {
    let file = try load("host: mq\nqueue:\n  name: orders\n")
    #expect(file.configuration.host == "mq")
    #expect(file.stream == "orders")
    #expect(file.capture == nil)
  }

  @Test func `problems carry the places of their settings, or of the closest group`() {
    let text = """
      port: 0
      tls:
        enabled: yes
        client_cert: /c
      queue:
        nmae: q
      bindings:
        - exchange: e
        - routing_key: k
      """
    #expect(
      ConfigSupport.problems(file: text) == [
        "c.yaml:1:1: port: 0 is out of range: give a whole number from 1 to 65535",
        "c.yaml:2:1: tls.client_key: is required if tls.client_cert is given",
        #"c.yaml:3:3: tls.enabled: must be true or false, not the string "yes"; write true"#,
        "c.yaml:5:1: queue.name: is required",
        #"c.yaml:6:3: queue.nmae: unknown key "nmae"; did you mean "name"?"#,
        "c.yaml:9:5: bindings[1].exchange: is required",
      ])
  }

  @Test func `a configuration that sops encrypted is refused, a decrypted one is fine`() {
    #expect(
      ConfigSupport.problems(file: "password: ENC[AES256_GCM,data:x]\nqueue: {name: q}\nsops: {version: 3.7.3}\n")
        == ["c.yaml: is encrypted with sops: decrypt it first, or give it to Flow"])
    #expect(ConfigSupport.problems(file: "queue: {name: q}\nsops: {version: 3.7.3}\n") == [])
  }

  // MARK: Secrets

  private static let outside = ConfigSupport.inputs(
    environment: ["PW": "s3cret", "EMPTY": "", "PORT": "5673", "TLS": "true", "REF": "${env:PW}", "BAD": "no number"],
    files: ["conf/pw": "from file\n", "conf/crlf": "crlf\r\n", "conf/two": "two\n\n", "/abs": "absolute", "conf/e": ""])

  @Test(
    arguments: [
      ("${env:PW}", "s3cret"), ("x-${env:PW}-y", "x-s3cret-y"), ("${env:PW}${file:pw}", "s3cretfrom file"),
      ("${file:pw}", "from file"), ("${file:crlf}", "crlf"), ("${file:two}", "two\n"), ("${file:/abs}", "absolute"),
      ("${file:e}", ""), ("${env:EMPTY}", ""), ("${env:REF}", "${env:PW}"), ("$${env:PW}", "${env:PW}"),
      ("a$${file:x}b", "a${file:x}b"), ("$$${env:PW}", "$${env:PW}"), ("$PW", "$PW"), ("$${PW}", "${PW}"),
      ("${-}", "${-}"), ("$", "$"),
      ("a$$b", "a$$b"), ("${env:PW}$", "s3cret$"), ("${env:PORT}", "5673"),
    ])
  func `references stand for variables and files`(text: String, password: String) throws {
    let yaml = "queue: {name: q}\npassword: '\(text)'\n"
    #expect(try load(yaml, name: "conf/c.yaml", inputs: Self.outside).configuration.password.value == password)
  }

  @Test(arguments: ["${PW}", "${PW:-none}", "${ENV:PW}"])
  func `a variable as shells write it is refused, with how to write it`(text: String) {
    let problems = ConfigSupport.problems(file: "password: \(text)\nqueue: {name: q}\n")
    #expect(
      problems.count == 1
        && problems[0].hasPrefix("c.yaml:1:1: password: has ${PW}, which means nothing here: write ${env:PW}"))
  }

  @Test func `of a literal that looks like a variable in the middle of a secret nothing is shown`() {
    let problems = ConfigSupport.problems(file: "password: ab$c${de}f\nqueue: {name: q}\n")
    #expect(problems.count == 1 && problems[0].contains("password: has a ${…}") && !problems[0].contains("de}"))
  }

  @Test func `references are expanded in every setting, and numbers and booleans read`() throws {
    let text = """
      port: ${env:PORT}
      tls: {enabled: "${env:TLS}"}
      queue:
        name: q-${env:PORT}
        arguments: {x-a: ["${env:PORT}"]}
      bindings: [{exchange: "${env:PW}"}]
      """
    let configuration = try load(text, inputs: Self.outside).configuration
    #expect(configuration.port == 5673)
    #expect(configuration.tls.enabled)
    #expect(configuration.queue.name == "q-5673")
    #expect(configuration.queue.arguments["x-a"] == [.string("5673")])
    #expect(configuration.bindings[0].exchange == "s3cret")
  }

  @Test(
    arguments: [
      ("password: ${env:NONE}", #"conf/c.yaml:2:1: password: environment variable "NONE" is not set"#),
      (
        "password: ${file:none}",
        #"conf/c.yaml:2:1: password: cannot read file "conf/none": No such file or directory"#
      ),
      ("password: '${env:PW'", "conf/c.yaml:2:1: password: has a reference without its closing brace"),
      ("password: '${env:}'", "conf/c.yaml:2:1: password: has a reference ${env:…} without a proper name"),
      ("port: ${env:BAD}", "conf/c.yaml:2:1: port: must be a whole number from 1 to 65535, not a string"),
      (
        "heartbeat: ${env:PW}",
        "conf/c.yaml:2:1: heartbeat: must be a whole number from 0 to 65535, or `5s`, `1m`, not a string"
      ),
      (
        "auth_type: ${env:PW}",
        #"conf/c.yaml:2:1: auth_type: the value is not one of "plain", "amqplain", "external""#
      ),
    ])
  func `a reference that cannot be followed is named, without any content`(line: String, problem: String) {
    let text = "queue: {name: q}\n\(line)\n"
    #expect(ConfigSupport.problems(file: text, name: "conf/c.yaml", inputs: Self.outside) == [problem])
  }

  @Test func `within Flow a reference is nothing special`() throws {
    let configuration = try ConfigSupport.parse(#"{"queue":{"name":"q"},"password":"${env:HOME}"}"#)
    #expect(configuration.password.value == "${env:HOME}")
  }

  // MARK: Catalog files

  private static let catalog = """
    collections:
      acmeCo/orders: {schema: orders.yaml, key: [/session_id, /sequence]}
    captures:
      acmeCo/source-amqp:
        endpoint:
          connector:
            image: source-amqp:dev
            config:
              host: mq
              queue: {name: q}
        bindings:
          - resource: {stream: orders}
            target: acmeCo/orders
    """

  @Test func `the single capture of a catalog file is used`() throws {
    let file = try load(Self.catalog)
    #expect(file.configuration.host == "mq")
    #expect(file.stream == "orders")
    #expect(file.capture == "acmeCo/source-amqp")
  }

  @Test func `problems within a catalog file carry the setting's path and the file's lines`() {
    let text = Self.catalog.replacing("host: mq", with: "hots: mq")
    #expect(
      ConfigSupport.problems(file: text) == [#"c.yaml:9:11: hots: unknown key "hots"; did you mean "host"?"#])
  }

  @Test func `configuration and resource may be other files, relative to the catalog file`() throws {
    let text = """
      captures:
        a/b:
          endpoint: {local: {command: [./source-amqp], config: sub/config.json}}
          bindings: [{resource: r.yaml, target: t}]
      """
    let inputs = ConfigSupport.inputs(files: [
      "dir/sub/config.json": #"{"queue":{"name":"q"},"password":"${file:pw}"}"#, "dir/sub/pw": "p\n",
      "dir/r.yaml": "stream: s\n",
    ])
    let file = try load(text, name: "dir/flow.yaml", inputs: inputs)
    #expect(file.configuration.password.value == "p")
    #expect(file.stream == "s")
    let broken = ConfigSupport.inputs(files: ["dir/sub/config.json": #"{"port":0}"#, "dir/r.yaml": "stream: s\n"])
    #expect(
      ConfigSupport.problems(file: text, name: "dir/flow.yaml", inputs: broken)
        == ["dir/sub/config.json: port: 0 is out of range: give a whole number from 1 to 65535"])
  }

  @Test func `one of several captures is chosen by name`() throws {
    let text = """
      captures:
        a/one: {endpoint: {local: {command: [x], config: {queue: {name: q1}}}}, bindings: []}
        a/two: {endpoint: {local: {command: [x], config: {queue: {name: q2}}}}, bindings: []}
      """
    #expect(try load(text, capture: "a/two").configuration.queue.name == "q2")
    #expect(try load(text, capture: "a/two").stream == "q2")
    #expect(
      ConfigSupport.problems(file: text)
        == [#"c.yaml:2:3: captures: has several captures; choose one with --capture: "a/one", "a/two""#])
    #expect(
      ConfigSupport.problems(file: text, capture: "a/three")
        == [#"c.yaml:2:3: captures: has no capture "a/three", but: "a/one", "a/two""#])
    #expect(
      ConfigSupport.problems(file: "queue: {name: q}", capture: "a/one")
        == ["c.yaml: has no captures to choose from: it is an endpoint configuration"])
  }

  @Test(
    arguments: [
      ("captures: {}", "captures: has no capture"),
      ("captures: []", "captures: must be an object"),
      ("captures: {a: {}}", "captures.a.endpoint: is required"),
      ("captures: {a: 5}", "captures.a.endpoint: is required"),
      ("captures: {a: {endpoint: {}}}", "captures.a.endpoint: must have either connector or local"),
      (
        "captures: {a: {endpoint: {connector: {}, local: {}}}}",
        "captures.a.endpoint: must have either connector or local"
      ),
      ("captures: {a: {endpoint: {local: {}}}}", "captures.a.endpoint.local.config: is required"),
      (
        "captures: {a: {endpoint: {local: {config: c.json}}}}",
        #"captures.a.endpoint.local.config: cannot read file "c.json": No such file or directory"#
      ),
      (
        "captures: {a: {endpoint: {local: {config: {}}}, bindings: {}}}", "captures.a.bindings: must be an array"
      ),
      (
        "captures: {a: {endpoint: {local: {config: {}}}, bindings: [{}]}}",
        "captures.a.bindings[0].resource: is required"
      ),
      (
        "captures: {a: {endpoint: {local: {config: {}}}, bindings: [{resource: {stream: 5}}]}}",
        "captures.a.bindings[0].resource.stream: must be a string, not the number 5; put it in quotes"
      ),
      ("captures: {a: {endpoint: {local: {config: {}}}}}", "queue.name: is required"),
      ("captures: {a: {endpoint: {local: {config: []}}}}", "must be an object, not an array"),
    ])
  func `a catalog file without a usable capture says what is missing`(text: String, end: String) {
    let problems = ConfigSupport.problems(file: text)
    #expect(problems.count == 1)
    #expect(problems.first?.hasSuffix(" \(end)") == true, "\(problems)")
  }

  @Test func `disabled bindings do not count`() throws {
    let text = """
      captures:
        a:
          endpoint: {local: {config: {queue: {name: q}}}}
          bindings: [{disable: true, resource: {stream: s}}, {resource: {stream: t}}]
      """
    #expect(try load(text).stream == "t")
  }

  // MARK: Damage

  @Test(arguments: 0..<300 as Range<UInt64>)
  func `a damaged file is a value or an error, never a trap`(seed: UInt64) {
    // Knuth's MMIX generator; the high bits are good enough to pick places.
    var state = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    func next(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(limit))
    }
    let alphabet = Array("{}[]:,-?&*!|>'\"%@`#\n\t \u{0}\u{85}\u{FEFF}é~<$\\.0eE".unicodeScalars)
    for _ in 0..<40 {
      var scalars = Array((Self.catalog + "\nx: &a [*a, 'b', \"c\", !!str d, ${env:PW}]\n").unicodeScalars)
      for _ in 0...next(6) {
        let place = next(scalars.count)
        switch next(3) {
        case 0: scalars.remove(at: place)
        case 1: scalars.insert(alphabet[next(alphabet.count)], at: place)
        default: scalars[place] = alphabet[next(alphabet.count)]
        }
      }
      var text = ""
      text.unicodeScalars.append(contentsOf: scalars)
      let problems = ConfigSupport.problems(file: text, name: next(2) == 0 ? "c.yaml" : "c.json", inputs: Self.outside)
      #expect(!problems.joined().contains("s3cret"))
    }
  }

  // MARK: The real process

  @Test func `a file that is not there, or no file, is named with the reason`() {
    #expect(throws: ConfigurationError(file: "/nonexistent/c", "cannot be read: No such file or directory")) {
      try ConfigurationFile.read(path: "/nonexistent/c")
    }
    #expect(throws: ConfigurationError(file: "/", "cannot be read: Is a directory")) {
      try ConfigurationFile.read(path: "/")
    }
    #expect(throws: ConfigurationError(file: "/dev/zero", "cannot be read: larger than 4194304 bytes")) {
      try ConfigurationFile.read(path: "/dev/zero")
    }
  }

  @Test func `the process's environment is read`() {
    #expect(ConfigurationInputs.process.environment("PATH")?.isEmpty == false)
    #expect(ConfigurationInputs.process.environment("SOURCE_AMQP_NO_SUCH_VARIABLE") == nil)
  }
}

/// What a connection is made with is read again, and nothing else.
struct LoginsTests {
  @Test func `files are read again for each connection, and only they`() throws {
    let files = Mutex(["/p": "one\n", "/cert": "-----BEGIN CERTIFICATE-----\n1", "/q": "q1"])
    let variables = Mutex(["USER": "u1"])
    var inputs = ConfigurationInputs(
      environment: { name in variables.withLock { $0[name] } },
      contents: { path in
        files.withLock { $0[path] }.map { .success($0) } ?? .failure(.init(reason: "No such file or directory"))
      })
    inputs.isFile = { _ in true }
    let file = try ConfigurationFile.load(
      text: """
        username: ${env:USER}
        password: ${file:/p}
        tls: {enabled: true, ca_cert: "${file:/cert}"}
        queue: {name: "${file:/q}"}
        """, name: "c.yaml", inputs: inputs)
    #expect(file.logins.mayChange)
    #expect(file.logins.newest.password.value == "one")
    // What is no login's is as it was, even if its file has gone.
    files.withLock { $0 = ["/p": "two", "/cert": "-----BEGIN CERTIFICATE-----\n2"] }
    #expect(file.logins.newest.password.value == "one")
    let login = try file.logins.read()
    #expect(login.password.value == "two" && login.username == "u1")
    #expect(login.tls.caCertificate == .text(Secret("-----BEGIN CERTIFICATE-----\n2")))
    #expect(file.logins.newest == login && file.configuration.queue.name == "q1")
    files.withLock { $0["/p"] = "\n" }
    #expect(throws: ConfigurationError.self, "as it is while it is being written") { try file.logins.read() }
    files.withLock { $0["/p"] = nil }
    #expect {
      try file.logins.read()
    } throws: { error in
      "\(error)".contains("password: cannot read file \"/p\": No such file or directory")
    }
    #expect(file.logins.newest == login)
  }

  @Test(arguments: ["password: secret", "password: ${env:HOME}", "queue_name: x"])
  func `without a file in it nothing changes`(line: String) throws {
    let text = "queue: {name: q}\n" + (line.hasPrefix("queue_name") ? "bindings: [{exchange: \"${file:/e}\"}]" : line)
    let inputs = ConfigurationInputs(environment: { _ in "x" }, contents: { _ in .success("e") })
    #expect(try !ConfigurationFile.load(text: text, name: "c.yaml", inputs: inputs).logins.mayChange)
  }
}
