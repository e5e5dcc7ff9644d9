import AMQP
import Testing

@testable import Agent

/// What a broker's refusal becomes for people, from RabbitMQ's own texts.
struct CaptureTopologyTests {
  private static func refusal(_ argument: String, _ values: String) -> String {
    "PRECONDITION_FAILED - inequivalent arg '\(argument)' for queue 'it''s' in vhost '/': received \(values)"
  }

  @Test(arguments: [
    ("durable", "'false' but current is 'true'", "false", "true", "queue.durable"),
    ("exclusive", "'true' but current is 'false'", "true", "false", "queue.exclusive"),
    ("auto_delete", "'true' but current is 'false'", "true", "false", "queue.auto_delete"),
    (
      "x-message-ttl", "the value '60000' of type 'signedint' but current is the value '1000' of type 'signedint'",
      "60000", "1000", "message_ttl"
    ),
    (
      "x-max-priority", "none but current is the value '9' of type 'signedint'", "none", "9", "max_priority"
    ),
    (
      "x-dead-letter-exchange", "the value 'dlx' of type 'longstr' but current is none", "dlx", "none",
      "queue.arguments.x-dead-letter-exchange"
    ),
    ("x-queue-type", "'quorum' but current is 'classic'", "quorum", "classic", "queue.type"),
  ])
  func `a mismatch names argument, both values and the setting`(
    argument: String, values: String, wanted: String, found: String, setting: String
  ) throws {
    let text = Self.refusal(argument, values)
    let mismatch = try #require(Topology.mismatch(text))
    #expect(mismatch == Topology.Mismatch(argument: argument, wanted: wanted, found: found))
    #expect(mismatch.setting == setting)
    #expect(
      mismatch.advice
        == "The queue exists with another \(argument): \(found) there, \(wanted) wanted. Change \(setting), delete the "
        + "queue, or set queue.declare: passive to use it as it is")
  }

  @Test(arguments: [
    "", "inequivalent arg '", "inequivalent arg 'x", "received 'a' but current is 'b'",
    "PRECONDITION_FAILED - unknown delivery tag 3",
  ])
  func `other texts are no mismatch`(text: String) {
    #expect(Topology.mismatch(text) == nil)
  }

  @Test(arguments: [
    "inequivalent arg 'x'", "inequivalent arg 'x': received", "inequivalent arg 'x': received 'a' but current i",
    "inequivalent arg 'x' for queue 'q': received 'a' but current is 'b...",
  ])
  func `a text that is cut off still names the argument`(text: String) throws {
    let mismatch = try #require(Topology.mismatch(text))
    #expect(mismatch == Topology.Mismatch(argument: "x"))
    #expect(
      mismatch.advice
        == "The queue exists with another x. Change queue.arguments.x, delete the queue, or set queue.declare: passive "
        + "to use it as it is")
  }

  @Test(
    arguments: [
      (.connectionClosed(code: 403, text: "x"), "Check username, password and auth_type"),
      (.connectionClosed(code: 530, text: "x"), "Check virtual_host, and that the user may use it"),
      (.connectionClosed(code: 320, text: "x"), nil),
      (.mechanismNotOffered(wanted: "a", offered: "b"), "Change auth_type, or the broker's auth_mechanisms"),
      (
        .channelClosed(code: 404, text: "NOT_FOUND - no exchange 'e' in vhost '/'"),
        "The connector never declares an exchange: create it, or correct bindings[].exchange"
      ),
      (
        .channelClosed(code: 404, text: "NOT_FOUND - no queue 'q' in vhost '/'"),
        "Create the queue, correct queue.name, or set queue.declare: active"
      ),
      (.channelClosed(code: 405, text: "RESOURCE_LOCKED"), "Another connection holds the queue exclusively"),
      (
        .channelClosed(code: 403, text: "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"),
        "Another consumer has exclusive access to the queue"
      ),
      (.channelClosed(code: 406, text: "PRECONDITION_FAILED - something else"), nil),
      (.notConnected(text: "x"), "Check host and port, and that the broker listens there"),
      (.nameNotResolved(text: "x"), "Check host"), (.timedOut, nil),
    ] as [(AMQPError.Kind, String?)])
  func `advice follows the error`(kind: AMQPError.Kind, advice: String?) throws {
    let topology = Topology(try ConfigSupport.parse(#"{"queue":{"name":"orders"}}"#), name: "test")
    let error = AMQPError(kind, during: "testing")
    #expect(topology.explained(error).description == error.description + (advice.map { ". \($0)" } ?? ""))
  }

  @Test func `the nodes are host and hosts, each once, with the port of both where they have none`() throws {
    let text =
      #"{"host":"[2001:db8::1]","port":5673,"hosts":["mq2","mq3:5674","[::1]:1","mq2:5673","10.0.0.1"],"queue":{"name":"q"}}"#
    let topology = Topology(try ConfigSupport.parse(text), name: "test")
    #expect(
      topology.nodes.map(\.text) == ["[2001:db8::1]:5673", "mq2:5673", "mq3:5674", "[::1]:1", "10.0.0.1:5673"])
    let refused = AMQPError(
      .everyNode([
        AMQPError(.notConnected(text: "x"), during: "connecting to mq2:5673"),
        AMQPError(.nameNotResolved(text: "y"), during: "resolving mq3"),
      ]), during: "connecting to any of mq2:5673, mq3:5674")
    #expect(
      topology.explained(refused).description
        == "connecting to any of mq2:5673, mq3:5674: connecting to mq2:5673: no connection: x; resolving mq3: the host "
        + "name could not be resolved: y. Check host, hosts and port, and that the broker listens there. Check host and "
        + "hosts")
  }

  @Test(arguments: [("mq.example", "guest", true), ("127.0.0.1", "guest", false), ("mq.example", "shop", false)])
  func `guest on another machine gets a hint`(host: String, user: String, hints: Bool) throws {
    let text = #"{"host":"\#(host)","username":"\#(user)","queue":{"name":"q"}}"#
    let topology = Topology(try ConfigSupport.parse(text), name: "test")
    let error = AMQPError(.connectionClosed(code: 403, text: "ACCESS_REFUSED - Login was refused"), during: "x")
    #expect(topology.explained(error).description.contains("the user guest in from its own machine only") == hints)
  }

  @Test func `a virtual host as an address has it gets a hint`() throws {
    let configuration = try ConfigSupport.parse(#"{"virtual_host":"%2f","queue":{"name":"q"}}"#)
    #expect(
      configuration.warnings == [
        "virtual_host is taken literally: %2F stands for / only in an amqp:// address. Set virtual_host: / for the default "
          + "virtual host."
      ])
    let error = AMQPError(.connectionClosed(code: 530, text: "x"), during: "testing")
    #expect(Topology(configuration, name: "t").explained(error).description.contains(". Set virtual_host: / for the"))
  }

  @Test func `of several nodes, one that may come good is worth trying again, and a refused login is not`() {
    func failure(_ kinds: AMQPError.Kind...) -> CaptureFailure {
      CaptureFailure(AMQPError(.everyNode(kinds.map { AMQPError($0, during: "t") }), during: "t"))
    }
    let tls = AMQPError.Kind.tls(text: "x")
    let gone = AMQPError.Kind.notConnected(text: "x")
    #expect(!failure(tls, gone).needsUser)
    #expect(failure(tls, gone).cause == "not_connected")
    #expect(failure(tls, tls).needsUser)
    #expect(failure(gone, .connectionClosed(code: 403, text: "x")).needsUser)
    #expect(failure(gone, .connectionClosed(code: 403, text: "x")).cause == "connection_closed_403")
  }

  @Test func `what is declared is said in a sentence`() throws {
    let text =
      #"{"queue":{"name":"q","auto_delete":true},"bindings":[{"exchange":"a"},{"exchange":"b","routing_key":"k"}]}"#
    #expect(
      Topology(try ConfigSupport.parse(text), name: "t").actionDescription
        == #"Declared queue "q" (durable, auto-delete), bound it to exchange "a" with routing key "#
        + ##""#", bound it to exchange "b" with routing key "k"."##)
    let passive = try ConfigSupport.parse(#"{"queue":{"name":"q","declare":"passive"}}"#)
    #expect(Topology(passive, name: "t").actionDescription == "")
  }
}
